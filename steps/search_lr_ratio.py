"""Find the head's learning rate and the ratio between neighbouring stages, on the cached boundary."""

from typing import Annotated

from steps import tracking
from steps.artifacts import Features
from steps.config import From
from steps.core.config import Count
from steps.core.space import Space
from steps.fine_tune import FineTuneSection
from steps.models import Classifier, LearningRates
from steps.run import main
from steps.scratch import scratch, study_storage


class SearchLrRatio(Space):
    """See params.yaml."""

    epochs: Count
    recipe: Annotated[FineTuneSection, From("fine_tune")]
    seed: Annotated[int, From("seed")]


def search_lr_ratio(
    features: Features, warm_head: Classifier, cfg: SearchLrRatio
) -> Annotated[LearningRates, "learning_rates"]:
    """Search both rates with Optuna, beside it the best single rate; repeat the best over seeds."""
    from steps.core.batches import open_batches
    from steps.core.conclusion import conclude
    from steps.core.finish import seeded
    from steps.core.precision import halves
    from steps.core.processes import device
    from steps.core.search import Studies, study_name
    from steps.core.search_page import render_search
    from steps.core.trials import Trials

    seeded(cfg.seed)
    boundary = features.meta["boundary"]
    batches = open_batches(features, boundary, cfg.recipe.batch_size, cfg.seed, scratch())
    inputs, half = (features.digest, warm_head.digest), halves(cfg.recipe.precision, device())
    key = study_name(*inputs, cfg.model_dump_json(), str(half))
    folder = scratch() / "search" / key
    trials = Trials(warm_head.network(), boundary, batches, cfg.recipe, cfg.epochs, folder)
    found = Studies(study_storage(folder), key, cfg, cfg.seed, tracking.log_trial).run(trials)
    best, summary, soup = conclude(trials, found, features, cfg, cfg.seed)
    rows = [{"study": name, **row} for name, trials_ in found.items() for row in trials_]
    html = render_search(rows, summary, cfg, cfg.seed)
    return LearningRates(best.head_lr, best.ratio, best.weight_decay, rows, summary, html, soup)


if __name__ == "__main__":
    main(search_lr_ratio)
