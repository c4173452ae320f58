"""The session of the promotion court: export, measure, meet the champion, hold every gate."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.core.system.errors import LostModel
from steps.runtime import tracking
from steps.runtime.acquaintance import kept_known, unknown_to_both
from steps.runtime.registry import CHAMPION, Registry
from steps.runtime.ruling import Ruling

if TYPE_CHECKING:
    from steps.core.data.files import Source
    from steps.core.export.parity import Exported
    from steps.core.tasks.predictions import Answers, Floats

    Output = tuple[Floats, Floats]

FASTER = 2.0  # times, from which a student is worth having
NONE = {"value": 0.0, "low": 0.0, "high": 0.0}

log = logging.getLogger("headstart")


def hold_hearing(
    registry: Registry,
    dataset: Dataset,
    models: Mapping[str, Classifier],
    report: Report,
    cfg: Mapping[str, Any],
    scratch: Path,
) -> tuple[Ruling, str]:
    """Return the ruling on the candidate, and its model card. No gate is skipped after another failed."""
    from steps.core.data.rows import open_source
    from steps.core.promotion.gates import MEASURED, deployment_gates, hold_gates
    from steps.core.report.model_card import render_card

    candidate, digest = cfg["candidate"], models[cfg["candidate"]].digest
    present, met = registry.aliases().get(CHAMPION), registry.opponent(digest)
    champion, gone = champion_of(registry, met, cfg, scratch)
    said = outcomes(models, dataset, report)
    source = open_source(dataset.root, scratch, dataset.table)
    exported, answers, old = examine(models, champion, dataset, source, said, cfg)
    looks = counted_looks(dataset, report, champion, cfg["same_data"])
    gates = hold_gates(report.metrics["models"][candidate], cfg, dataset.verdict)
    gates += deployment_gates(exported, candidate, looks, cfg) + gone + mark(registry.rolled_back(digest))
    if champion and met:
        gates += face(registry, met, champion, old, said[candidate], dataset, cfg, scratch)
    passed = all(gate["passed"] for gate in gates)
    verdict = Decision.promoted if passed else "kept" if present else "rejected"
    warn_of_itself(registry, present, met, verdict)
    card = render_card(registry.name, dataset, models[candidate], report, verdict, gates, candidate)
    found = {gate["gate"]: gate["found"] for gate in gates if gate["gate"] in MEASURED}
    measured = {
        "latencies": [{**one.file.label, **one.clock} for one in exported],
        "looks": looks,
        "gates": found,
        "distillation": pays(exported, report, cfg),
    }
    table = [{**one.file.label, **one.facts} for one in exported]
    still = [{**gate, "found": None} if gate["gate"] in MEASURED else gate for gate in gates]
    shown = [source.read(path) for path in dataset.part("test")["path"].head(cfg["golden_images"])]
    files = kept_files(exported, candidate, shown, answers)
    files |= remembered(dataset, list(report.predictions[candidate]), cfg, scratch)
    files |= kept_known(dataset, models["finetuned"], cfg, scratch)
    return Ruling(verdict, still, met, table, measured, files, replaces=present), card


def champion_of(
    registry: Registry, version: str | None, cfg: Mapping[str, Any], scratch: Path
) -> tuple[Classifier | None, list[dict[str, Any]]]:
    """Load the version that is to be met, and return the gate that says where that cannot be.

    Raises:
        LostModel: Its files are gone, and `on_lost_champion` does not say that it may be succeeded unmet.
    """
    if version is None:
        return None, []
    try:
        return registry.load(version, scratch), []
    except LostModel as error:
        if cfg["on_lost_champion"] == "refuse":
            raise
        log.warning("%s", error)
        row = {"gate": "champion can be met", "found": NONE, "sense": "at least", "limit": 0.0}
        note = f"the files of version {version} are gone, and promote.on_lost_champion is succeed"
        return None, [{**row, "passed": True, "note": note}]


def mark(reason: str | None) -> list[dict[str, Any]]:
    """Return the gate that a model does not pass which somebody has rolled back; none for others."""
    if reason is None:
        return []
    row = {"gate": "not rolled back", "found": NONE, "sense": "at least", "limit": 1.0, "passed": False}
    return [{**row, "note": reason}]


def face(
    registry: Registry,
    version: str,
    champion: Classifier,
    logits: "Floats",
    challenger: "Answers",
    dataset: Dataset,
    cfg: Mapping[str, Any],
    scratch: Path,
) -> list[dict[str, Any]]:
    """Hold the gates between the champion and the challenger, on the samples that neither has learnt from."""
    from steps.core.promotion.gates import meet_champion

    unknown, because = unknown_to_both(registry, version, dataset, cfg, scratch)
    return meet_champion(champion, logits, challenger, dataset.labels, cfg, unknown, because)


def counted_looks(dataset: Dataset, report: Report, champion: Classifier | None, same: float) -> int:
    """Count the models that the test set was ever shown to, the champion, if there is one, included."""
    test, digest = list(dataset.part("test")["sha256"]), report.metrics["test"]["digest"]
    tracking.look(test, digest, [champion.digest] if champion else [])
    return tracking.looks(test, digest, same)


def warn_of_itself(registry: Registry, present: str | None, met: str | None, verdict: str) -> None:
    """Say so where the champion itself, judged again, does not pass the gates of now."""
    if present != met and verdict != Decision.promoted:
        log.warning(
            "version %s of %s is this very model and is champion, and does not pass the gates of now: it "
            "stays champion until another one passes them, or somebody rolls it back",
            present, registry.name,
        )  # fmt: skip


def outcomes(models: Mapping[str, Classifier], dataset: Dataset, report: Report) -> dict[str, "Answers"]:
    """Return what the models answered to the test samples when they were judged.

    Raises:
        ArtifactError: The report is of another test set.
    """
    import numpy as np

    from steps.core.system.errors import ArtifactError
    from steps.core.tasks.thresholds import outcome_of

    rows, told = dataset.part("test"), report.predictions
    if list(told["sha256"]) != list(rows["sha256"]):
        raise ArtifactError("the report is of other test samples than the data set's: run evaluate again")
    truth = dataset.labelling.encode(rows["label"], dataset.labels)
    return {
        name: outcome_of(np.stack(told[f"{name}_logits"].tolist()), truth, model.meta)
        for name, model in models.items()
    }


def examine(
    models: Mapping[str, Classifier],
    champion: Classifier | None,
    dataset: Dataset,
    source: "Source",
    said: Mapping[str, "Answers"],
    cfg: Mapping[str, Any],
) -> tuple[list["Exported"], dict[str, "Output"], "Floats"]:
    """Show each test sample, decoded once, to every exported file and to the champion.

    Return how the files compare with torch, their logits and probabilities by name, the champion's logits.
    """
    import numpy as np

    from steps.core.evaluation.inference import Looker, predict_together
    from steps.core.export.parity import answer, by_turns, deploy, hold_against

    known = dataset.part("train").sort_values("sha256")["path"].head(cfg["calibration_images"])
    files = deploy(models, [source.read(path) for path in known], cfg["int8"])
    paths = list(dataset.part("test")["path"])
    lookers = {CHAMPION: Looker(champion.network(), champion.look)} if champion else {}
    look = next(iter(models.values())).look
    logits, told = predict_together(
        lookers, source, paths, lambda sample, views: answer(files, sample), decoder=look
    )
    answers = {
        file.name: (np.concatenate([one[n][0] for one in told]), np.concatenate([one[n][1] for one in told]))
        for n, file in enumerate(files)
    }
    sessions = {file.name: file.session for file in files}
    graph = files[0].graph
    feed = {graph.name: graph.encode(look.decode(source.read(paths[0])))[None]}
    clocks = by_turns(sessions, feed, cfg["timings"])
    exported = [
        hold_against(file, answers[file.name], said[file.model], clocks[file.name], cfg) for file in files
    ]
    return exported, answers, logits.get(CHAMPION, np.empty(0))


def remembered(
    dataset: Dataset, answers: list[str], cfg: Mapping[str, Any], scratch: Path
) -> dict[str, bytes]:
    """Return what a later run tests drift against; see `steps.core.audit.drift.remember`."""
    from steps.core.audit.drift import remember
    from steps.core.backbones.settings import BackboneConfig
    from steps.core.features.embedding import pretrained_encoder
    from steps.core.modalities.settings import ModalitySettings

    backbone = BackboneConfig.model_validate(cfg["backbone"])
    settings = ModalitySettings.model_validate(cfg["modality"])
    encoder = pretrained_encoder(dataset.modality, backbone, settings, scratch)
    return remember(dataset.root, dataset.table, answers, encoder, cfg["reference_samples"], scratch)


def pays(exported: list["Exported"], report: Report, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Say whether the student is worth having: at least twice as fast, and no more than the margin worse.

    The margin is held by the paired interval's lower end: a loss that cannot be ruled out does not pay.
    """
    from steps.core.export.parity import FP32

    p50 = {one.file.model: one.clock["latency_p50_ms"] for one in exported if one.file.variant == FP32}
    lost, margin = report.metrics["student_loss"]["accuracy"], cfg["student_margin"]
    times = p50["finetuned"] / p50["student"]
    reasons = []
    if times < FASTER:
        reasons.append(f"it is {times:.1f} times as fast as its teacher, less than {FASTER:g} times")
    if lost["low"] < -margin:
        reasons.append(f"its accuracy may be lower by {-lost['low']:.3f}, more than the margin of {margin:g}")
    kept = f"it is {times:.1f} times as fast as its teacher, and no more than {margin:g} of accuracy is lost"
    return {
        "times_faster": times,
        "accuracy": lost,
        "pays": not reasons,
        "said": " and ".join(reasons) or kept,
    }


def kept_files(
    exported: list["Exported"], candidate: str, samples: list[bytes], answers: Mapping[str, "Output"]
) -> dict[str, bytes]:
    """Return the candidate's files, and golden samples with every model's answers, by name."""
    from steps.core.export.parity import FP32, INT8, golden

    names = {FP32: "model.onnx", INT8: "model.int8.onnx"}
    mine = [one.file for one in exported if one.file.model == candidate]
    files = {names[file.variant]: file.content for file in mine}
    return {**files, "golden.safetensors": golden(samples, answers)}
