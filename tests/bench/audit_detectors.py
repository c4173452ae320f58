"""`python -m tests.bench.audit_detectors`: recall and false alarms of the detectors on planted defects."""

import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from infra.demo import write_digits
from steps.artifacts.dataset import Manifest
from steps.core.audit.audit import ReadableSamples, audit, check_ignored_files, is_shortcut
from steps.core.audit.label_suspects import label_suspects
from steps.core.audit.limits import Limits
from steps.core.audit.shortcuts import shortcut_test
from steps.core.audit.suites import load_suites, run_suites
from steps.core.backbones.settings import BackboneConfig
from steps.core.data.files import Folder, map_in_threads
from steps.core.features.embedding import embed, pretrained_encoder
from steps.core.modalities.image.checks import file_features
from steps.core.modalities.image.pixels import decode, open_image
from steps.core.modalities.image.scan import borders_of, inspect_file, scan_files
from steps.core.modalities.settings import ModalitySettings
from steps.ingest_data import IngestData, Splits, ingest_data
from steps.runtime.phase import all_configs
from steps.runtime.scratch import scratch

from . import planted_defects
from .copies import alike_figures, planted_copies, variant_rows
from .memory import peak_megabytes
from .names import name_rows
from .radiographs import radiograph
from .rows import Row as Figure
from .rows import measured, publish

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "expectations.json"
OUT = Path("artifacts/bench/audit_detectors.json").absolute()
LITE = BackboneConfig(name="tf_efficientnet_lite0", weights="packaged")
SPLITS = Splits(train=0.6, val=0.2, test=0.2)
Paths = Iterable[str]


@dataclass(frozen=True)
class Row:
    """How one detector did: what was planted, and what was accused."""

    detector: str
    planted: int
    found: int
    false_alarms: int
    recall: float
    false_alarm_rate: float


def scored(detector: str, planted: Paths, accused: Paths, innocent: int) -> Row:
    """Compare; the rate of false alarms is of all that was not planted."""
    wanted, named = set(planted), set(accused)
    hit, wrong = len(wanted & named), len(named - wanted)
    return Row(detector, len(wanted), hit, wrong, hit / max(1, len(wanted)), wrong / max(1, innocent))


def limits(**changes: Any) -> Limits:
    """Return the limits of params.yaml, with changes."""
    known = all_configs(ROOT / "params.yaml")["validate_data"].model_dump()
    kept = {name: value for name, value in known.items() if name in Limits.model_fields}
    return Limits(**{**kept, **changes})


def modality_settings() -> ModalitySettings:
    """Return how samples are looked at, by params.yaml."""
    return all_configs(ROOT / "params.yaml")["validate_data"].modality


def ingest(folder: Path) -> Manifest:
    """Read a folder as the first phase does."""
    return ingest_data(
        IngestData(
            path=str(folder),
            columns=None,
            max_unknown_formats=0.05,
            corrections=str(ROOT / "corrections.csv"),
            splits=SPLITS,
            modality=modality_settings(),
            seed=0,
        )
    )


def scan_and_embed(manifest: Manifest, backbone: BackboneConfig) -> tuple[pd.DataFrame, ReadableSamples]:
    """Decode and embed what can be read."""
    folder = Folder(manifest.root, scratch())
    seen = scan_files(folder, manifest.table, len(manifest.table))
    whole = seen.facts["error"].isna().to_numpy()
    table = manifest.table[whole].reset_index(drop=True)
    settings = modality_settings()
    encoder = pretrained_encoder("image", backbone, settings, table, scratch())
    z = embed(folder, table, encoder, scratch())
    return table, ReadableSamples(encoder.modality, settings.image, seen.select(whole.nonzero()[0]), z)


