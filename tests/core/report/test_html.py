import pytest
from jinja2 import UndefinedError

from steps.core.report.html import TEMPLATES, markdown, render, with_contents


def test_a_template_that_is_given_too_little_is_refused() -> None:
    with pytest.raises(UndefinedError):
        render("evaluation.html")


def test_no_template_asks_for_anything_from_elsewhere() -> None:
    templates = sorted(TEMPLATES.glob("*.html"))
    assert len(templates) >= 3
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert "http" not in text
        assert "<script" not in text
        assert "<link" not in text


def test_the_contents_link_to_every_heading_with_an_id() -> None:
    data = '<h2 id="data">The data: <b class="good">pass</b></h2>'
    page = f'<nav></nav>{data}<h2>no place</h2><h2 id="rates">Rates</h2>'
    filled = with_contents(page)
    assert '<nav><a href="#data">The data: pass</a> <a href="#rates">Rates</a></nav>' in filled
    assert filled.count("<nav>") == 1
    assert with_contents("<h2 id='x'>no nav</h2>") == "<h2 id='x'>no nav</h2>"


def finding(check: str, verdict: str) -> dict[str, str]:
    return {"check": check, "verdict": verdict, "observed": "1 of 9", "remedy": "look"}


def test_checks_that_passed_are_folded_away_and_what_was_found_stands_first() -> None:
    findings = [finding("sizes differ", "pass"), finding("labels look wrong", "warn"), finding("<i>", "pass")]
    page = render(
        "audit.html", verdict="warn", samples=9, left_out=0, leak_impact=None, findings=findings, galleries=[]
    )
    shown, folded = page.split("<details>")
    assert "labels look wrong" in shown
    assert "sizes differ" not in shown
    assert "2 checks passed" in folded
    assert "&lt;i&gt;" in folded
    all_good = render(
        "audit.html",
        verdict="pass",
        samples=9,
        left_out=0,
        leak_impact=None,
        findings=findings[:1],
        galleries=[],
    )
    assert all_good.count("<table>") == 1


def test_a_card_shows_what_a_class_is_called_and_runs_none_of_it() -> None:
    name = "rust|blight <img src=x onerror=alert(1)>\n# head"
    assert markdown(name) == r"rust\|blight &lt;img src=x onerror=alert(1)&gt; # head"
    assert markdown("Gray_Leaf_Spot (2)") == "Gray_Leaf_Spot (2)"
    assert markdown("[link](javascript:1)") == r"\[link\](javascript:1)"
