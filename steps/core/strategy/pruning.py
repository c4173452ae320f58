"""When a trial of the search is stopped early."""

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

REPORTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


class BestFractionPruner(BasePruner):
    """Lets a trial go on while it is among the best fraction of all trials that have come as far.

    Successive halving's rule (Jamieson and Talwalkar 2016), asked after every epoch; what counts is a
    trial's least loss so far, as in the end. Optuna's PercentilePruner compares with completed trials
    alone, which are the good ones: of a sampler that learns, it stops few. The best trial always goes on.
    """

    def __init__(self, keep_fraction: float, after: int) -> None:
        """Keep this fraction, from epoch `after` on; 1 stops none."""
        self.keep_fraction, self.after = keep_fraction, after

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Say whether to stop the trial, by what it has reported."""
        step = trial.last_step
        if step is None or step + 1 < self.after:
            return False
        others = (t for t in study.get_trials(deepcopy=False, states=REPORTED) if t.number != trial.number)
        rivals = [least_loss(other, step) for other in others if step in other.intermediate_values]
        own = least_loss(trial, step)
        better = sum(rival < own for rival in rivals)
        return better >= max(1, int(self.keep_fraction * (len(rivals) + 1)))


def least_loss(trial: FrozenTrial, step: int) -> float:
    """Return the least loss up to a step."""
    return min(value for at, value in trial.intermediate_values.items() if at <= step)
