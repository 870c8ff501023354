"""The pages of docs/ say what the code does: their Python blocks run, their outputs are right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sol.core.device import detect
from tests.docs.pages import ROOT, StaleError, blocks, matches, need_frameworks, pages, renewed


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.stem)
def test_a_page_is_fresh(page: Path) -> None:
    """In a process of its own: pages may add operators and rows."""
    text = page.read_text(encoding="utf-8")
    if not any(b.language == "python" for b in blocks(text)):
        assert renewed(text) == text
        return
    need_frameworks(text)
    if 'detect("avx2")' in text and detect().isa not in ("avx2", "avx512"):
        pytest.skip("the page runs a program for AVX2, which this processor does not have")
    name = str(page.relative_to(ROOT))
    command = [sys.executable, "-m", "tests.docs.pages", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- the runner itself ---------------------------------------------------------------------------


def page(*parts: str) -> str:
    return "".join(f"```{part}```\n" for part in parts)


def test_outputs_are_renewed_and_what_holds_is_kept() -> None:
    text = page("python\nx = 2\nprint(x, 'ms')\nprint(x + 1)\n", "text\n… ms\n4\n")
    assert renewed(text) == text.replace("… ms\n4\n", "2 ms\n3\n")
    kept = text.replace("4\n", "3\n")
    assert renewed(kept) == kept


def test_a_namespace_is_shared_by_all_blocks() -> None:
    text = page("python\nx = 2\n", "sh\nsol devices\n", "python\nprint(x)\n", "text\n2\n")
    assert renewed(text) == text


def test_a_block_that_fails_names_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as failed:
        renewed("text\n\n" + page("python\nx = 1\nx / 0\n"))
    assert failed.traceback[-1].lineno == 4  # counted from 0


def test_what_is_printed_must_be_shown() -> None:
    with pytest.raises(StaleError, match="prints"):
        renewed(page("python\nprint(1)\n"))
    with pytest.raises(StaleError, match="prints"):
        renewed(page("python\nprint(1)\n") + "prose\n" + page("text\n1\n"))


def test_an_excerpt_stands_in_its_file() -> None:
    good = "def blocks(text: str) -> list[Block]:\n    …\n    return found\n"
    assert renewed(page(f"python tests/docs/pages.py\n{good}"))
    with pytest.raises(StaleError, match="does not contain"):
        renewed(page(f"python tests/docs/pages.py\n{good.replace('found', 'lost')}"))


@pytest.mark.parametrize(
    ("pattern", "printed", "same"),
    [
        ("a\n…\nb\n", "a\nb\n", True),
        ("a\n…\nb\n", "a\nx\ny\nb\n", True),
        ("a … b\n", "a 12.5 % b\n", True),
        ("a … b\n", "a 1\n2 b\n", False),
        ("a.\n", "ab\n", False),
        ("a\n", "a\nb\n", False),
    ],
)
def test_an_ellipsis_stands_for_anything(pattern: str, printed: str, same: bool) -> None:
    assert matches(pattern, printed) is same


def test_generated_parts() -> None:
    text = renewed("<!-- settings -->\nold\n<!-- end -->\n")
    assert "| `SOL_CACHE_DIR` | a directory |" in text
    assert renewed(text) == text
