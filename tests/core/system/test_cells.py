import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.core.system.cells import FORMULAS, quoted, unquoted


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1"])
def test_nothing_that_a_spreadsheet_would_run_begins_a_cell(text: str) -> None:
    assert not quoted(text).startswith(FORMULAS)
    assert unquoted(quoted(text)) == text
    assert unquoted(text) == text, "where the spreadsheet has taken the apostrophe away"


@given(st.text())
def test_a_cell_is_read_back_as_it_was(text: str) -> None:
    assert unquoted(quoted(text)) == text or text.startswith("'")
