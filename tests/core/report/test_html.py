import pytest
from jinja2 import UndefinedError

from steps.core.report.html import TEMPLATES, render


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
