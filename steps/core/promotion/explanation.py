"""A decision in words: why, and what to do about every gate that failed."""

from collections.abc import Mapping, Sequence
from typing import Any

REMEDIES = {
    "accuracy": (
        "look at the report's confusion and worst mistakes, correct labels, add samples of the weak "
        "classes or train more stages (fine_tune.unfreeze); or lower promote.min_accuracy if this is "
        "enough"
    ),
    "macro_f1": (
        "add samples of the classes with the lowest F1 in the report, or correct their labels; or lower "
        "promote.min_macro_f1"
    ),
    "macro_auroc": (
        "add samples of the labels with the lowest AUROC in the report; or lower promote.min_macro_auroc"
    ),
    "map": (
        "add samples of the labels with the lowest average precision in the report; or lower promote.min_map"
    ),
    "ece": (
        "give validation more samples (ingest_data.splits), from which the temperature is chosen; or "
        "raise promote.max_ece if the probabilities are not used"
    ),
    "data not rejected": (
        "open the report's audit, correct the data as it says (validate_data.repair leaves out copies "
        "across splits), and run again"
    ),
    "parity": (
        "the exported file differs from the model that was judged: keep the versions of torch, onnx and "
        "onnxruntime that constraints.txt names, and report it as a fault if they are"
    ),
    "megabytes": (
        "allow a smaller student (distill.max_megabytes) and let it be the candidate, or raise "
        "promote.max_megabytes"
    ),
    "latency p50, ms": (
        "allow a faster student (distill.max_latency_ms) and let it be the candidate, or raise "
        "promote.max_latency_ms"
    ),
    "models judged on the test set": (
        "collect a new test set: this one has been used to choose between too many models; or raise "
        "promote.max_test_uses"
    ),
    "not rolled back": (
        "train another model, or run infra.rollback with --force if it was rolled back by mistake"
    ),
    "test images unknown to both": (
        "add test samples that neither model has learnt from, or lower promote.min_unknown"
    ),
    "beats champion": (
        "the champion stays: improve the model, or collect more test samples where the gain is there but "
        "its interval is wide"
    ),
    "no class has lost recall": (
        "add training samples of that class; or raise promote.class_margin if the loss is accepted"
    ),
    "calibration": (
        "give validation more samples; or raise promote.calibration_margin if the probabilities are not used"
    ),
}
"""By a gate's name, or by what stands before its colon."""


def explain(verdict: str, gates: Sequence[Mapping[str, Any]], registered: Mapping[str, Any]) -> list[str]:
    """Return sentences: the verdict and its reason, then what to do about each gate that failed."""
    failed = [gate for gate in gates if not gate["passed"]]
    if verdict == "rolled back":
        return [f"Rolled back: {registered.get('rolled_back', 'this model was rolled back before')}."]
    if verdict == "superseded":
        return ["Not promoted because another model became champion meanwhile: run promote again."]
    if not failed:
        return [f"Promoted because all {len(gates)} gates passed."]
    reasons = "; ".join(map(shortfall, failed))
    todo = dict.fromkeys(filter(None, map(remedy, failed)))
    return [f"Not promoted because {reasons}.", *(f"What to do about {what}." for what in todo)]


def shortfall(gate: Mapping[str, Any]) -> str:
    """Say what a gate found and what it wanted."""
    found, note = gate["found"], gate.get("note")
    shown = f"{gate['gate']} is {found['value']:.4g}"
    if found["low"] < found["high"]:
        shown += f" ({found['low']:.4g} to {found['high']:.4g})"
    wanted = f"{shown}, needed: {gate['sense']} {gate['limit']:g}"
    if gate["sense"] == "same labels" or gate["gate"] == "not rolled back":
        wanted = f"{gate['gate']} failed"
    return f"{wanted} ({note})" if note else wanted


def remedy(gate: Mapping[str, Any]) -> str:
    """Say what to do about a gate that failed; empty where nothing is known."""
    name = gate["gate"]
    told = REMEDIES.get(name) or REMEDIES.get(name.partition(":")[0])
    return f"{name.partition(':')[0]}: {told}" if told else ""
