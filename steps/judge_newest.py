"""Champion and challenger on the test samples that the champion knew of, and on those that came since."""

from typing import Annotated, Any, Literal

from pydantic import Field

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Classifier, Student
from steps.artifacts.watch import Newest, Watch
from steps.core.system.config import Config
from steps.runtime import mlflow_client
from steps.runtime.params import From
from steps.runtime.registry import Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class JudgeNewest(Config):
    """See params.yaml."""

    bootstrap: Annotated[int, Field(ge=100)]
    candidate: Annotated[Literal["finetuned", "student"], From("promote.candidate")]
    seed: Annotated[int, From("seed")]


def judge_newest(
    dataset: Dataset, finetuned: Classifier, student: Student, watch: Watch, cfg: JudgeNewest
) -> Annotated[Newest, "newest"]:
    """Measure both models on the frozen test samples and on the newest; none of them was trained on."""
    from steps.core.data.rows import open_source
    from steps.core.evaluation.inference import Looker, predict_together
    from steps.core.tasks.intervals import compare, evaluate
    from steps.core.tasks.thresholds import outcome_of

    models = {"challenger": {"finetuned": finetuned, "student": student}[cfg.candidate]}
    if "version" in watch.champion:
        registry = Registry(watch.champion["name"], mlflow_client.connect())
        champion = registry.load(watch.champion["version"], scratch())
        if champion.meta["labels"] == dataset.labels:
            models["champion"] = champion
    test, source = dataset.part("test"), open_source(dataset.root, scratch(), dataset.table)
    truth = dataset.labelling.encode(test["label"], dataset.labels)
    lookers = {name: Looker(model.network(), model.look) for name, model in models.items()}
    logits, _ = predict_together(lookers, source, list(test["path"]), lambda sample, views: None)
    new = test["sha256"].isin(watch.newest).to_numpy()
    parts: dict[str, Any] = {}
    for part, mask in (("frozen", ~new), ("newest", new)):
        if not mask.any():
            continue
        seen = {
            name: outcome_of(logits[name][mask], truth[mask], model.meta) for name, model in models.items()
        }
        found = {name: evaluate(one, cfg.bootstrap, cfg.seed)["accuracy"] for name, one in seen.items()}
        if "champion" in seen:
            gain = compare(seen["challenger"], seen["champion"], cfg.bootstrap, cfg.seed)
            found["gain"] = gain["accuracy"]
        parts[part] = {"samples": int(mask.sum()), "accuracy": found}
    return Newest(parts)


if __name__ == "__main__":
    main(judge_newest)
