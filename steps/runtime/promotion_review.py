"""The promotion review: export the candidate, measure it, compare it with the champion, check every gate."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import DEPLOYED_FILE, Classifier, Student
from steps.artifacts.report import Report
from steps.core.system.errors import ModelLostError
from steps.runtime import tracking
from steps.runtime.acquaintance import kept_known, unknown_to_both
from steps.runtime.registry import CHAMPION, Registry
from steps.runtime.review import Review

if TYPE_CHECKING:
    from steps.core.data.files import Source
    from steps.core.export.parity import ExportedFile, ParityResult
    from steps.core.tasks.predictions import Floats, Predictions

    Output = tuple[Floats, Floats]

ALL_LAYERS = "with all layers in 8 bits:"
TEACHER = "teacher"  # in a student's figures
MIN_SPEEDUP = 2.0  # times, from which a student is worth having
NONE = {"value": 0.0, "low": 0.0, "high": 0.0}

log = logging.getLogger("headstart")


def review_candidate(
    registry: Registry,
    dataset: Dataset,
    models: Mapping[str, Classifier],
    report: Report,
    student: Student,
    cfg: Mapping[str, Any],
    scratch: Path,
) -> tuple[Review, str]:
    """Return the decision on the candidate, and its model card. No gate is skipped after another failed."""
    from steps.core.data.rows import open_source
    from steps.core.promotion.explanation import explain
    from steps.core.promotion.gates import MEASURED, deployment_gates, metric_gates, withheld
    from steps.core.report.model_card import render_card

    candidate, digest = report.candidate, models[report.candidate].digest
    present, met = registry.aliases().get(CHAMPION), registry.opponent(digest)
    champion, gone = champion_of(registry, met, cfg, scratch)
    predictions = predictions_on_test(candidate, models[candidate], dataset, report)
    source = open_source(dataset.root, scratch, dataset.table)
    parity_results, outputs, old = run_exported_files(
        candidate, models[candidate], champion, dataset, source, predictions, cfg
    )
    mine, *side_files = parity_results
    reasons = {one.file.name: withheld(one, cfg) for one in side_files}
    for name, why in reasons.items():
        if why:
            log.warning("%s is withheld: it does not agree with the model that was judged (%s)", name, why)
    test_uses = counted_looks(dataset, report, champion, cfg["same_data"])
    gates = metric_gates(report.metrics["models"][candidate], cfg, dataset.verdict)
    gates += deployment_gates(mine, test_uses, cfg) + gone + mark(registry.rolled_back(digest))
    if champion and met:
        gates += face(registry, met, champion, old, predictions, dataset, cfg, scratch)
    passed = all(gate["passed"] for gate in gates)
    verdict = Decision.promoted if passed else "not promoted" if present else "rejected"
    warn_of_itself(registry, present, met, verdict)
    said = explain(verdict, gates, {})
    card = render_card(registry.name, dataset, models[candidate], report, verdict, gates, candidate, said)
    found = {gate["gate"]: gate["found"] for gate in gates if gate["gate"] in MEASURED}
    measured = {
        "latencies": [{**one.file.label, **one.latency} for one in parity_results],
        "test_uses": test_uses,
        "gates": found,
        "distillation": distillation_verdict(student, report, cfg["student_margin"]),
    }
    table = [
        {**one.file.label, **one.facts, "withheld": reasons.get(one.file.name, "")} for one in parity_results
    ]
    digested_gates = [{**gate, "found": None} if gate["gate"] in MEASURED else gate for gate in gates]
    golden_samples = [source.read(path) for path in dataset.part("test")["path"].head(cfg["golden_images"])]
    agreeing = [one.file for one in parity_results if not reasons.get(one.file.name)]
    files = model_files(agreeing, golden_samples, outputs)
    files |= drift_reference(dataset, list(report.predictions[candidate]), cfg, scratch)
    files |= kept_known(dataset, models.get("finetuned", models[candidate]), cfg, scratch)
    choice = report.metrics["candidate"]
    return Review(
        verdict, digested_gates, met, table, measured, files, replaces=present, candidate=choice
    ), card


def champion_of(
    registry: Registry, version: str | None, cfg: Mapping[str, Any], scratch: Path
) -> tuple[Classifier | None, list[dict[str, Any]]]:
    """Load the version that is to be met, and return the gate that says where that cannot be.

    Raises:
        ModelLostError: Its files are gone, and `on_lost_champion` is not `succeed`.
    """
    if version is None:
        return None, []
    try:
        return registry.load(version, scratch), []
    except ModelLostError as error:
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
    challenger: "Predictions",
    dataset: Dataset,
    cfg: Mapping[str, Any],
    scratch: Path,
) -> list[dict[str, Any]]:
    """Hold the gates between the champion and the challenger, on the samples that neither has learnt from."""
    from steps.core.promotion.gates import champion_gates

    unknown, because = unknown_to_both(registry, version, dataset, cfg, scratch)
    return champion_gates(champion, logits, challenger, dataset.labels, cfg, unknown, because)


def counted_looks(dataset: Dataset, report: Report, champion: Classifier | None, same: float) -> int:
    """Count the models that the test set was ever shown to, the champion, if there is one, included."""
    test, digest = list(dataset.part("test")["sha256"]), report.metrics["test"]["digest"]
    tracking.record_test_use(test, digest, [champion.digest] if champion else [])
    return tracking.count_test_uses(test, digest, same)


def warn_of_itself(registry: Registry, present: str | None, met: str | None, verdict: str) -> None:
    """Say so where the champion itself, judged again, does not pass the gates of now."""
    if present != met and verdict != Decision.promoted:
        log.warning(
            "version %s of %s is this very model and is champion, and does not pass the gates of now: it "
            "stays champion until another one passes them, or somebody rolls it back",
            present, registry.name,
        )  # fmt: skip


def predictions_on_test(name: str, model: Classifier, dataset: Dataset, report: Report) -> "Predictions":
    """Return what a model answered to the test samples when it was judged; `name` is the report's.

    Raises:
        ArtifactError: The report is of another test set.
    """
    import numpy as np

    from steps.core.system.errors import ArtifactError
    from steps.core.tasks.resampling import group_numbers
    from steps.core.tasks.thresholds import predictions_of

    rows, logged = dataset.part("test"), report.predictions
    if list(logged["sha256"]) != list(rows["sha256"]):
        raise ArtifactError("the report is of other test samples than the data set's: run evaluate again")
    truth = dataset.labelling.encode(rows["label"], dataset.labels)
    groups = group_numbers(rows)
    return predictions_of(np.stack(logged[f"{name}_logits"].tolist()), truth, model.meta, groups)


def run_exported_files(
    name: str,
    model: Classifier,
    champion: Classifier | None,
    dataset: Dataset,
    source: "Source",
    predictions: "Predictions",
    cfg: Mapping[str, Any],
) -> tuple[list["ParityResult"], dict[str, "Output"], "Floats"]:
    """Show each test sample, decoded once, to the candidate's exported files and to the champion.

    Return how the files compare with torch, float32 first, their logits and probabilities by name, and the
    champion's logits.
    """
    import numpy as np

    from steps.core.evaluation.inference import Predictor, predict_together
    from steps.core.export.parity import (
        compare_with_torch,
        export_model,
        interleaved_latencies,
        open_session,
        run_files,
    )

    ranges, held_out = (
        [source.read(path) for path in dataset.part(split).sort_values("sha256")["path"].head(cfg[key])]
        for split, key in (("train", "calibration_images"), ("val", "agreement_images"))
    )
    files = export_model(name, model, ranges, held_out, cfg["parity"]["int8"] if cfg["int8"] else None)
    paths = list(dataset.part("test")["path"])
    predictors = {CHAMPION: Predictor(champion.network(), champion.preprocessing)} if champion else {}
    preprocessing = model.preprocessing
    logits, file_outputs = predict_together(
        predictors, source, paths, lambda sample, views: run_files(files, sample), decoder=preprocessing
    )
    outputs = {
        file.name: (
            np.concatenate([one[n][0] for one in file_outputs]),
            np.concatenate([one[n][1] for one in file_outputs]),
        )
        for n, file in enumerate(files)
    }
    sessions = {file.name: file.session for file in files}
    mixed = {file.name: file.quantised for file in files if file.quantised and file.quantised.float_layers}
    sessions |= {f"{ALL_LAYERS} {name}": open_session(one.all_layers) for name, one in mixed.items()}
    graph = files[0].graph
    feed = {graph.name: graph.encode(preprocessing.decode(source.read(paths[0])))[None]}
    latencies = interleaved_latencies(sessions, feed, cfg["latency_runs"])
    for name in mixed:
        latencies[name]["all_layers_p50_ms"] = latencies[f"{ALL_LAYERS} {name}"]["latency_p50_ms"]
    parity_results = [
        compare_with_torch(file, outputs[file.name], predictions, latencies[file.name], cfg) for file in files
    ]
    return parity_results, outputs, logits.get(CHAMPION, np.empty(0))


def drift_reference(
    dataset: Dataset, answers: list[str], cfg: Mapping[str, Any], scratch: Path
) -> dict[str, bytes]:
    """Return what a later run tests drift against; see `steps.core.audit.drift.remember`."""
    from steps.core.audit.drift import build_drift_reference
    from steps.core.backbones.settings import BackboneConfig
    from steps.core.features.embedding import pretrained_encoder
    from steps.core.modalities.settings import ModalitySettings

    backbone = BackboneConfig.model_validate(cfg["backbone"])
    settings = ModalitySettings.model_validate(cfg["modality"])
    encoder = pretrained_encoder(dataset.modality, backbone, settings, dataset.table, scratch)
    return build_drift_reference(
        dataset.root, dataset.table, answers, encoder, cfg["reference_samples"], scratch
    )


def distillation_verdict(student: Student, report: Report, margin: float) -> dict[str, Any] | None:
    """Say whether the student is worth having; None where it was not timed beside its teacher.

    It is if it is surely more accurate, or at least twice as fast and no more than the margin worse: a loss
    counts that the paired interval cannot rule out.
    """
    chosen, figures = student.choice.get("chosen"), student.figures
    if chosen not in figures or TEACHER not in figures:
        return None
    times = figures[TEACHER]["latency_p50_ms"] / figures[chosen]["latency_p50_ms"]
    lost = report.metrics["student_loss"]["accuracy"]
    faster = f"it is {times:.1f} times as fast as its teacher"
    reasons = []
    if times < MIN_SPEEDUP:
        reasons.append(f"{faster}, less than {MIN_SPEEDUP:g} times")
    if lost["low"] < -margin:
        reasons.append(f"its accuracy may be lower by {-lost['low']:.3f}, more than the margin of {margin:g}")
    kept = f"{faster}, and no more than {margin:g} of accuracy is lost"
    if lost["low"] > 0 and times > 1:
        reasons, kept = [], f"{faster}, and more accurate by at least {lost['low']:.3f}"
    return {
        "times_faster": times,
        "accuracy": lost,
        "pays": not reasons,
        "reason": " and ".join(reasons) or kept,
    }


def model_files(
    exported: list["ExportedFile"], samples: list[bytes], outputs: Mapping[str, "Output"]
) -> dict[str, bytes]:
    """Return the candidate's files that agree, and golden samples with their answers, by name."""
    from steps.core.export.parity import FP32, INT8, golden_file

    names = {FP32: DEPLOYED_FILE, INT8: "model.int8.onnx"}
    files = {names[file.variant]: file.content for file in exported}
    answers = {file.name: outputs[file.name] for file in exported}
    return {**files, "golden.safetensors": golden_file(samples, answers)}
