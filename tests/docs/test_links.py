"""What README and docs name exists: files, headings, symbols, commands, make targets, extras."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sol.cli import parser
from tests.docs.pages import ROOT, blocks, need_frameworks, pages

PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *pages()]
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"sol(?:\.[A-Za-z_]\w*)+")
_PATH = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+\.\w+)?")
_TOP = {p.name for p in ROOT.iterdir()}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    for block in reversed(blocks(text)):
        text = text[: block.start] + text[block.stop :]
    return text


def links(page: Path) -> list[tuple[str, str]]:
    """Text and target of the links of a page; `inputs[k](*index)` in code is none."""
    text = _CODE.sub(lambda m: m[0] if m[1].isidentifier() else "", prose(page))
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def symbols(path: Path) -> set[str]:
    """What a module defines at its top, and the names of a C or Markdown file: everything in it."""
    if path.suffix != ".py":
        return set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found.update(t.id for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for text, target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"[{text}]({target})"
        if anchor:
            assert anchor in anchors(path), f"[{text}]({target}): {sorted(anchors(path))}"
        if re.fullmatch(r"`\w+`", text):  # a symbol: the file defines it
            assert text.strip("`") in symbols(path), f"{target} has no {text}"


@each_page
def test_files_exist(page: Path) -> None:
    for code in _CODE.findall(prose(page)):
        if not _PATH.fullmatch(code) or "…" in code:
            continue
        known = code.split("/")[0] in _TOP
        assert (ROOT / code).exists() or (not known and (ROOT / "sol" / code).exists()), code


def resolved(name: str) -> object:
    """A dotted name: a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ImportError(name)


@each_page
def test_symbols_can_be_imported(page: Path) -> None:
    need_frameworks(page.read_text(encoding="utf-8"))
    for code in _CODE.findall(prose(page)):
        for name in _DOTTED.findall(re.sub(r"\w+\.sol\.\w+", "", code)):  # fast.sol.check
            if not name.endswith((".py", ".c", ".h")):
                assert resolved(name) is not None


@each_page
def test_python_blocks_are_python_and_their_imports_resolve(page: Path) -> None:
    need_frameworks(page.read_text(encoding="utf-8"))
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language != "python" or block.info:
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sol":
                for alias in node.names:
                    resolved(f"{node.module}.{alias.name}")


# ---- commands ------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    """Commands of blocks in sh or no language: up to a comment or a gap of several spaces."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in ("", "sh"):
            for line in block.code.splitlines():
                command = re.split(r"\s{2,}|\s#", line.strip().removeprefix("$ "))[0]
                if re.match(r"(sol|make|python|pip) ", command):
                    yield shlex.split(command)


def inline_commands(page: Path) -> Iterator[list[str]]:
    """Commands in the text, unless they are only named: `sol bench NETWORK…`."""
    for code in _CODE.findall(prose(page)):
        if re.match(r"(sol|make|python|pip) ", code) and not re.search(r"…|[A-Z]{4,}", code):
            yield shlex.split(code)


@each_page
def test_commands_are_right(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for command in (*commands(page), *inline_commands(page)):
        match command:
            case ["sol", "bench"]:
                pass  # named without arguments
            case ["sol", *arguments]:
                parser().parse_args(arguments)
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
            case ["python", "-m", module, *_]:
                assert importlib.util.find_spec(module), command
            case ["python", script, *_]:
                assert (ROOT / script).exists(), command
            case ["pip", "install", what]:
                for extra in re.findall(r"\[(.*)\]", what):
                    assert re.search(rf"^{extra} = ", extras, re.MULTILINE), command


def test_every_page_is_reached_from_the_readme() -> None:
    """By links, over other pages."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for _, target in links(page):
            path = (page.parent / target.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.exists():
                waiting.append(path)
    assert set(pages()) <= seen, sorted(p.name for p in set(pages()) - seen)
