import re
from dataclasses import replace

import pytest

from steps.core.evaluation.evaluation import EvaluationResult, evaluate_models
from steps.core.report.test_results_page import render_evaluation, worst_mistakes
from tests.core.toys import LABELS, BrightestChannelModel, Pictures

HISTORY = [{"epoch": n, "train_loss": 1 / n, "val_loss": 1.1 / n} for n in (1, 2)]
MAIN = BrightestChannelModel(known=("blue", "green"))
HISTORIES = {"warm_head": HISTORY, "finetuned": HISTORY, "student": HISTORY}


@pytest.fixture(scope="module")
def verdict(pictures: Pictures) -> EvaluationResult:
    models = {"warm_head": BrightestChannelModel(), "finetuned": MAIN, "student": BrightestChannelModel()}
    rows = pictures.table[pictures.table["split"] == "test"]
    return evaluate_models(models, rows, LABELS, pictures.folder(), 40, 0, robustness_samples=3)


def test_the_mistakes_are_the_fine_tuned_model_s_most_confident_first(
    verdict: EvaluationResult, pictures: Pictures
) -> None:
    found = worst_mistakes(verdict, MAIN, pictures.folder(), 10)
    assert len(found) == 2
    assert all(row["label"] == "red" and row["answer"] != "red" for row in found)
    assert found[0]["confidence"] >= found[1]["confidence"]
    assert worst_mistakes(verdict, MAIN, pictures.folder(), 1) == found[:1]


def test_the_page_needs_nothing_from_elsewhere(verdict: EvaluationResult, pictures: Pictures) -> None:
    page = render_evaluation(verdict, HISTORIES, MAIN, pictures.folder(), 5)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 4 + 2 * 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_page_says_what_the_interval_says(verdict: EvaluationResult, pictures: Pictures) -> None:
    for low, high, says in ((0.1, 0.2, "pays"), (-0.2, -0.1, "hurts"), (-0.1, 0.2, "Not decided")):
        gain = {**verdict.metrics["gain"], "accuracy": {"value": 0.0, "low": low, "high": high}}
        told = replace(verdict, metrics={**verdict.metrics, "gain": gain})
        page = render_evaluation(told, HISTORIES, MAIN, pictures.folder(), 1)
        found = [word for word in ("pays", "hurts", "Not decided") if word in page]
        assert found == [says]


def test_names_from_the_data_are_text_and_no_markup(verdict: EvaluationResult, pictures: Pictures) -> None:
    evil = "<script>alert(1)</script>"
    table = verdict.predictions.assign(label=evil)
    page = render_evaluation(replace(verdict, predictions=table), HISTORIES, MAIN, pictures.folder(), 3)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_the_same_verdict_gives_the_same_page(verdict: EvaluationResult, pictures: Pictures) -> None:
    pages = {render_evaluation(verdict, HISTORIES, MAIN, pictures.folder(), 3) for _ in range(2)}
    assert len(pages) == 1


def test_the_page_shows_what_worse_pictures_cost(verdict: EvaluationResult, pictures: Pictures) -> None:
    page = render_evaluation(verdict, HISTORIES, MAIN, pictures.folder(), 1)
    assert "When samples get worse" in page
    without = replace(verdict, metrics={**verdict.metrics, "robustness": []})
    assert "When samples get worse" not in render_evaluation(without, HISTORIES, MAIN, pictures.folder(), 1)


def test_a_model_without_mistakes_has_none_to_show(verdict: EvaluationResult, pictures: Pictures) -> None:
    table = verdict.predictions.assign(finetuned=verdict.predictions["label"])
    page = render_evaluation(replace(verdict, predictions=table), HISTORIES, MAIN, pictures.folder(), 3)
    assert "<p>None.</p>" in page
