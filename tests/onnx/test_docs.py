"""The page of operators is what the rows say."""

from __future__ import annotations

from pathlib import Path

from sol.onnx.docs import page

PAGE = Path(__file__).parents[2] / "docs" / "operators-onnx.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
