"""The page of MXNet's operators is what the rows say."""

from __future__ import annotations

from pathlib import Path

from sol.mxnet.docs import page
from sol.mxnet.rows import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "operators-mxnet.md"


def test_every_row_says_what_it_does() -> None:
    assert not [name for name, row in ROWS.items() if not row.function.__doc__]


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m sol.mxnet.docs > docs/operators-mxnet.md"
    )
