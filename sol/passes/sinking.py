"""Moves go down, towards the results, past operators that do not mind: there they meet and cancel.

`op(permute(x))` becomes `permute(op(x))` for element-wise operators, reductions and softmax, and so
does reshape (expand does in broadcasts.py). Slices go up where that removes work. What has to be
moved too, to fit the other side, is static, so nothing is added to a call.

Rules of the pass `simplify`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

from sol.core.dims import Dim
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import aligned, inverse, regrouped
from sol.passes.operators import BINARY, CONTRACTIONS, REDUCTIONS, UNARY

# ---- permute, reshape: down ---------------------------------------------------


def _under_unary(rw: Rewriter, m: Match) -> Node | None:
    """`relu(permute(x))` -> `permute(relu(x))`; so for reshape, and all operators of one input"""
    if rw.is_static(m.root):
        return None  # computed once, wherever the move stands
    return rw.again(m["move"], rw.again(m.root, m["x"]))


def _under_binary(rw: Rewriter, m: Match) -> Node | None:
    """`add(permute(x), S)` -> `permute(add(x, S'))`, S static or a number, S' moved back

    And `add(permute(x), permute(y))` of the same kind -> `permute(add(x, y))`; so for reshape.
    """
    if rw.is_static(m.root):
        return None  # each side could be moved back to fit the other, for ever
    left, right = rw.inputs_of(m.root)
    for move, other in ((left, right), (right, left)):
        if move.op not in ("permute", "reshape") or move.shape != m.root.shape:
            continue
        (x,) = rw.inputs_of(move)
        fitting = _moved_back(rw, move, x, other)
        if fitting is None:
            continue
        operands = (x, fitting) if move is left else (fitting, x)
        inner = rw.again(m.root, *operands)
        return rw.again(move, inner) if inner.shape == x.shape else None
    return None


def _moved_back(rw: Rewriter, move: Node, x: Node, other: Node) -> Node | None:
    """An operand of `move(x)` as an operand of `x`, if that costs nothing at run time."""
    if other.tensor.rank == 0:
        return other
    if (other.op, other.attrs) == (move.op, move.attrs):
        (y,) = rw.inputs_of(other)
        return y if y.shape == x.shape else None
    if not rw.is_static(other):
        return None
    if move.op == "permute":
        shape = aligned(other.shape, move.tensor.rank)
        wide = other if other.shape == shape else rw.add("reshape", other, shape=shape)
        return rw.add("permute", wide, axes=inverse(move["axes"]))
    back = regrouped(other.shape, move.shape, x.shape)
    return None if back is None else rw.add("reshape", other, shape=back)


def _under_reduction(rw: Rewriter, m: Match) -> Node:
    """`sum(permute(x))` -> `permute(sum(x))` over the same axes; so for mean, max, …"""
    axes, node = m["p"]["axes"], m.root
    over = tuple(sorted(axes[a] for a in node["axes"]))
    inner = rw.add(node.op, m["x"], axes=over, keepdims=node["keepdims"])
    if node["keepdims"]:
        return rw.again(m["p"], inner)
    kept = [a for a in axes if a not in over]
    return rw.add("permute", inner, axes=tuple(sorted(kept).index(a) for a in kept))


def _under_softmax(rw: Rewriter, m: Match) -> Node:
    """`softmax(permute(x))` -> `permute(softmax(x))` along the same axis; so for cumsum"""
    inner = rw.add(m.root.op, m["x"], axis=m["p"]["axes"][m.root["axis"]])
    return rw.again(m["p"], inner)


def _row_operator(node: Node, x: Node) -> bool:
    """Whether a node treats each row of x, along the last axis, by itself."""
    match node.op:
        case "linear":
            return True
        case "layer_norm" | "rms_norm":
            return bool(node["axes_count"] == 1)
        case "softmax" | "log_softmax":
            return bool(node["axis"] == x.tensor.rank - 1)
        case _:
            return False


def _under_rows(rw: Rewriter, m: Match) -> Node | None:
    """`linear(reshape(x))` -> `reshape(linear(x))`, where the last axis stays; so for layer_norm,
    rms_norm, softmax
    """
    move, *parameters = rw.inputs_of(m.root)
    if move.op != "reshape" or not _row_operator(m.root, move):
        return None
    (x,) = rw.inputs_of(move)
    if x.tensor.rank == 0 or move.tensor.rank == 0 or x.shape[-1] != move.shape[-1]:
        return None
    attrs = dict(m.root.attrs)
    if "axis" in attrs:
        attrs["axis"] = x.tensor.rank - 1
    inner = rw.add(m.root.op, x, *parameters, **attrs)
    return rw.add("reshape", inner, shape=m.root.shape)


# ---- slice: up ----------------------------------------------------------------


def _removes_work(rw: Rewriter, cut: Node, below: Node) -> bool:
    """Whether a slice keeps at most half, and what it cuts is not made by a contraction.

    An operator behind a contraction is computed with it, on registers, and so costs nothing; a
    slice in between would end that.
    """
    whole, kept = below.shape[cut["axis"]], cut.shape[cut["axis"]]
    if isinstance(whole, Dim) or isinstance(kept, Dim) or 2 * kept > whole:
        return False
    sources = (i for i in rw.inputs_of(below) if not rw.is_static(i))
    return not any(i.op in CONTRACTIONS.split("|") for i in sources)


def _slice_first(rw: Rewriter, m: Match) -> Node | None:
    """`slice(relu(x))` -> `relu(slice(x))`, if at most half is kept; so for add, layer_norm, …"""
    cut, below = m.root, m["below"]
    inputs = rw.inputs_of(below)
    rows = _row_operator(below, inputs[0])
    if not _removes_work(rw, cut, below) or (rows and cut["axis"] == below.tensor.rank - 1):
        return None
    if below.op in (*UNARY.split("|"), *BINARY.split("|")):
        return rw.again(below, *(_cut(rw, cut, i, below) for i in inputs))
    if not rows or below.op == "linear":
        return None
    return rw.again(below, rw.again(cut, inputs[0]), *inputs[1:])


def _cut(rw: Rewriter, cut: Node, operand: Node, below: Node) -> Node:
    """The part of an operand that a part of the result needs: all of it where it broadcasts."""
    axis = cut["axis"] - (below.tensor.rank - operand.tensor.rank)
    if axis < 0 or (operand.shape[axis] == 1 != below.shape[cut["axis"]]):
        return operand
    return rw.add("slice", operand, **{**dict(cut.attrs), "axis": axis})


RULES: tuple[Rule, ...] = (
    rule(f"{UNARY}(permute|reshape:move(x))", _under_unary),
    rule(f"{BINARY}(*)", _under_binary),
    rule(f"{REDUCTIONS}(permute:p(x))", _under_reduction),
    rule("softmax|log_softmax|cumsum(permute:p(x))", _under_softmax),
    rule("linear|layer_norm|rms_norm|softmax|log_softmax(*)", _under_rows),
    rule(
        f"slice(!{UNARY}|{BINARY}|layer_norm|rms_norm|softmax|log_softmax:below(*))", _slice_first
    ),
)
