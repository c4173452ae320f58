"""The best linear head on fixed vectors: multinomial or binary logistic regression, solved to its optimum.

Minimised is scikit-learn's objective, C * sum of losses + ||W||^2 / 2, without a penalty on the bias. C is
chosen by cross-validation, and so is whether the vectors are standardised (each feature to variance 1) or
only centred and scaled as a whole. Either is folded into the head, which reads the vectors as they are.

The vectors are turned to their principal axes, where the Hessian is nearly diagonal: preconditioned by its
bound (Boehning 1992, "Multinomial logistic regression algorithm"), L-BFGS needs a few dozen iterations at
any penalty, and no more coordinates than there are samples.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from torch import Tensor

from steps.core.features.settings import HeadSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TOLERANCE = 1e-6  # of the objective's gradient per sample, in preconditioned coordinates
ROUGH = 1e-4  # the same while penalties are compared: a fifth of the time, losses within a percent
ITERATIONS = 500
SMALLEST_SCALE = 1e-3  # of the features' typical deviation: less is rounding, and stays small
SCALINGS = ("standardised", "raw")


@dataclass(frozen=True)
class LinearHead:
    """A head for vectors as they are, and how it was chosen."""

    weight: Floats
    """Shape (classes, features)."""
    bias: Floats
    """Shape (classes,)."""
    scaling: str
    inverse_penalty: float
    """C of scikit-learn."""
    cv_loss: float
    """Mean loss in nats of samples that the fold's head has not seen; NaN where nothing was chosen."""
    unseen: Floats
    """Shape (samples, classes): logits from heads that have not seen the sample, of those that it was
    chosen on; NaN for the others."""

    def logits(self, x: Floats) -> Floats:
        """Return logits (n, classes) of vectors (n, features)."""
        return np.asarray(x @ self.weight.T + self.bias)


@dataclass(frozen=True)
class Axes:
    """An affine map of vectors to coordinates of mean 0 along their principal axes."""

    mean: Floats
    turn: Floats
    """Shape (features, axes)."""
    variances: Floats
    """Shape (axes,)."""

    @classmethod
    def of(cls, x: Floats, scaling: str) -> "Axes":
        """Take mean, scale and axes from vectors x (n, features)."""
        mean = x.mean(axis=0)
        centred = x - mean
        deviations = centred.std(axis=0)
        typical = float(np.sqrt(np.mean(deviations**2))) or 1.0
        scale = np.maximum(deviations, SMALLEST_SCALE * typical) if scaling == "standardised" else typical
        scaled = centred / scale
        wide = scaled.shape[1] > len(scaled)
        values, vectors = np.linalg.eigh((scaled @ scaled.T if wide else scaled.T @ scaled) / len(x))
        kept = values > max(float(values[-1]), 1e-300) * 1e-10
        values, vectors = values[kept], vectors[:, kept]
        axes = scaled.T @ (vectors / np.sqrt(values * len(x))) if wide else vectors
        return cls(mean, np.asarray((axes.T / scale).T), values)

    def coordinates(self, x: Floats) -> Floats:
        """Map vectors (n, features) to coordinates (n, axes)."""
        return np.asarray((x - self.mean) @ self.turn)


def objective(logits: Floats, y: Ints, weights: Floats | None = None) -> tuple[float, Floats]:
    """Return the sum of losses in nats, and its gradient with regard to the logits (n, classes).

    Of label sets (y of indicators) a sample's loss is the sum over its labels. Class numbers may have
    `weights` (classes,), with which the losses are multiplied.
    """
    if y.ndim == 1:
        rows = np.arange(len(y))
        shifted = logits - logits.max(axis=1, keepdims=True)
        gradient = np.exp(shifted)
        totals = gradient.sum(axis=1)
        losses = np.log(totals) - shifted[rows, y]
        gradient /= totals[:, None]
        gradient[rows, y] -= 1
        if weights is not None:
            losses *= weights[y]
            gradient *= weights[y][:, None]
        return float(losses.sum()), gradient
    signs = 2 * y - 1
    return float(-log_expit(signs * logits).sum()), expit(logits) - y


def solve(
    u: Floats,
    variances: Floats,
    y: Ints,
    classes: int,
    c: float,
    start: Floats | None,
    weights: Floats | None = None,
    tolerance: float = TOLERANCE,
) -> Floats:
    """Return the optimal head (axes + 1, classes) on coordinates u (n, axes), the bias last.

    Args:
        u: Of any rows; `variances` (axes,) of the coordinates precondition.
        variances: See `u`.
        y: Class numbers (n,) or indicators (n, classes).
        classes: How many there are.
        c: scikit-learn's C.
        start: Where to begin, such as the solution at a stronger penalty; None: at zero.
        weights: Of the classes (classes,); None: all alike.
        tolerance: Of the gradient at the solution; see TOLERANCE.
    """
    count, axes = u.shape
    penalty = 1 / (c * count)
    curvature = 0.5 * (1 - 1 / classes) if y.ndim == 1 else 0.25
    precondition = 1 / np.sqrt(np.append(curvature * variances + penalty, curvature))[:, None]
    decay = np.append(np.full(axes, penalty), 0.0)[:, None]

    def value(flat: Floats) -> tuple[float, Floats]:
        head = flat.reshape(axes + 1, classes) * precondition
        loss, gradient = objective(u @ head[:-1] + head[-1], y, weights)
        slope = np.vstack([u.T @ gradient, gradient.sum(axis=0)]) / count + decay * head
        return loss / count + 0.5 * float((decay * head**2).sum()), (slope * precondition).ravel()

    first = np.zeros((axes + 1, classes)) if start is None else start / precondition
    options = {"maxiter": ITERATIONS, "gtol": tolerance, "ftol": 1e-12, "maxcor": 20}
    found = minimize(value, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(axes + 1, classes) * precondition)