def oddities(work: Path, count: int, backbone: BackboneConfig) -> list[Row]:
    """Plant what is wrong with single files and names."""
    folder = work / "torture"
    shown = planted_defects.pictures(count)
    extra = [image for _, image in planted_defects.pictures(30, first=count)]
    clean = planted_defects.plant_clean(folder, shown)
    broken = planted_defects.plant_broken(folder, extra[:2])
    planted = planted_defects.plant_oddities(folder, extra[2:12])
    planted |= planted_defects.plant_names(folder, extra[12:])
    checks = limits(permutations=19)
    manifest = ingest(folder)
    table, examined = scan_and_embed(manifest, backbone)
    sides = examined.settings.model_copy(update={"min_side": 8, "max_side": 2000})
    findings = [
        *check_ignored_files(manifest.overlooked),
        *run_suites(manifest.table, load_suites(SUITE, checks, sides, "image", SPLITS.model_dump()), "image"),
        *audit(table, examined, checks, 0).findings,
    ]
    named = {finding["check"]: finding["files"] for finding in findings}
    unread = sorted(set(manifest.table["path"]) - set(table["path"]))
    broken.append("train/disc/link.jpg")
    rows = [scored("cannot be read", broken, unread, len(clean))]
    return [*rows, *(scored(check, paths, named[check], len(clean)) for check, paths in planted.items())]


def copy_rows(work: Path) -> list[Row]:
    """Plant copies among photographs and among pictures that are all alike; then what is harder to see."""
    checks, photographs = limits(), planted_defects.pictures(240, first=500)
    radiographs = [(f"view{number % 2}", radiograph(number)) for number in range(240)]
    rows = []
    for says, shown, kinds in (
        ("photographs", photographs, planted_defects.NEAR),
        ("all alike", radiographs, planted_defects.NEAR),
        ("photographs", photographs, planted_defects.HARDER),
        ("all alike", radiographs, planted_defects.HARDER),
    ):
        for found in planted_copies(work / f"{says} {len(rows)}", shown, kinds, checks):
            rate = found.planted and found.found / found.planted
            wrong = found.wrong / len(shown)
            row = Row(f"{found.kind}, {says}", found.planted, found.found, found.wrong, rate, wrong)
            rows.append(row)
    for found in variant_rows(work, checks):
        rows.append(Row(found.kind, found.planted, found.found, 0, found.found / found.planted, 0.0))
    return rows


def borders(work: Path, count: int, seeds: int) -> list[Row]:
    """Draw a faint frame around one class's pictures, or save them otherwise; or do nothing."""
    folder = work / "borders"
    planted_defects.plant_clean(folder, planted_defects.pictures(count, first=2000))
    manifest = ingest(folder)
    opened = Folder(manifest.root, scratch())
    seen = scan_files(opened, manifest.table, len(manifest.table))
    images = np.stack([inspect_file(opened, path, None)[1] for path in manifest.table["path"]])
    checks = limits(permutations=99)
    facts = file_features(manifest.table, seen)
    detected: dict[str, list[str]] = {
        "border planted": [],
        "border clean": [],
        "file planted": [],
        "file clean": [],
    }
    for seed in range(seeds):
        y = np.random.default_rng(seed).integers(0, 2, len(images))
        framed = images.copy()
        framed[y == 1] = planted_defects.framed(images[y == 1], 8)
        lighter = manifest.table.assign(bytes=manifest.table["bytes"] * np.where(y == 1, 0.8, 1.0))
        cases = {
            "border planted": borders_of(framed).astype(np.float64),
            "border clean": seen.borders.astype(np.float64),
            "file planted": file_features(lighter, seen),
            "file clean": facts,
        }
        for name, x in cases.items():
            if is_shortcut(shortcut_test(x, y, checks.permutations, seed), checks):
                detected[name].append(str(seed))
    every = [str(seed) for seed in range(seeds)]
    rows = []
    for kind in ("border", "file"):
        found, wrong = len(detected[f"{kind} planted"]), len(detected[f"{kind} clean"])
        rows.append(Row(f"{kind} shortcut test", len(every), found, wrong, found / seeds, wrong / seeds))
    return rows


def labels(work: Path, share: float = 0.05) -> Row:
    """Change the labels of some scanned digits."""
    folder = work / "digits"
    write_digits(folder)
    table, examined = scan_and_embed(ingest(folder), LITE)
    draw = np.random.default_rng(0)
    rows = draw.choice(len(table), round(share * len(table)), replace=False)
    names = sorted(table["label"].unique())
    wrong = table["label"].copy()
    wrong.iloc[rows] = [names[(names.index(table["label"][k]) + draw.integers(1, 10)) % 10] for k in rows]
    found = label_suspects(table.assign(label=wrong), examined.z, 0, limits().probe_samples)
    return scored("label suspects", table["path"].iloc[rows], found["path"], len(table) - len(rows))


