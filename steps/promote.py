"""Register the model; move `champion` only when every gate holds and the present one is beaten."""

import re
from typing import Annotated

from pydantic import Field

from steps import tracking
from steps.artifacts import Classifier, Dataset, Decision, Report
from steps.config import From
from steps.core.config import Config, Fraction
from steps.registry import Registry, Ruling
from steps.run import main
from steps.scratch import scratch


class Promote(Config):
    """See params.yaml."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]+$")] | None
    """Of the registered model; null takes the last part of the data set's path."""
    min_accuracy: Fraction
    min_macro_f1: Fraction
    max_ece: Fraction
    champion_margin: Annotated[float, Field(ge=-1, le=1)]
    """Accuracy that the challenger must have gained beyond doubt."""
    class_margin: Fraction
    """Recall that a class may have lost beyond doubt."""
    calibration_margin: Fraction
    """Calibration error by which the challenger may be worse beyond doubt."""
    bootstrap: Annotated[int, Field(ge=100)]
    data: Annotated[str, From("ingest_data.path")]
    seed: Annotated[int, From("seed")]

    def model(self) -> str:
        """Return the registered model's name."""
        last = self.data.rstrip("/").rpartition("/")[2]
        return self.name or re.sub(r"[^A-Za-z0-9_. -]+", "-", last) or "headstart"


def promote(
    dataset: Dataset, finetuned: Classifier, report: Report, cfg: Promote
) -> Annotated[Decision, "decision"]:
    """Judge the fine-tuned model by its report and against the champion, on the same test images."""
    from steps.core.card import render_card
    from steps.core.court import hold_gates, meet_champion

    registry = Registry(cfg.model(), tracking.connect())
    with registry.alone(scratch()):
        if known := registry.decided(finetuned.digest, report.digest):
            return known
        judged = registry.aliases().get("champion")
        gates = hold_gates(report.metrics["models"]["finetuned"], cfg.model_dump(), dataset.verdict)
        champion = registry.champion(scratch())
        if champion:
            gates += meet_champion(champion, finetuned, dataset, cfg.model_dump(), scratch())
        passed = all(gate["passed"] for gate in gates)
        verdict = Decision.promoted if passed else "kept" if champion else "rejected"
        card = render_card(cfg.model(), dataset, finetuned, report, verdict, gates)
        return registry.register(finetuned, report, Ruling(verdict, gates, judged), card)


if __name__ == "__main__":
    main(promote)