def groups_of(index: pd.DataFrame) -> list[str]:
    """Return the group of every row of a table; a sample without one is in one with its exact copies."""
    own = index["sha256"]
    return [str(group) for group in (index["group"].fillna(own) if "group" in index else own)]


def folds_of(y: Ints, groups: Sequence[Any], folds: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield (rows to fit on, rows to ask about); a group is never divided, classes are as even as can be."""
    numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    folds = min(folds, int(numbers.max()) + 1)
    if folds < 2:
        return
    if y.ndim > 1:
        yield from GroupKFold(folds, shuffle=True, random_state=seed).split(numbers, groups=numbers)
        return
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(numbers, y, numbers)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is left out of some of them, which is all that can be done.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = list(split)
    yield from parts


class HeadChoice(NamedTuple):
    """What cross-validation prefers."""

    axes: Axes
    """Of the samples that it was chosen on."""
    scaling: str
    inverse_penalty: float
    loss: float
    unseen: Floats
    """See `LinearHead`."""


def fit_head(
    x: Floats,
    y: Ints,
    classes: int,
    groups: Sequence[Any],
    cfg: HeadSettings,
    seed: int,
    class_weights: Tensor | None = None,
) -> LinearHead:
    """Choose scaling and penalty, and fit the head on all samples; see `choose_head`."""
    axes, scaling, c, loss, unseen = choose_head(x, y, classes, groups, cfg, seed, class_weights)
    if len(x) > cfg.samples:
        axes = Axes.of(x, scaling)  # those of the choice are of a part of the samples
    weights = None if class_weights is None else class_weights.double().numpy()
    head = solve(axes.coordinates(x), axes.variances, y, classes, c, None, weights)
    weight = np.asarray((axes.turn @ head[:-1]).T)
    bias = head[-1] - weight @ axes.mean
    return LinearHead(weight, bias - bias.mean() if y.ndim == 1 else bias, scaling, c, loss, unseen)


def choose_head(
    x: Floats,
    y: Ints,
    classes: int,
    groups: Sequence[Any],
    cfg: HeadSettings,
    seed: int,
    class_weights: Tensor | None = None,
) -> HeadChoice:
    """Choose scaling and penalty by cross-validated loss.

    Args:
        x: Vectors (n, features).
        y: Class numbers (n,) or indicators (n, classes).
        classes: How many there are.
        groups: Of samples that no fold may divide; (n,).
        cfg: The grid, and on how many samples it is tried.
        seed: Of the folds, and of which samples.
        class_weights: Of the classes (classes,) in all losses; None: all alike.
    """
    weights = None if class_weights is None else class_weights.double().numpy()
    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[: cfg.samples])
    splits = list(folds_of(y[rows], [groups[row] for row in rows], cfg.folds, seed))
    best: HeadChoice | None = None
    for scaling in SCALINGS if cfg.scaling == "auto" else (cfg.scaling,):
        axes = Axes.of(x[rows], scaling)
        u = axes.coordinates(x[rows])
        c, loss, logits = choose_penalty(u, axes.variances, y[rows], classes, splits, cfg.grid(), weights)
        if best is None or loss < best.loss:
            unseen = np.full((len(x), classes), np.nan)
            unseen[rows] = logits
            best = HeadChoice(axes, scaling, c, loss, unseen)
    assert best is not None
    return best


def choose_penalty(
    u: Floats,
    variances: Floats,
    y: Ints,
    classes: int,
    splits: Sequence[tuple[Ints, Ints]],
    grid: Sequence[float],
    weights: Floats | None = None,
) -> tuple[float, float, Floats]:
    """Return the best C of the grid, its cross-validated loss in nats, and the logits of unseen samples.

    From the strongest penalty to weaker ones, until two in a row are worse than the best so far.
    """
    if not splits:
        return float(np.sqrt(grid[0] * grid[-1])), float("inf"), np.full((len(u), classes), np.nan)
    starts: list[Floats | None] = [None] * len(splits)
    best: tuple[float, float, Floats] | None = None
    worse = 0
    for c in grid:
        logits = np.zeros((len(u), classes))
        for number, (fitted, asked) in enumerate(splits):
            head = solve(u[fitted], variances, y[fitted], classes, c, starts[number], weights, ROUGH)
            starts[number] = head
            logits[asked] = u[asked] @ head[:-1] + head[-1]
        loss = objective(logits, y, weights)[0] / len(u)
        if best is None or loss < best[1]:
            best, worse = (c, loss, logits), 0
        elif (worse := worse + 1) == 2:
            break
    assert best is not None
    return best
