"""Scales and shifts of channels that become part of a convolution or a linear layer.

`conv(x, w, b) * S + T` is a convolution with other weights, and so is `conv(x * S + T, w, b)` if
nothing is padded. The new weights are static nodes: they are computed once, and again when a
parameter has changed. Everything multiplied or added here must be static itself and constant along
all axes but that of the channels.

Rules of the pass `batchnorm`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

from sol.core.dims import Shape
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import varies_only_along
from sol.passes.operators import CONTRACTIONS


def _channel_axis(node: Node) -> int:
    """The axis of the channels of a contraction's input and result."""
    return node.tensor.rank - 1 if node.op == "linear" else 1


def _channel_vector(rw: Rewriter, static: Node, shape: Shape, axis: int) -> Node | None:
    """A static operand of a value of `shape` as a vector over `axis`, or a scalar; else None."""
    rank, operand = len(shape), static.shape
    if not varies_only_along(operand, rank, axis):
        return None
    place = axis - (rank - len(operand))
    channels = operand[place] if place >= 0 else 1
    wanted = () if channels == 1 else (shape[axis],)
    if wanted and channels != shape[axis]:
        return None
    return static if operand == wanted else rw.add("reshape", static, shape=wanted)


def _parts(rw: Rewriter, node: Node) -> tuple[Node, Node, Node | None] | None:
    """Input, weight and bias of a contraction whose parameters are static."""
    x, weight, *rest = rw.inputs_of(node)
    if not all(rw.is_static(p) for p in (weight, *rest)):
        return None
    return x, weight, rest[0] if rest else None


# ---- weights times vectors ----------------------------------------------------


def _times_results(rw: Rewriter, node: Node, weight: Node, vector: Node, op: str) -> Node:
    """The weight with each result's part multiplied by (or divided by) its number in `vector`."""
    if vector.tensor.rank == 0:
        return rw.add(op, weight, vector)
    ones = (1,) * (weight.tensor.rank - 2)
    if node.op != "conv_transpose":
        return rw.add(op, weight, rw.add("reshape", vector, shape=(weight.shape[0], 1, *ones)))
    # [I, O/g, k…]: the results of a group are with the inputs of that group
    groups = node["groups"]
    inputs, per_group, *kernel = weight.shape
    split = rw.add("reshape", weight, shape=(groups, inputs // groups, per_group, *kernel))
    factor = rw.add("reshape", vector, shape=(groups, 1, per_group, *ones))
    return rw.add("reshape", rw.add(op, split, factor), shape=weight.shape)


def _by_input(rw: Rewriter, node: Node, weight: Node, vector: Node) -> tuple[Node, Node]:
    """The weight, split into groups, and the vector over inputs so that they broadcast.

    For conv: [g, O/g, I/g, k…] and [g, 1, I/g, 1…]; for linear: [1, O, I] and [1, 1, I].
    """
    groups = 1 if node.op == "linear" else node["groups"]
    results, per_group, *kernel = weight.shape
    split = rw.add("reshape", weight, shape=(groups, results // groups, per_group, *kernel))
    if vector.tensor.rank == 0:
        return split, vector
    shape = (groups, 1, per_group, *(1 for _ in kernel))
    return split, rw.add("reshape", vector, shape=shape)


# ---- behind a contraction -----------------------------------------------------


def _scale_result(rw: Rewriter, m: Match) -> Node | None:
    """`mul(conv(x, w, b), S)` -> `conv(x, w * S, b * S)`; so for div, conv_transpose, linear"""
    node, op = m["c"], m.root.op
    parts = _parts(rw, node)
    vector = _channel_vector(rw, m["S"], node.shape, _channel_axis(node))
    if parts is None or vector is None:
        return None
    x, weight, bias = parts
    inputs = [x, _times_results(rw, node, weight, vector, op)]
    if bias is not None:
        inputs.append(rw.add(op, bias, vector))
    return rw.again(node, *inputs)


def _shift_result(rw: Rewriter, m: Match) -> Node | None:
    """`add(conv(x, w, b), T)` -> `conv(x, w, b + T)`; so for sub, conv_transpose, linear"""
    node = m["c"]
    parts = _parts(rw, node)
    axis = _channel_axis(node)
    vector = _channel_vector(rw, m["T"], node.shape, axis)
    if parts is None or vector is None:
        return None
    x, weight, bias = parts
    if m.root.op == "sub":
        vector = rw.add("neg", vector)
    if bias is not None:
        return rw.again(node, x, weight, rw.add("add", bias, vector))
    if vector.tensor.rank == 0:
        vector = rw.add("expand", vector, shape=(node.shape[axis],))
    return rw.again(node, x, weight, vector)


# ---- before a contraction -----------------------------------------------------


def _scaled_input(rw: Rewriter, m: Match) -> Node | None:
    """`conv(mul(x, S), w)` -> `conv(x, w * S)`; so for linear, and for add where nothing is padded

    `conv(add(x, T), w, b)` -> `conv(x, w, b + Σ w * T)`: in a padded place the shift is missing.
    """
    node = m.root
    parts = _parts(rw, node)
    if parts is None or parts[0].op not in ("mul", "add") or not rw.is_single(parts[0]):
        return None
    scaled, weight, bias = parts
    for x, static in (rw.inputs_of(scaled), rw.inputs_of(scaled)[::-1]):
        if x.type != scaled.type or rw.is_static(x) or not rw.is_static(static):
            continue
        vector = _channel_vector(rw, static, x.shape, _channel_axis(node))
        if vector is None:
            return None
        if scaled.op == "add":
            return _shift_input(rw, node, (x, weight, bias), vector)
        split, factor = _by_input(rw, node, weight, vector)
        product = rw.add("reshape", rw.add("mul", split, factor), shape=weight.shape)
        return rw.again(node, x, product, *rw.inputs_of(node)[2:])
    return None


def _shift_input(
    rw: Rewriter, node: Node, parts: tuple[Node, Node, Node | None], vector: Node
) -> Node | None:
    x, weight, bias = parts
    if node.op == "conv" and any(p for pair in node["padding"] for p in pair):
        return None
    split, shift = _by_input(rw, node, weight, vector)
    axes = tuple(range(2, split.tensor.rank))
    total = rw.add("sum", rw.add("mul", split, shift), axes=axes, keepdims=False)
    total = rw.add("reshape", total, shape=weight.shape[:1])
    return rw.again(node, x, weight, total if bias is None else rw.add("add", bias, total))


RULES: tuple[Rule, ...] = (
    rule(f"mul|div(!{CONTRACTIONS}:c(*), S)", _scale_result),
    rule(f"add|sub(!{CONTRACTIONS}:c(*), T)", _shift_result),
    rule("conv|linear(*)", _scaled_input),
)
