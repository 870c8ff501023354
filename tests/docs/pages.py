"""Runs the pages of docs/: every Python block, and compares what it prints with what is shown.

    ```python            executed; all blocks of a page share one namespace
    ```text or ```c      directly behind it: its output, in which … stands for anything
    ```python sol/x.py   an excerpt: these lines stand in that file, … for what was left out
    <!-- name -->        what follows, up to <!-- end -->, is written by a function of GENERATED

`python -m tests.docs.pages --renew [PAGE …]` writes outputs and generated parts anew, without
`--renew` it compares. A page runs in a process of its own, for pages may add operators.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTPUTS = ("text", "c")
_FENCE = re.compile(r"^```(\w*)[ \t]*(.*?)[ \t]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the rest of that line, its text, and where that is."""

    language: str
    info: str
    code: str
    start: int
    stop: int
    follows: bool  # nothing stands between the block before and this one


class StaleError(AssertionError):
    """A page does not say what the code does."""


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    end = -1
    for m in _FENCE.finditer(text):
        follows = end >= 0 and not text[end : m.start()].strip()
        found.append(Block(m[1], m[2], m[3], m.start(3), m.end(3), follows))
        end = m.end()
    return found


def need_frameworks(text: str) -> None:
    """Skip a test of a page whose framework is not installed."""
    for name in ("keras", "tensorflow"):
        if f"import {name}" in text:
            pytest.importorskip(name)


# ---- settings and errors as tables ---------------------------------------------------------------


def settings() -> str:
    """The settings of sol.core.config, as a table."""
    from sol.core.config import KNOBS

    rows = ["| variable | values | default | what it is |", "|---|---|---|---|"]
    for knob in KNOBS:
        shown = _default(knob.default)
        rows.append(f"| `{knob.variable}` | {knob.values} | {shown} | {knob.help} |")
    return "\n".join(rows) + "\n"


def _default(value: object) -> str:
    """A default as one would write it."""
    match value:
        case bool():
            return f"`{int(value)}`"
        case int() if value % 2**30 == 0:
            return f"`{value // 2**30}GiB`"
        case None | "":
            return ""
    return f"`{value}`"


def errors() -> str:
    """The tree of errors, from the docstring of sol.core.errors."""
    from sol.core import errors as module

    tree = (module.__doc__ or "").split("\n\n")[1]
    return f"```\n{textwrap.dedent(tree).rstrip()}\n```\n"


GENERATED: dict[str, Callable[[], str]] = {"settings": settings, "errors": errors}

# ---- running -------------------------------------------------------------------------------------


def renewed(text: str) -> str:
    """The page with outputs and generated parts as they are now; what still holds stays as it is.

    Raises StaleError where that cannot be mended: an excerpt, a block that prints and does not show
    it, a block that fails.
    """
    text = _PART.sub(lambda m: f"<!-- {m[1]} -->\n{GENERATED[m[1]]()}<!-- end -->", text)
    namespace: dict[str, Any] = {"__name__": "page"}
    changes: list[tuple[int, int, str]] = []
    printed: str | None = None
    for block in blocks(text):
        if printed and not (block.follows and block.language in OUTPUTS):
            raise StaleError(f"the block before {block.code[:80]!r} prints:\n{printed}")
        if printed is not None and block.follows and block.language in OUTPUTS:
            if not matches(block.code, printed):
                changes.append((block.start, block.stop, printed))
            printed = None
        elif block.language == "python" and block.info:
            _check_excerpt(block)
        elif block.language == "python":
            printed = _run(block, namespace, text)
    if printed:
        raise StaleError(f"the last block prints:\n{printed}")
    for start, stop, output in reversed(changes):
        text = text[:start] + output + text[stop:]
    return text


def _run(block: Block, namespace: dict[str, Any], text: str) -> str:
    """What a block prints; its line numbers are those of the page."""
    line = text.count("\n", 0, block.start)
    out = io.StringIO()
    code = compile("\n" * line + block.code, "<page>", "exec", dont_inherit=True)
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
    printed = out.getvalue()
    return "".join(f"{row.rstrip()}\n" for row in printed.rstrip().splitlines())


def matches(pattern: str, printed: str) -> bool:
    """Whether a text is the shown one: … on a line of its own is any lines, within one any text."""
    parts = [re.escape(part) for part in re.split(r"(?m)^ *…\n", pattern)]
    expression = r"(?:.*\n)*".join(part.replace("…", r".*") for part in parts)
    return re.fullmatch(expression, printed) is not None


def _check_excerpt(block: Block) -> None:
    """The lines of an excerpt stand in its file, in this order and without others between them."""
    source = (ROOT / block.info).read_text(encoding="utf-8")
    at = 0
    for part in re.split(r"(?m)^ *…\n", block.code):
        found = _find_lines(part, source, at)
        if found < 0:
            raise StaleError(f"{block.info} does not contain:\n{part}")
        at = found


def _find_lines(part: str, source: str, start: int) -> int:
    """Where some lines end in a text, whatever both are indented by; -1 if they are not there."""
    wanted = textwrap.dedent(part)
    for m in re.finditer(r"(?m)^ *", source[start:]):
        begin = start + m.start()
        piece = "".join(source[begin:].splitlines(True)[: wanted.count("\n")])
        if textwrap.dedent(piece) == wanted:
            return begin + len(piece)
    return -1


def pages() -> list[Path]:
    """The pages that are run."""
    return sorted(DOCS.glob("*.md"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or renew pages, each in a process of its own; 1 if one was stale and still is."""
    parser = argparse.ArgumentParser(description="run the pages of docs/")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--renew", action="store_true", help="write outputs anew")
    chosen = parser.parse_args(arguments)
    if len(chosen.pages) == 1:
        return one_page(chosen.pages[0], chosen.renew)
    again = [sys.executable, "-m", "tests.docs.pages", *(["--renew"] if chosen.renew else [])]
    every = chosen.pages or pages()
    return max(subprocess.run([*again, str(p)], cwd=ROOT, check=False).returncode for p in every)


def one_page(page: Path, renew: bool) -> int:
    """Check or renew one page; 1 if it was stale and still is."""
    os.environ.setdefault("SOL_NEVER_SLOWER", "0")  # what was measured differs from run to run
    text = page.read_text(encoding="utf-8")
    new = renewed(text)
    if new == text:
        return 0
    if renew:
        page.write_text(new, encoding="utf-8")
        return 0
    shown = text.splitlines(), new.splitlines()
    changes = difflib.unified_diff(*shown, str(page), "what the code does", lineterm="", n=2)
    print("\n".join([*changes, f"renew it: python -m tests.docs.pages --renew {page}"]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
