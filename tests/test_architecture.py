"""Imports point one way, frameworks stay in their folders, and every module says what it is for.

Function-level imports count: a cycle that hides in a function is still a cycle of ideas.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Lowest first. A part may import itself and what stands above it here; parts of one row are
# independent of each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("ir",),
    ("ops",),
    ("passes",),
    ("plan",),
    ("lower",),
    ("kernels",),
    ("backends",),
    ("runtime",),
    ("observe",),
    ("libraries",),
    ("recorded", "options"),
    ("steps",),
    ("assembly",),
    ("pieces",),
    ("compiled",),
    ("compiler",),
    ("training", "updates"),
    ("tune",),
    ("deploy", "report"),
    ("race", "accuracy", "findings"),
    ("arrays",),
    ("pytorch", "tensorflow", "onnx", "mxnet", "cntk"),
    ("frontends",),
    ("bench",),
    ("cli",),
)
ROW = {part: row for row, parts in enumerate(ORDER) for part in parts}
FRAMEWORKS = {
    "torch": "pytorch",
    "torchvision": None,
    "timm": None,
    "transformers": None,
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "onnx": "onnx",
    "mxnet": "mxnet",
    "cntk": "cntk",
}
MODULES = sorted((ROOT / "sol").rglob("*.py"))
ENTRANCES = {ROOT / "sol" / "__init__.py", ROOT / "sol" / "__main__.py"}  # they see everything


def part_of(path: Path) -> str:
    """sol/ir/graph.py -> ir, sol/compiler.py -> compiler."""
    return path.relative_to(ROOT / "sol").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from sol import cache` and `from sol.ir import graph` may name modules
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", sorted(set(MODULES) - ENTRANCES), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in ROW, f"{part} has no place in the import order: add it to docs and to ORDER"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "sol":
            other = rest.split(".")[0]
            if other not in ROW:
                continue  # an attribute of the package itself, such as sol.__version__
            assert other == part or ROW[other] < ROW[part], f"{path}: {part} may not import {name}"
        elif top in FRAMEWORKS:
            allowed = {FRAMEWORKS[top], "bench"}
            assert part in allowed, f"{path}: only {allowed} may import {top}"


def test_the_order_is_the_documented_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Imports point one way"))
    documented = line.split("`")[1].replace("frameworks", "pytorch").split(" < ")
    rows = [ROW[row.split(" | ")[0]] for row in documented]
    assert rows == sorted(rows)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} does not say what it is for"