def speed_row(work: Path, count: int) -> Figure:
    """Compare images per second of the survey with threads that read and decode and nothing else."""
    folder = work / "many"
    for number, (name, image) in enumerate(planted_defects.pictures(40, first=3000)):
        for repeat in range(count // 40):
            big = image.resize((500, 376))
            planted_defects.write(
                folder, f"{name}/{number:03d}-{repeat:03d}.jpg", planted_defects.jpeg(big, 80 + repeat % 10)
            )
    table = ingest(folder).table
    opened = Folder(str(folder), scratch())
    figures: dict[str, list[float]] = {"scan": [], "baseline": []}
    for _ in range(5):  # in turn, so that both see the same load of the machine
        begun = time.perf_counter()
        for image in map_in_threads(
            lambda path: decode(open_image(opened.read(path))), list(table["path"]), 32
        ):
            image.load()
        figures["baseline"].append(len(table) / (time.perf_counter() - begun))
        begun = time.perf_counter()
        scan_files(opened, table, len(table))
        figures["scan"].append(len(table) / (time.perf_counter() - begun))
    ratios = [a / b for a, b in zip(figures["scan"], figures["baseline"], strict=True)]
    note = f"bare parallel decode: {np.median(figures['baseline']):.0f} images/s"
    ratio = float(np.median(ratios))
    return measured("survey_vs_bare", figures["scan"], ratio, 0.9, "images/s", note)


def rows_row(count: int = 50_000) -> Figure:
    """Measure the seconds that the declarative checks take on a generated manifest."""
    draw = np.random.default_rng(0)
    names = [f"class{k}" for k in range(20)]
    table = pd.DataFrame(
        {
            "path": [f"{n:06d}.jpg" for n in range(count)],
            "label": draw.choice(names, count),
            "split": draw.choice(["train", "val", "test"], count, p=[0.55, 0.15, 0.3]),
            "group": None,
            "sha256": [f"{n:064x}" for n in range(count)],
            "bytes": draw.integers(1e4, 1e6, count),
            "format": "JPEG",
            "mode": "RGB",
            "width": draw.integers(100, 1000, count),
            "height": draw.integers(100, 1000, count),
            "error": None,
        }
    )
    begun = time.perf_counter()
    suites = load_suites(SUITE, limits(), modality_settings().image, "image", SPLITS.model_dump())
    run_suites(table, suites, "image")
    seconds = time.perf_counter() - begun
    return measured("seconds_50k_rows", [seconds], seconds, 10, "s", "declarative checks", least=False)


def memory_row(work: Path) -> Figure:
    """Compare the peak memory of the whole gate at 16,000 images and at 1,000."""
    small, large = (peak_megabytes("validate_data", count, work) for count in (1000, 16000))
    note = f"1,000 images: {small:.0f} MB"
    return measured("memory_16k_vs_1k", [large], large / small, 1.2, "MB", note, least=False)


def main() -> None:
    """Measure, print and write all rows."""
    with tempfile.TemporaryDirectory(prefix="headstart-audit-bench-") as temporary:
        work = Path(temporary)
        os.environ["HEADSTART_SCRATCH"] = str(work / "scratch")
        rows = [*oddities(work, 120, LITE), *copy_rows(work), *borders(work, 120, 20), labels(work)]
        rows += [
            Row(says, planted, found, wrong, found / max(1, planted), wrong / 20)
            for says, planted, found, wrong in name_rows(20, limits())
        ]
        figures = [speed_row(work, 400), *alike_figures(work), rows_row(), memory_row(work)]
    table = Table("detector", "planted", "found", "false alarms", "recall", "false alarm rate")
    for row in rows:
        table.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in asdict(row).values()))
    Console(width=130).print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    publish("the data audit", figures, OUT.with_name("gate.json"))


if __name__ == "__main__":
    main()
