"""Champion and challenger on the test samples that the champion knew of, and on those that came since."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Classifier, Student, candidates
from steps.artifacts.report import Report
from steps.artifacts.watch import Newest, Watch
from steps.core.system.config import Config
from steps.core.system.errors import ModelLostError
from steps.runtime import mlflow_client, tracking
from steps.runtime.acquaintance import unknown_to_both
from steps.runtime.params import From
from steps.runtime.registry import Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    from steps.core.tasks.predictions import Bools, Floats, Predictions

log = logging.getLogger("headstart")


class JudgeNewest(Config):
    """See params.yaml."""

    on_new_classes: Annotated[str, From("promote.on_new_classes")]
    on_lost_classes: Annotated[str, From("promote.on_lost_classes")]
    renamed: Annotated[dict[str, str], From("promote.renamed")]
    print_samples: Annotated[int, From("promote.print_samples")]
    near_copy: Annotated[float, From("validate_data.near_copy")]
    near_copy_margin: Annotated[float, From("validate_data.near_copy_margin")]
    seed: Annotated[int, From("seed")]


def judge_newest(
    dataset: Dataset,
    warm_head: Classifier,
    finetuned: Classifier,
    student: Student,
    report: Report,
    watch: Watch,
    cfg: JudgeNewest,
) -> Annotated[Newest, "newest"]:
    """Measure candidate and champion apart on the frozen test samples and on the newest.

    The champion is measured, and compared, on those that neither has learnt from and on the classes that
    both know, where there are any.
    """
    import numpy as np

    from steps.core.data.rows import open_source
    from steps.core.evaluation.inference import Predictor, predict_together
    from steps.core.tasks.resampling import group_numbers
    from steps.core.tasks.thresholds import predictions_of

    challenger = candidates(warm_head=warm_head, finetuned=finetuned, student=student)[report.candidate]
    models = {"challenger": challenger, **champion_of(watch)}
    test, source = dataset.part("test"), open_source(dataset.root, scratch(), dataset.table)
    truth = dataset.labelling.encode(test["label"], dataset.labels)
    predictors = {name: Predictor(model.network(), model.preprocessing) for name, model in models.items()}
    logits, _ = predict_together(predictors, source, list(test["path"]), lambda sample, views: None)
    mine = predictions_of(logits["challenger"], truth, challenger.meta, group_numbers(test))
    unknown, because = np.zeros(len(test), dtype=bool), ""
    if "champion" in models:
        look_again(dataset, models["champion"])
        registry = Registry(watch.champion["name"], mlflow_client.connect())
        place = (registry, watch.champion["version"], dataset)
        unknown, because = unknown_to_both(*place, cfg.model_dump(), scratch())
    new = test["sha256"].isin(watch.newest).to_numpy()
    parts: dict[str, Any] = {}
    for part, mask in (("frozen", ~new), ("newest", new)):
        if mask.any():
            parts[part] = {"samples": int(mask.sum()), "accuracy": alone(mine, mask)}
        if mask.any() and "champion" in models:
            rows = mask & unknown
            met = against(models["champion"], logits["champion"], mine, rows, dataset.labels, cfg)
            parts[part]["accuracy"] |= met.pop("accuracy", {})
            parts[part] |= {**met, "because": because}
    return Newest(parts)


def champion_of(watch: Watch) -> dict[str, Classifier]:
    """Load the champion that the data set was compared for; nothing where there is none, or no files."""
    if "version" not in watch.champion:
        return {}
    registry = Registry(watch.champion["name"], mlflow_client.connect())
    try:
        return {"champion": registry.load(watch.champion["version"], scratch())}
    except ModelLostError as error:
        log.warning("%s", error)
        return {}


def look_again(dataset: Dataset, champion: Classifier) -> None:
    """Record that the champion is shown the test set."""
    from steps.core.evaluation.evaluation import test_digest

    test = dataset.part("test")
    tracking.record_test_use(test["sha256"], test_digest(test), [champion.digest])


def alone(answers: "Predictions", rows: "Bools") -> dict[str, Any]:
    """Return the challenger's accuracy on some rows."""
    from steps.core.tasks.intervals import share_of

    return {"challenger": share_of(answers.correct[rows], answers.groups[rows])}


def against(
    champion: Classifier,
    logits: "Floats",
    challenger: "Predictions",
    rows: "Bools",
    labels: list[str],
    cfg: JudgeNewest,
) -> dict[str, Any]:
    """Return the champion's accuracy and the gain on it, or in words why they are not compared."""
    from steps.core.promotion.succession import common_ground
    from steps.core.tasks.comparisons import accuracy_difference
    from steps.core.tasks.intervals import share_of

    ground = common_ground(champion.meta, logits, challenger, labels, rows, cfg.model_dump())
    if isinstance(ground, str):
        return {"not_compared": ground}
    if not (compared := len(ground.champion.labels)):
        return {"not_compared": "no test image is left that neither of them has learnt from"}
    own = share_of(ground.champion.correct, ground.champion.groups)
    gain = accuracy_difference(ground.challenger, ground.champion)
    found = {"champion": own, "gain": gain}
    return {"accuracy": found, "compared": compared, "said": ground.said}


if __name__ == "__main__":
    main(judge_newest)
