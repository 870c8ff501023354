"""The page of operators is what the entries say."""

from __future__ import annotations

from pathlib import Path

from sol.ops import PUBLIC
from sol.ops.docs import page

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_every_operator_is_on_the_page() -> None:
    for name in PUBLIC:
        assert f"**`{name}(" in page()


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m sol.ops.docs > docs/operators.md"
    )
