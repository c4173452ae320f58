"""Find the head's learning rate and the ratio between neighbouring stages, on the cached boundary."""

from typing import Annotated, Literal

from pydantic import Field

from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier
from steps.core.strategy.search_space import AskedSpace, Rate, When, skip_reason
from steps.core.system.config import Count
from steps.fine_tune import FineTuneSection
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch, study_storage


class SearchLrRatio(AskedSpace):
    """See params.yaml."""

    when: When
    min_validation: Count
    """Validation samples from which on `auto` searches."""
    head_lr: Rate
    """Where nothing is searched."""
    ratio: Annotated[float, Field(gt=0, le=1)] | Literal["auto"]
    """Of a stage's rate to the next one's, where nothing is searched."""
    epochs: Count
    recipe: Annotated[FineTuneSection, From("fine_tune")]
    seed: Annotated[int, From("seed")]


def search_lr_ratio(
    prefix: Features, warm_head: Classifier, cfg: SearchLrRatio
) -> Annotated[LearningRates, "learning_rates"]:
    """Search both rates with Optuna, beside it the best single rate; repeat the best over seeds.

    Where validation is too small to tell them apart, nothing is searched; see `skip_reason`.
    """
    from steps.core.backbones.precision import uses_bfloat16
    from steps.core.backbones.processes import device
    from steps.core.features.batches import open_batches
    from steps.core.report.search_page import render_no_search, render_search
    from steps.core.strategy.search import Studies, study_name
    from steps.core.strategy.search_summary import summarise_search
    from steps.core.strategy.trials import Trials
    from steps.core.strategy.usual_rates import usual_rates
    from steps.core.system.code import code_digest
    from steps.core.training.calibration import seed_everything

    samples = int((prefix.index_table["split"] == "val").sum())
    if reason := prefix.meta.get("skipped") or skip_reason(cfg.when, samples, cfg.min_validation):
        summary, html = {"skipped": reason}, render_no_search(reason)
        usual = usual_rates(warm_head.network())
        head_lr = usual.head_lr if cfg.head_lr == "auto" else cfg.head_lr
        ratio = usual.ratio if cfg.ratio == "auto" else cfg.ratio
        return LearningRates(head_lr, ratio, cfg.recipe.weight_decay, [], summary, html)
    seed_everything(cfg.seed)
    boundary = prefix.meta["boundary"]
    batches = open_batches(prefix, boundary, cfg.recipe.batch_size, cfg.seed, scratch())
    inputs, half = (prefix.digest, warm_head.digest), uses_bfloat16(cfg.recipe.precision, device())
    code = code_digest("steps.search_lr_ratio")
    key = study_name(*inputs, cfg.model_dump_json(), str(half), code)
    folder, space = scratch() / "search" / key, cfg.resolved(usual_rates(warm_head.network()).head_lr)
    trials = Trials(warm_head.network(), boundary, batches, cfg.recipe, cfg.epochs, folder)
    found = Studies(study_storage(folder), key, space, cfg.seed, tracking.log_trial).run(trials)
    best, summary, soup = summarise_search(trials, found, space, cfg.seed)
    rows = [{"study": name, **row} for name, trials_ in found.items() for row in trials_]
    html = render_search(rows, summary, space, cfg.seed)
    return LearningRates(best.head_lr, best.ratio, best.weight_decay, rows, summary, html, soup)


if __name__ == "__main__":
    main(search_lr_ratio)
