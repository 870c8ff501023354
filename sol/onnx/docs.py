"""Writes docs/operators-onnx.md: what becomes of every operator of ONNX's standard.

`python -m sol.onnx.docs > docs/operators-onnx.md` renews the page; a test fails where it is not
fresh.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import onnx

from sol.onnx.control import CONTROL
from sol.onnx.host import HOST, REFUSED
from sol.onnx.rows import ROWS
from sol.onnx.sequences import SEQUENCES
from sol.onnx.sizes import OF_ANY

_HEAD = """# Operators of ONNX

Generated from the rows in `sol/onnx/rows/` by `python -m sol.onnx.docs > docs/operators-onnx.md`;
do not edit. All versions of an operator up to the newest one of the installed `onnx` package are
read. Every node whose inputs are constants, or sizes, is computed while a model is read.
"""
_BY_NUMPY = """## By NumPy

NumPy computes these between the parts that Sol compiles, and `explain` names them with the reason;
all of them in every type that NumPy has. Where a row stands above, NumPy takes what it does not.
Operators of any kind on floating-point numbers of less than 16 bits are NumPy's, too.
"""
_BY_FUNCTION = """## By other operators

The standard says these in other operators, and Sol reads those.
"""
_CONTROL = """## Control flow

- `If`: the branch of a condition that is known, or that an input of the model or a value before it
  decides: each branch is a program of its own.
- `Loop`: unrolled, if the number of rounds and the condition follow from constants and inputs.
- `Scan`: unrolled.

Functions of the model are put in place of their calls.
"""
_SEQUENCES = """## Sequences and optional values

Taken apart while a model is read, if their lengths and the places of elements follow from constants
and inputs. As inputs and outputs of a model they are refused.
"""


def page() -> str:
    """The whole page, in Markdown."""
    families: dict[str, dict[Callable[..., Any], list[str]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for name, row in sorted(ROWS.items()):
        module = row.translate.__module__.rpartition(".")[2]
        families[module][_group(name, row.translate)].append(name)
    parts = [_HEAD]
    for module in sorted(families):
        parts.append(f"## {module.capitalize()}\n")
        parts.append("\n".join(_lines(families[module])) + "\n")
    parts.append(_CONTROL)
    parts.append(_SEQUENCES)
    parts.append("\n".join(f"- `{n}`: {_text_after(f)}" for n, f in SEQUENCES.items()) + "\n")
    parts.append(_BY_FUNCTION)
    parts.append(", ".join(f"`{name}`" for name in _by_function()) + "\n")
    parts.append(_BY_NUMPY)
    parts.append("\n".join(f"- `{name}`: {reason}" for name, reason in sorted(HOST.items())) + "\n")
    parts.append("## Refused\n")
    parts.append(", ".join(f"`{name}`" for name in sorted(REFUSED - set(CONTROL))) + "\n")
    return "\n".join(parts)


def _group(name: str, translate: Callable[..., Any]) -> Callable[..., Any]:
    """Rows that a table makes have no text of their own and stand together."""
    return translate if translate.__doc__ else _plain


def _plain() -> None:
    """What the name says, as one operator of Sol or a few."""


def _lines(family: dict[Callable[..., Any], list[str]]) -> Iterator[str]:
    for translate, names in family.items():
        doc = " ".join((translate.__doc__ or "").split())
        yield f"- {', '.join(f'`{name}`' for name in names)}: {doc}"


def _text_after(function: Callable[..., Any]) -> str:
    """The docstring of a function, without the name before the colon."""
    return " ".join((function.__doc__ or "").split()).partition(": ")[2]


def _by_function() -> list[str]:
    known = {*ROWS, *HOST, *CONTROL, *SEQUENCES, *REFUSED, *OF_ANY}
    schemas = onnx.defs.get_all_schemas()
    return sorted(
        s.name
        for s in schemas
        if s.domain == "" and s.name not in known
        if s.has_function or s.has_context_dependent_function
    )


if __name__ == "__main__":
    print(page(), end="")
