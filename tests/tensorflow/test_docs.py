"""The page of layers and operations is what the tables of rows say."""

from __future__ import annotations

from pathlib import Path

from sol.tensorflow.docs import text

PAGE = Path(__file__).parents[2] / "docs" / "operators-tensorflow.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), (
        "run: python -m sol.tensorflow.docs > docs/operators-tensorflow.md"
    )
