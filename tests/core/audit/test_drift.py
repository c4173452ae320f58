"""The drift tests keep their false-alarm rate, and find what has moved."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom

from steps.core.audit.drift import Reference, first_rows, predicted_label_p_value, run_drift_tests

DRAWS, LEVEL = 200, 0.10
CLASSES = ("a", "b", "c")
BACKBONE = {"name": "test", "weights": "file"}


def draw(generator: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Vectors with correlated columns, as a network's are."""
    mixing = np.random.default_rng(7).normal(size=(12, 12))
    z: np.ndarray = (generator.normal(size=(count, 12)) @ mixing + shift).astype(np.float32)
    return z


def reference(generator: np.random.Generator) -> tuple[Reference, list[str]]:
    answers = list(generator.choice(CLASSES, 150, p=[0.5, 0.3, 0.2]))
    counts = pd.Series(answers).value_counts()
    kept = {str(label): int(n) for label, n in counts.items()}
    new = list(generator.choice(CLASSES, 60, p=[0.5, 0.3, 0.2]))
    return Reference(draw(generator, 100), kept, BACKBONE), new


def test_the_false_alarm_rate_over_200_draws_without_drift_is_the_stated_level() -> None:
    alarms = 0
    for number in range(DRAWS):
        generator = np.random.default_rng(number)
        old, answers = reference(generator)
        rows = run_drift_tests(old, draw(generator, 60), answers, LEVEL, 99, number)
        alarms += any(row["drift"] for row in rows)
    low, high = binom.ppf([0.0005, 0.9995], DRAWS, LEVEL)
    assert low <= alarms <= high, f"{alarms} of {DRAWS} at level {LEVEL}"
    print(f"{alarms} false alarms in {DRAWS} draws at level {LEVEL}")


def test_vectors_that_moved_are_found_and_named() -> None:
    generator = np.random.default_rng(0)
    old, answers = reference(generator)
    rows = {row["test"]: row for row in run_drift_tests(old, draw(generator, 60, 2.0), answers, 0.05, 99, 0)}
    assert rows["z"]["drift"]
    assert rows["z"]["limit"] == 0.025
    assert not rows["predicted labels"]["drift"]


def test_answers_that_moved_are_found_and_named() -> None:
    generator = np.random.default_rng(0)
    old, _ = reference(generator)
    rows = {row["test"]: row for row in run_drift_tests(old, draw(generator, 60), ["c"] * 60, 0.05, 99, 0)}
    assert rows["predicted labels"]["drift"]
    assert not rows["z"]["drift"]


def test_one_label_that_was_always_the_only_one_is_no_drift() -> None:
    assert predicted_label_p_value({"a": 30}, ["a"] * 10, 99, 0) == 1.0
    assert predicted_label_p_value({"a": 30}, ["new"] * 10, 99, 0) <= 0.01


def test_a_reference_too_small_to_tell_anything_from_raises_no_alarm() -> None:
    generator = np.random.default_rng(0)
    tiny = Reference(draw(generator, 2), {"a": 5}, BACKBONE)
    assert not any(
        row["drift"] for row in run_drift_tests(tiny, draw(generator, 20, 9.0), ["a"] * 20, 0.05, 99, 0)
    )


def test_the_reference_reads_what_it_wrote_in_half_precision(tmp_path: Path) -> None:
    old, _ = reference(np.random.default_rng(1))
    (tmp_path / "reference.safetensors").write_bytes(old.bytes())
    again = Reference.read(tmp_path / "reference.safetensors")
    np.testing.assert_array_equal(again.z, old.z.astype(np.float16).astype(np.float32))
    assert (again.predicted, again.backbone) == (old.predicted, old.backbone)


def test_a_sample_is_the_first_rows_of_those_that_are_asked_for() -> None:
    mask = np.array([False, True, True, False, True])
    assert first_rows(mask, 2).tolist() == [False, True, True, False, False]
    assert first_rows(mask, 9).tolist() == mask.tolist()
