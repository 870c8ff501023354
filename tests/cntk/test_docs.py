"""The page of operations is what the rows say."""

from __future__ import annotations

from pathlib import Path

from sol.cntk.codes import NAMES
from sol.cntk.docs import page
from sol.cntk.rows import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "operators-cntk.md"


def test_every_row_is_on_the_page() -> None:
    for code, function in ROWS.items():
        assert f"| {code} | {NAMES[code]} |" in page()
        assert function.__doc__


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m sol.cntk.docs > docs/operators-cntk.md"
    )
