"""Strategies through all phases: features alone, and a head on several stages, tuned and distilled."""

from pathlib import Path
from typing import Any

import pytest

from steps import PHASES
from steps.artifacts.decision import Decision
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier, Student
from steps.artifacts.plan import Plan
from steps.artifacts.report import Report
from steps.core.backbones.network import frozen_digest
from steps.core.backbones.readout import Readout
from tests.clone import Clone, make_clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = make_clone(tmp_path_factory.mktemp("strategy") / "project")
    done = made.phases(*PHASES[: PHASES.index("choose_strategy")])
    assert done.returncode == 0, done.stderr[-3000:]
    return made


def run(clone: Clone, **choice: Any) -> None:
    clone.set_params(choose_strategy=choice)
    done = clone.phases(*PHASES[PHASES.index("choose_strategy") :])
    assert done.returncode == 0, done.stderr[-3000:]


def loaded(clone: Clone, kind: Any, name: str) -> Any:
    return kind.load(clone.folder / "artifacts" / name)


def test_where_features_are_enough_the_phases_pass_the_head_through_and_say_why(clone: Clone) -> None:
    run(clone, strategy="auto", readout="auto")
    plan: Plan = loaded(clone, Plan, "plan")
    assert plan.skipped is not None, "pictures whose colour is their class leave no mistake"
    assert "mistakes to be expected in 19 validation samples" in plan.skipped
    assert plan.rows[0]["value"] >= plan.predicted["value"] > 0.9
    prefix: Features = loaded(clone, Features, "prefix")
    assert not prefix.shards
    for kind, name in ((Classifier, "finetuned"), (Student, "student")):
        assert loaded(clone, kind, name).headline() == {"skipped": plan.skipped}
    warm: Classifier = loaded(clone, Classifier, "warm_head")
    assert warm.meta["readout"] == plan.readout
    assert len(warm.network().stages) == plan.readout["keep"]
    report: Report = loaded(clone, Report, "report")
    assert (list(report.metrics["models"]), report.candidate) == (["warm_head"], "warm_head")
    assert "gain" not in report.metrics
    decision: Decision = loaded(clone, Decision, "decision")
    assert decision.verdict == "promoted"


def test_a_head_on_several_stages_is_tuned_cut_exported_and_agrees_with_its_file(clone: Clone) -> None:
    clone.set_params(fine_tune={"unfreeze": 1}, distill={"candidates": "auto"})
    reading = {"first": 2, "keep": 5, "deviations": True}
    run(clone, strategy="partial", readout=reading)
    plan: Plan = loaded(clone, Plan, "plan")
    assert (plan.boundary, plan.skipped, plan.rows) == (3, None, [])
    warm, tuned = (loaded(clone, Classifier, name) for name in ("warm_head", "finetuned"))
    assert warm.meta["readout"] == tuned.meta["readout"] == reading
    assert frozen_digest(tuned.network(), 3) == frozen_digest(warm.network(), 3)
    assert frozen_digest(tuned.network(), 4) != frozen_digest(warm.network(), 4)
    student: Student = loaded(clone, Student, "student")
    assert student.choice["chosen"] == "first 4 stages"
    assert Readout.of(student.meta) == Readout(2, 4, True)
    report: Report = loaded(clone, Report, "report")
    assert {"gain", "student_loss"} <= set(report.metrics)
    decision: Decision = loaded(clone, Decision, "decision")
    gates = {gate["gate"]: gate for gate in decision.gates}
    parity = [gate for name, gate in gates.items() if name.startswith("parity")]
    assert parity
    assert all(gate["passed"] for gate in parity)


def test_a_readout_that_the_backbone_has_not_is_refused(clone: Clone) -> None:
    clone.set_params(choose_strategy={"readout": {"first": 3, "keep": 9, "deviations": True}})
    done = clone.phases("choose_strategy")
    assert done.returncode == 1
    assert "expected 0 <= first < keep <= 6, the backbone's stages" in done.stderr


def test_the_folder_of_a_plan_is_one_file(tmp_path: Path) -> None:
    plan = Plan(Readout(1, 3, True).to_dict(), 2, None, {}, [], "stages 2 to 3")
    plan.save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan") == plan
    assert Plan.in_words(plan.headline()) == "the head reads stages 2 to 3; then stage 3 is trained"
