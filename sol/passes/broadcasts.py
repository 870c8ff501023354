"""What is the same for every image is computed for one: `expand` goes down, past what repeats.

Language models compute masks and positions for the whole batch from what does not depend on it;
here that becomes a constant. Rules of the pass `simplify`; each is `before -> after` in the
docstring of its function.
"""

from __future__ import annotations

from sol.core.dims import Shape
from sol.core.dtypes import I64
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import aligned, regrouped
from sol.passes.operators import BINARY, TERNARY, UNARY


def _repeated(rw: Rewriter, node: Node, rank: int) -> set[int]:
    """The axes, of `rank` aligned ones, along which all elements are known to be equal."""
    shape = aligned(node.shape, rank)
    equal = {k for k, s in enumerate(shape) if s == 1}
    if node.op == "expand":
        source = aligned(rw.inputs_of(node)[0].shape, rank)
        equal |= {k for k, s in enumerate(source) if s == 1}
    return equal


def _shrunk(rw: Rewriter, node: Node, axes: set[int], rank: int) -> Node:
    """A value with size 1 along these axes, along which it is repeated."""
    shape = aligned(node.shape, rank)
    if all(shape[k] == 1 for k in axes):
        return node
    (source,) = rw.inputs_of(node)
    wanted = tuple(1 if k in axes else s for k, s in enumerate(shape))
    while len(wanted) > source.tensor.rank and wanted[0] == 1:
        wanted = wanted[1:]
    return source if source.shape == wanted else rw.add("expand", source, shape=wanted)


def _elementwise(rw: Rewriter, m: Match) -> Node | None:
    """`add(expand(x), y)` -> `expand(add(x, y))`, along axes along which y repeats too

    So for all element-wise operators.
    """
    operands, shape = rw.inputs_of(m.root), m.root.shape
    if not any(o.op == "expand" for o in operands):
        return None
    rank = len(shape)
    axes = set.intersection(*(_repeated(rw, o, rank) for o in operands))
    axes = {k for k in axes if shape[k] != 1}
    if not axes:
        return None
    inner = rw.again(m.root, *(_shrunk(rw, o, axes, rank) for o in operands))
    return rw.add("expand", inner, shape=shape)


def _slice(rw: Rewriter, m: Match) -> Node:
    """`slice(expand(x))` -> `expand(slice(x))`; along an axis that repeats -> `expand(x)`"""
    cut, wide, x = m.root, m["e"], m["x"]
    axis = cut["axis"] - (wide.tensor.rank - x.tensor.rank)
    if axis < 0 or x.shape[axis] != wide.shape[cut["axis"]]:
        return rw.add("expand", x, shape=cut.shape)
    return rw.add(
        "expand", rw.add("slice", x, **{**dict(cut.attrs), "axis": axis}), shape=cut.shape
    )


def _reshape(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(expand(x))` -> `expand(reshape(x))`, if no repeated axis is joined with another"""
    x, wide = m["x"], m["e"]
    shape = regrouped(x.shape, wide.shape, m.root.shape)
    if shape is None or shape == m.root.shape:
        return None
    return rw.add("expand", rw.add("reshape", x, shape=shape), shape=m.root.shape)


def _concat(rw: Rewriter, m: Match) -> Node | None:
    """`concat(expand(x), expand(y))` -> `expand(concat(x, y))`, along axes that repeat in both"""
    parts, shape = rw.inputs_of(m.root), m.root.shape
    rank = len(shape)
    axes = set.intersection(*(_repeated(rw, p, rank) for p in parts))
    axes = {k for k in axes if shape[k] != 1 and k != m.root["axis"]}
    if not axes:
        return None
    shrunk = [_shrunk(rw, p, axes, rank) for p in parts]
    whole = [p if p.tensor.rank == rank else _filled_up(rw, p, rank) for p in shrunk]
    return rw.add("expand", rw.again(m.root, *whole), shape=shape)


def _filled_up(rw: Rewriter, x: Node, rank: int) -> Node:
    """x with axes of size 1 in front."""
    return rw.add("reshape", x, shape=aligned(x.shape, rank))


def _along(rw: Rewriter, m: Match) -> Node | None:
    """`cumsum(expand(x))` -> `expand(cumsum(x))`, along another axis; so for softmax"""
    wide, x = m["e"], m["x"]
    axis = m.root["axis"] - (wide.tensor.rank - x.tensor.rank)
    if axis < 0 or x.shape[axis] != wide.shape[m.root["axis"]]:
        return None
    return rw.add("expand", rw.add(m.root.op, x, axis=axis), shape=wide.shape)


def _index(rw: Rewriter, m: Match) -> Node | None:
    """`index(expand(x), i, j)` -> `expand(index(x, 0, j))`, i the index of an axis that repeats"""
    wide, *indices = rw.inputs_of(m.root)
    if wide.op != "expand":
        return None
    (x,) = rw.inputs_of(wide)
    source = _filled_up(rw, x, wide.tensor.rank) if x.tensor.rank < wide.tensor.rank else x
    any_place = [source.shape[a] == 1 != wide.shape[a] for a in m.root["axes"]]
    chosen = [_first(rw, i) if free else i for i, free in zip(indices, any_place)]
    return rw.add("expand", rw.again(m.root, source, *chosen), shape=m.root.shape)


def _first(rw: Rewriter, index: Node) -> Node:
    """The index 0, with as many axes."""
    ones: Shape = (1,) * index.tensor.rank
    return rw.add("full", shape=ones, value=0, dtype=I64)


RULES: tuple[Rule, ...] = (
    rule(f"{UNARY}|{BINARY}|{TERNARY}(*)", _elementwise),
    rule("slice(expand:e(x))", _slice),
    rule("reshape(expand:e(x))", _reshape),
    rule("concat(*)", _concat),
    rule("cumsum|softmax|log_softmax(expand:e(x))", _along),
    rule("index(*)", _index),
)
