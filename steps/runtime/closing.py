"""What a run says at its end: the verdict and why, the model's figures, where everything is, what is next."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steps.artifacts.decision import Decision
from steps.artifacts.report import Report

FIGURES = ("accuracy", "map", "macro_auroc", "macro_f1", "ece")
TITLES = {"map": "mean average precision", "macro_auroc": "macro AUROC", "macro_f1": "macro F1",
          "ece": "calibration error"}  # fmt: skip


def closing(report: Report, decision: Decision, page: Path, log_file: Path, tracker: str) -> str:
    """Return the lines that end a run on the terminal, 20 at most; the last one is where the report is.

    Args:
        report: Of the test set.
        decision: The verdict, with its evidence.
        page: The run's report.html.
        log_file: Of the run.
        tracker: MLflow's address.
    """
    name, version = decision.registered["name"], decision.registered["version"]
    model, figures = report.candidate.replace("_", " "), report.metrics["models"][report.candidate]
    champion = decision.verdict == decision.promoted
    where = f"models:/{name}@champion" if champion else f"models:/{name}/{version}"
    lines = [
        "",
        *verdict(decision),
        f"  {model}, on {test_samples(report)} test samples:",
        *intervals(figures),
    ]
    lines += [f"model:  {where} in MLflow, {tracker}", f"        mlflow ui --backend-store-uri {tracker}"]
    lines += [f"log:    {log_file}", "next:"]
    lines += [f"  {command}" for command in next_commands(name, champion)]
    return "\n".join([*lines, f"report: {page}"])


def verdict(decision: Decision) -> Iterator[str]:
    """Yield what has become of the model, and the decision's own sentences: why, and what to do."""
    name, version = decision.registered["name"], decision.registered["version"]
    state = "is champion" if decision.verdict == decision.promoted else "is registered, and does not serve"
    yield f"{name} version {version} {state}."
    yield from decision.explanation()


def test_samples(report: Report) -> int:
    """Return how many samples the test set has."""
    return len(report.predictions)


def intervals(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the metrics, each with its 95 % interval, two in a line."""
    known = [name for name in FIGURES if name in figures]
    texts = [
        f"{TITLES.get(name, name)} {figures[name]['value']:.3f} "
        f"({figures[name]['low']:.3f} to {figures[name]['high']:.3f})"
        for name in known
    ]
    for first in range(0, len(texts), 2):
        yield "    " + ", ".join(texts[first : first + 2])


def next_commands(name: str, champion: bool) -> tuple[str, str, str]:
    """Return three commands to go on with, each with what it is for."""
    quoted = f'"{name}"' if " " in name else name
    if champion:
        return (
            f"headstart serve {quoted}            # try it in a browser, and over HTTP",
            f"headstart predict {quoted} FOLDER   # label a folder",
            "headstart report                # look at the report",
        )
    return (
        "headstart report                # the samples and classes behind these numbers",
        "headstart run DATA              # again, after changing the data or params.yaml",
        "headstart doctor                # what this machine can do",
    )
