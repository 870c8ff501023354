"""Parts that are cut and joined again: slices of concatenations and the other way round.

Rules of the pass `simplify`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter


def _slice_of_concat(rw: Rewriter, m: Match) -> Node | None:
    """`slice(concat(a, b))` of what lies in b -> `slice(b)`"""
    cut, joined = m.root, m["c"]
    axis, start, stop = cut["axis"], cut["start"], cut["stop"]
    if joined["axis"] != axis or not isinstance(start, int) or not isinstance(stop, int):
        return None
    offset = 0
    for part in rw.inputs_of(joined):
        size = part.shape[axis]
        if not isinstance(size, int):
            return None
        if offset <= start and stop <= offset + size:
            within = {"start": start - offset, "stop": stop - offset, "step": cut["step"]}
            return rw.add("slice", part, axis=axis, **within)
        offset += size
    return None


def _concat_of_slices(rw: Rewriter, m: Match) -> Node | None:
    """`concat(x[a:b], x[b:c], y)` -> `concat(x[a:c], y)`; a slice of all of x is x"""
    axis = m.root["axis"]
    parts: list[Node] = []
    for part in rw.inputs_of(m.root):
        joined = _joined(rw, parts[-1], part, axis) if parts else None
        if joined is None:
            parts.append(part)
        else:
            parts[-1] = joined
    return rw.again(m.root, *parts) if len(parts) < len(m.root.inputs) else None


def _joined(rw: Rewriter, a: Node, b: Node, axis: int) -> Node | None:
    """The slice that two neighbouring slices of one value are."""
    for node in (a, b):
        if node.op != "slice" or node["axis"] != axis or node["step"] != 1:
            return None
    if a.inputs != b.inputs or a["stop"] != b["start"]:
        return None
    (x,) = rw.inputs_of(a)
    return rw.add("slice", x, axis=axis, start=a["start"], stop=b["stop"], step=1)


def _rotated(rw: Rewriter, m: Match) -> Node | None:
    """`concat(x[s:n], x[0:s])` -> `roll(x)` by n - s"""
    back, front = m["a"], m["b"]
    (x,), axis = rw.inputs_of(back), m.root["axis"]
    size = x.shape[axis]
    for node in (back, front):
        if node.inputs != (x.name,) or node["axis"] != axis or node["step"] != 1:
            return None
    whole = front["start"] == 0 and back["stop"] == size and front["stop"] == back["start"]
    if not whole or not isinstance(size, int) or not isinstance(back["start"], int):
        return None
    return rw.add("roll", x, axes=(axis,), shifts=(size - back["start"],))


RULES: tuple[Rule, ...] = (
    rule("slice(concat:c(*))", _slice_of_concat),
    rule("concat(*)", _concat_of_slices),
    rule("concat(slice:a(*), slice:b(*))", _rotated),
)
