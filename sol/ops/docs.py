"""Writes docs/operators.md: every operator with its signature, meaning and definition.

`python -m sol.ops.docs > docs/operators.md` renews the page; a test fails where it is not fresh.
"""

from __future__ import annotations

import inspect
from typing import get_args

import sol.ops
from sol.ops.registry import Kind, OpDef

_HEAD = """# Operators

Generated from the entries in `sol/ops/` by `python -m sol.ops.docs > docs/operators.md`; do not
edit. An operator is written `name(inputs; attributes)`; inputs in brackets are optional. Shapes are
logical, with the batch first and channels second; axes are counted from the front. What an
operator is made of stands at its end:

- *expression*: an index expression says what stands at every place of the result; the code
  generator inlines it into its neighbours.
- *graph*: it expands into simpler operators before planning, unless a kernel takes it whole.
- *NumPy*: a function of arrays defines it or states it a second time; tests compare them.
"""

_KINDS: dict[str, tuple[str, str]] = {
    "source": ("Sources", "Values that are computed from no others."),
    "elementwise": (
        "Element-wise",
        "Inputs broadcast as in NumPy and are promoted: bool < u8, i8 < i16 < i32 < i64 < f32 < "
        "f64. Fused with whatever produces or reads them.",
    ),
    "move": ("Moving", "The same values at other places: index maps, mostly without a copy."),
    "reduce": ("Reductions", "Over axes of one input. Sums of integers and booleans are i64."),
    "window": ("Windows and interpolation", "Bound by memory: fused depth-first."),
    "norm": ("Normalisation", "Bound by memory: fused depth-first."),
    "contract": ("Contractions", "Bound by arithmetic: tiled kernels with prologue and epilogue."),
    "recurrent": ("Recurrent layers", "Constrained by the order of time."),
}


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD]
    for kind in get_args(Kind):
        title, remark = _KINDS[kind]
        entries = [e for e in sol.ops.OPS.values() if e.kind == kind and e.name in sol.ops.PUBLIC]
        parts.append(f"## {title}\n\n{remark}\n")
        parts.append("\n".join(map(_line, entries)) + "\n")
    return "\n".join(parts)


def _line(entry: OpDef) -> str:
    doc = entry.doc if entry.doc.endswith(".") else entry.doc + "."
    return f"- **`{_signature(entry)}`** — {doc} *{', '.join(_definitions(entry))}*"


def _signature(entry: OpDef) -> str:
    """name(inputs; attributes)."""
    inputs, attributes = [], []
    for name, p in inspect.signature(entry.infer).parameters.items():
        match p.kind:
            case inspect.Parameter.KEYWORD_ONLY:
                attributes.append(name)
            case inspect.Parameter.VAR_POSITIONAL:
                inputs.append(f"[{name}…]")
            case _:
                inputs.append(name)
    return f"{entry.name}({', '.join(inputs)}{'; ' * bool(attributes)}{', '.join(attributes)})"


def _definitions(entry: OpDef) -> list[str]:
    given = (("expression", entry.compute), ("graph", entry.expand), ("NumPy", entry.reference))
    return [name for name, definition in given if definition is not None] or ["memory"]


if __name__ == "__main__":
    print(page(), end="")
