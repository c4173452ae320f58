"""The session of the promotion court: export, measure, meet the champion, hold every gate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps import tracking
from steps.artifacts import Classifier, Dataset
from steps.core.files import Folder
from steps.registry import CHAMPION, Registry, Ruling
from steps.verdicts import Decision, Report

if TYPE_CHECKING:
    from steps.core.deploy import Exported

FASTER = 2.0  # times, from which a student is worth having


def hold_hearing(
    registry: Registry,
    dataset: Dataset,
    models: Mapping[str, Classifier],
    report: Report,
    cfg: Mapping[str, Any],
    scratch: Path,
) -> tuple[Ruling, str]:
    """Return the ruling on the candidate, and its model card. No gate is skipped after another failed."""
    from steps.core.card import render_card
    from steps.core.court import MEASURED, deployment_gates, hold_gates, meet_champion
    from steps.core.deploy import deploy

    candidate = cfg["candidate"]
    judged = registry.aliases().get(CHAMPION)
    rows, folder = dataset.part("test"), Folder(dataset.root, scratch)
    images = [folder.read(path) for path in rows["path"]]
    truth = dataset.labelling.encode(rows["label"], dataset.labels)
    known = dataset.part("train").sort_values("sha256")["path"].head(cfg["calibration_images"])
    exported = deploy(models, images, [folder.read(path) for path in known], truth, cfg)
    looks = tracking.looks(report.metrics["test"]["digest"])
    gates = hold_gates(report.metrics["models"][candidate], cfg, dataset.verdict)
    gates += deployment_gates(exported, candidate, looks, cfg)
    if champion := registry.champion(scratch):
        gates += meet_champion(champion, models[candidate], dataset, cfg, scratch)
    passed = all(gate["passed"] for gate in gates)
    verdict = Decision.promoted if passed else "kept" if champion else "rejected"
    card = render_card(registry.name, dataset, models[candidate], report, verdict, gates, candidate)
    clocks = [{"model": one.model, "variant": one.variant, **one.clock} for one in exported]
    found = {gate["gate"]: gate["found"] for gate in gates if gate["gate"] in MEASURED}
    measured = {
        "latencies": clocks,
        "looks": looks,
        "gates": found,
        "distillation": pays(exported, report, cfg),
    }
    table = [{"model": one.model, "variant": one.variant, **one.facts} for one in exported]
    still = [{**gate, "found": None} if gate["gate"] in MEASURED else gate for gate in gates]
    files = kept_files(exported, candidate, images[: cfg["golden_images"]])
    return Ruling(verdict, still, judged, table, measured, files), card


def pays(exported: list["Exported"], report: Report, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Say whether the student is worth having: faster by half, and no more than the margin worse."""
    from steps.core.deploy import FP32

    p50 = {one.model: one.clock["latency_p50_ms"] for one in exported if one.variant == FP32}
    lost = report.metrics["student_loss"]["accuracy"]
    times = p50["finetuned"] / p50["student"]
    kept = lost["low"] >= -cfg["student_margin"]
    return {"times_faster": times, "accuracy": lost, "pays": bool(times >= FASTER and kept)}


def kept_files(exported: list["Exported"], candidate: str, images: list[bytes]) -> dict[str, bytes]:
    """Return the candidate's files and its golden answers, by name."""
    from steps.core.deploy import FP32, INT8, golden

    mine = {one.variant: one for one in exported if one.model == candidate}
    names = {FP32: "model.onnx", INT8: "model.int8.onnx"}
    files = {names[variant]: one.file for variant, one in mine.items()}
    return {**files, "golden.safetensors": golden(images, mine[FP32])}
