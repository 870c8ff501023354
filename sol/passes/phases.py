"""Transposed convolutions as ordinary ones, without the work that stride makes them waste.

A result at q * s + a reads only the taps t with t = (a + p) mod s, so the results of one phase a
are a plain convolution with these taps, turned round. The phases lie interleaved in the result. Its
element-wise users go into the parts, where they are epilogues. Weights of phases are static.

Rules of the pass `phases`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dims import Dim
from sol.ir.graph import Graph, Node
from sol.ir.rewrite import Fuel, Match, Rule, rewrite, rule
from sol.ir.rewriter import Rewriter
from sol.ops.registry import infer
from sol.passes.axes import varies_only_along
from sol.passes.operators import BINARY, UNARY

_MOST_PHASES = 16  # each is a kernel of its own


@dataclass(frozen=True, slots=True)
class _Phase:
    """One phase of one axis: taps `first + j * step` of the turned kernel, and the padding.

    Negative padding is cropping. results: how many places it has.
    """

    first: int
    step: int
    taps: int
    low: int
    high: int
    results: int


def _phases(node: Node, axis: int, kernel: int, extent: int) -> list[_Phase] | None:
    """All phases of a spatial axis; None if they cannot be told apart."""
    s, p, d = (node[name][axis] for name in ("stride", "padding", "dilation"))
    total = node.shape[2 + axis]
    if isinstance(total, Dim) or total < s or (s > 1 and d > 1):
        return None
    found = []
    for a in range(s):
        first = (a + p) % s
        taps = max(0, -(-(kernel - first) // s))
        results = -(-(total - a) // s)
        reach = d * (taps - 1)
        low = reach - (a + p - first) // s
        high = results + reach - extent - low
        found.append(_Phase((kernel - 1 - first) % s, s, taps, low, high, results))
    return found


def _to_phases(rw: Rewriter, m: Match) -> Node | None:
    """`conv_transpose(x, W, b)` -> `interleave(conv(x, W_0, b), conv(x, W_1, b), …)`

    One convolution for each phase of the result; with stride 1 it is a single one. Where there are
    too many, one has them all: see `_side_by_side`. What is dilated and strided on one axis stays.
    """
    x, weight, *bias = rw.inputs_of(m.root)
    if not rw.is_static(weight):
        return None
    if math.prod(m.root["stride"]) > _MOST_PHASES:
        return _side_by_side(rw, m.root, x, weight, bias)
    kernel, extents = weight.shape[2:], x.shape[2:]
    ways = []
    for axis, (taps, extent) in enumerate(zip(kernel, extents)):
        assert isinstance(taps, int)
        phases = None if isinstance(extent, Dim) else _phases(m.root, axis, taps, extent)
        if phases is None:
            return None
        ways.append(phases)
    turned = _turned(rw, weight, m.root["groups"])
    parts = []
    for phase in itertools.product(*ways):
        part = _part(rw, m.root, x, turned, bias, phase)
        if part is None:
            return None
        parts.append(part)
    axes = tuple(2 + k for k, s in enumerate(m.root["stride"]) if s > 1)
    steps = tuple(s for s in m.root["stride"] if s > 1)
    return rw.add("interleave", *parts, axes=axes, steps=steps) if axes else parts[0]


def _turned(rw: Rewriter, weight: Node, groups: int) -> Node:
    """[I, O/g, k…] as the weight of a convolution, [O, I/g, k…], each kernel turned round."""
    inputs, per_group, *kernel = weight.shape
    assert isinstance(inputs, int)
    assert isinstance(per_group, int)
    rank = weight.tensor.rank
    turned = weight
    if any(k != 1 for k in kernel):
        turned = rw.add("flip", weight, axes=tuple(range(2, rank)))
    if groups == 1:
        return rw.add("permute", turned, axes=(1, 0, *range(2, rank)))
    split = (groups, inputs // groups, per_group, *kernel)
    turned = rw.add("reshape", turned, shape=split)
    turned = rw.add("permute", turned, axes=(0, 2, 1, *range(3, rank + 1)))
    return rw.add("reshape", turned, shape=(groups * per_group, inputs // groups, *kernel))


def _part(
    rw: Rewriter,
    node: Node,
    x: Node,
    turned: Node,
    bias: Sequence[Node],
    phase: Sequence[_Phase],
) -> Node | None:
    """The results of one phase."""
    if any(p.taps == 0 for p in phase):
        return _without_taps(rw, node, bias, phase)
    weight = turned
    for axis, p in enumerate(phase, 2):
        x = _cropped(rw, x, axis, max(0, -p.low), max(0, -p.high))
        if p.step > 1:
            stop = weight.shape[axis]
            weight = rw.add("slice", weight, axis=axis, start=p.first, stop=stop, step=p.step)
    if any(s == 0 for s in x.shape[2:]):
        return None
    padding = tuple((max(0, p.low), max(0, p.high)) for p in phase)
    ones = (1,) * len(phase)
    attrs = {"padding": padding, "dilation": node["dilation"], "groups": node["groups"]}
    return rw.add("conv", x, weight, *bias, stride=ones, **attrs)


def _without_taps(rw: Rewriter, node: Node, bias: Sequence[Node], phase: Sequence[_Phase]) -> Node:
    """A phase that no tap reaches, as the kernel is shorter than the stride."""
    shape = (*node.shape[:2], *(p.results for p in phase))
    if not bias:
        return rw.add("full", shape=shape, value=0.0, dtype=node.dtype)
    column = rw.add("reshape", bias[0], shape=(node.shape[1], *(1 for _ in phase)))
    return rw.add("expand", column, shape=shape)


def _cropped(rw: Rewriter, x: Node, axis: int, low: int, high: int) -> Node:
    if not low and not high:
        return x
    return rw.add("slice", x, axis=axis, start=low, stop=x.shape[axis] - high, step=1)


# ---- all phases in one product -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far the phases of one axis of stride s reach, all together.

    The results at q * s + a read x[q + m - low] with m < taps, by the weight v[s * (taps - 1 - m)
    + a] of the kernel v, which is padded by `pads` to taps * s.
    """

    stride: int
    taps: int
    pads: tuple[int, int]
    low: int
    high: int
    places: int

    @staticmethod
    def of(s: int, p: int, kernel: int, extent: int, total: int) -> _Reach:
        """Of an axis of the input's `extent` and the result's `total`, with padding p."""
        low, last = (kernel - 1 - p) // s, (s - 1 + p) // s
        taps, places = last + low + 1, -(-total // s)
        before = s * last - p
        pads = (before, taps * s - before - kernel)
        return _Reach(s, taps, pads, low, places - extent - low + taps - 1, places)


def _side_by_side(
    rw: Rewriter, node: Node, x: Node, weight: Node, bias: Sequence[Node]
) -> Node | None:
    """`conv_transpose(x, W)` -> `reshape(permute(reshape(conv(x, W'))))`, all phases as channels

    W' has zeros where a phase reads less than all phases together; so an infinite input makes NaN
    of its neighbours' results too, as in Winograd's algorithm.
    """
    rank, stride = weight.tensor.rank - 2, node["stride"]
    sizes = (*weight.shape, *x.shape[2:], *node.shape[2:])
    if node["groups"] > 1 or set(node["dilation"]) != {1}:
        return None
    _, results, *rest = (s for s in sizes if isinstance(s, int))
    kernel, extents, totals = rest[:rank], rest[rank : 2 * rank], rest[2 * rank :]
    reach = [_Reach.of(*a) for a in zip(stride, node["padding"], kernel, extents, totals)]
    for axis, r in enumerate(reach, 2):
        x = _cropped(rw, x, axis, max(0, -r.low), max(0, -r.high))
    if any(s == 0 for s in x.shape[2:]):
        return None
    count = math.prod(stride)
    columns = [rw.add("repeat", b, repeats=(count,)) for b in bias]
    ones = (1,) * rank
    y = rw.add(
        "conv", x, _all_phases(rw, weight, reach), *columns, stride=ones, dilation=ones, groups=1,
        padding=tuple((max(0, r.low), max(0, r.high)) for r in reach),
    )  # fmt: skip
    places = tuple(r.places for r in reach)
    y = rw.add("reshape", y, shape=(x.shape[0], *stride, results, *places))
    pairs = (k for n in range(rank) for k in (2 + rank + n, 1 + n))
    y = rw.add("permute", y, axes=(0, 1 + rank, *pairs))
    full = (r.places * r.stride for r in reach)
    y = rw.add("reshape", y, shape=(x.shape[0], results, *full))
    for axis, total in enumerate(totals, 2):
        y = _cropped(rw, y, axis, 0, int(str(y.shape[axis])) - total)
    return y


def _all_phases(rw: Rewriter, weight: Node, reach: Sequence[_Reach]) -> Node:
    """[I, O, k…] as [s… O, I, taps…]: the weights of all phases as results."""
    inputs, results = weight.shape[:2]
    rank = len(reach)
    low, high = ((0, 0, *(r.pads[k] for r in reach)) for k in (0, 1))
    padded = rw.add("pad", weight, low=low, high=high, mode="constant", value=0.0)
    split = (s for r in reach for s in (r.taps, r.stride))
    apart = rw.add("reshape", padded, shape=(inputs, results, *split))
    taps, strides = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    turned = rw.add("flip", apart, axes=tuple(taps))
    columns = rw.add("permute", turned, axes=(*strides, 1, 0, *taps))
    count = math.prod(r.stride for r in reach)
    shape = (count * results, inputs, *(r.taps for r in reach))
    return rw.add("reshape", columns, shape=shape)


# ---- element-wise users ------------------------------------------------------


def _into_parts(rw: Rewriter, m: Match) -> Node | None:
    """`relu(interleave(a, b))` -> `interleave(relu(a), relu(b))`; so for all unary operators"""
    whole = m["whole"]
    return rw.again(whole, *(rw.again(m.root, part) for part in rw.inputs_of(whole)))


def _both_into_parts(rw: Rewriter, m: Match) -> Node | None:
    """`mul(interleave(a, b), S)` -> `interleave(mul(a, S), mul(b, S))`, S one number per channel

    And `add(interleave(a, b), interleave(c, d))` -> `interleave(add(a, c), add(b, d))`.
    """
    operands = rw.inputs_of(m.root)
    wholes = [n for n in operands if _is_whole(rw, m.root, n)]
    if not wholes:
        return None
    whole = wholes[0]
    columns = []
    for operand in operands:
        if operand in wholes and operand.attrs == whole.attrs:
            columns.append(rw.inputs_of(operand))
        elif _along_channels(rw, operand, whole):
            columns.append((operand,) * len(whole.inputs))
        else:
            return None
    return rw.again(whole, *(rw.again(m.root, *inputs) for inputs in zip(*columns)))


def _is_whole(rw: Rewriter, root: Node, node: Node) -> bool:
    return node.op == "interleave" and rw.is_single(node) and node.shape == root.shape


def _along_channels(rw: Rewriter, operand: Node, whole: Node) -> bool:
    return rw.is_static(operand) and varies_only_along(operand.shape, whole.tensor.rank, 1)


RULES: tuple[Rule, ...] = (
    rule("conv_transpose(*)", _to_phases),
    rule(f"{UNARY}(!interleave:whole(*))", _into_parts),
    rule(f"{BINARY}|prelu(*)", _both_into_parts),
)


def phases(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`conv_transpose(x, W)` -> `interleave(conv(x, W_0), conv(x, W_1), …)`, and so its users."""
    return rewrite(graph, RULES, infer, fuel)
