"""Find the head's learning rate and the ratio between neighbouring stages, on the cached boundary."""

from typing import Annotated

from steps import tracking
from steps.artifacts import Classifier, Features, LearningRates
from steps.config import From
from steps.core.config import Count
from steps.core.space import Space
from steps.fine_tune import FineTuneSection
from steps.run import main
from steps.scratch import scratch


class SearchLrRatio(Space):
    """See params.yaml."""

    epochs: Count
    recipe: Annotated[FineTuneSection, From("fine_tune")]
    seed: Annotated[int, From("seed")]


def search_lr_ratio(
    features: Features, warm_head: Classifier, cfg: SearchLrRatio
) -> Annotated[LearningRates, "learning_rates"]:
    """Search both rates with Optuna, and beside it the best single rate for everything."""
    from steps.core.batches import open_batches
    from steps.core.finish import seeded
    from steps.core.search import Search, Trials, choose, study_name

    seeded(cfg.seed)
    boundary = features.meta["boundary"]
    batches = open_batches(features, boundary, cfg.recipe.batch_size, cfg.seed, scratch())
    trials = Trials(warm_head.network(), boundary, batches, cfg.recipe, cfg.epochs)
    key = study_name(features.digest, warm_head.digest, cfg.model_dump_json())
    storage = scratch() / "search" / f"{key}.db"
    storage.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, budget in (("discriminative", cfg.trials), ("uniform", cfg.uniform_trials)):
        tunes_ratio = name == "discriminative" and boundary < features.meta["stages"]
        search = Search(f"sqlite:///{storage}", name, cfg, cfg.seed, tunes_ratio, tracking.log_trial)
        found[name] = search.run(trials, budget)
    best, summary = choose(found)
    rows = [{"study": name, **row} for name, trials_ in found.items() for row in trials_]
    return LearningRates(best["head_lr"], best["ratio"], rows, summary)


if __name__ == "__main__":
    main(search_lr_ratio)
