"""Register the model; move `champion` only when every gate holds and the present one is beaten."""

from typing import Annotated

from pydantic import Field

from steps import tracking
from steps.artifacts import Classifier, Dataset, Decision, Report
from steps.config import From
from steps.core.config import Config, Fraction
from steps.registry import Registry
from steps.run import main
from steps.scratch import scratch


class Promote(Config):
    """See params.yaml."""

    name: str
    min_accuracy: Fraction
    min_macro_f1: Fraction
    max_ece: Fraction
    champion_margin: Annotated[float, Field(ge=-1, le=1)]
    bootstrap: Annotated[int, Field(ge=100)]
    seed: Annotated[int, From("seed")]


def promote(
    dataset: Dataset, finetuned: Classifier, report: Report, cfg: Promote
) -> Annotated[Decision, "decision"]:
    """Judge the fine-tuned model by its report and against the champion, on the same test images."""
    registry = Registry(cfg.name, tracking.connect())
    if known := registry.decided(finetuned.digest, report.digest):
        return known
    from steps.core.court import hold_gates, meet_champion

    gates = hold_gates(report.metrics["models"]["finetuned"], cfg.model_dump())
    champion = registry.champion(scratch())
    if champion:
        gates.append(meet_champion(champion, finetuned, dataset, cfg.model_dump(), scratch()))
    passed = all(gate["passed"] for gate in gates)
    verdict = Decision.promoted if passed else "kept" if champion else "rejected"
    return registry.register(finetuned, report, verdict, gates)


if __name__ == "__main__":
    main(promote)
