"""A contraction cluster as a plain convolution of one image plus what follows it: the form in which
libraries take convolutions and linear layers.

Libraries compute dense tensors with channels innermost, one image at a time. `describe_task` checks
that a cluster is of that kind and says why not; `bands` cuts an image into bands of rows, so that
threads share one image and a band stays in the cache for the epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sol.core.dtypes import F32
from sol.ir.expr import Expr, axis, from_linear, linear, load, substitute, walk
from sol.ir.graph import Graph, Node
from sol.kernels.operands import ACCUMULATED, Product, describe
from sol.lower.ranges import extent_of
from sol.lower.units import decode
from sol.plan.fuse import chain_between, root_index
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan

Sizes = tuple[int, ...]
ROW = axis("library_row", 1 << 40)


@dataclass(frozen=True, slots=True)
class Convolution:
    """Sizes of one image's convolution: channels of all groups, then a number per spatial axis."""

    groups: int
    inputs: int
    outputs: int
    size: Sizes
    window: Sizes
    stride: Sizes
    dilation: Sizes
    low: Sizes
    high: Sizes

    @property
    def result(self) -> Sizes:
        """The spatial sizes of the result."""
        numbers = zip(self.size, self.window, self.stride, self.dilation, self.low, self.high)
        return tuple((x + lo + hi - (w - 1) * d - 1) // s + 1 for x, w, s, d, lo, hi in numbers)

    def flat(self) -> Convolution:
        """A 1x1 convolution that reads every pixel once, with its pixels as one axis."""
        plain = {*self.window, *self.stride} == {1} and not any((*self.low, *self.high))
        if not plain:
            return self
        one = (1,)
        return Convolution(
            self.groups,
            self.inputs,
            self.outputs,
            (math.prod(self.size),),
            one,
            one,
            one,
            (0,),
            (0,),
        )

    def band(self, first: int, last: int) -> Convolution:
        """What computes the rows [first, last) of the result; its size is 0 or less if these
        rows see nothing but padding.
        """
        begin = first * self.stride[0] - self.low[0]
        reach = (self.window[0] - 1) * self.dilation[0] + 1
        end = (last - 1) * self.stride[0] + reach - self.low[0]
        size = min(end, self.size[0]) - max(begin, 0)
        low, high = max(0, -begin), max(0, end - self.size[0])
        return replace(
            self,
            size=(size, *self.size[1:]),
            low=(low, *self.low[1:]),
            high=(high, *self.high[1:]),
        )


@dataclass(frozen=True, slots=True)
class Task:
    """A cluster as a convolution and its epilogue.

    source, result: values in memory; source_at, result_at: the element at which the image begins.
    bias, add: loads that the library adds itself, as (value, element at which it begins). rest:
    the result's element in terms of ACCUMULATED, which is what the library leaves.
    """

    convolution: Convolution
    product: Product
    source: str
    source_at: Expr
    result_at: Expr
    bias: tuple[str, Expr] | None
    add: tuple[str, Expr] | None
    rest: Expr


def describe_task(plan: Plan, cluster: Cluster, lanes: int) -> Task | str:
    """A contraction cluster as a task, or the reason why it is none."""
    root = plan.graph[cluster.root]
    if root.op not in ("conv", "linear"):
        return f"{root.op} is not handed to it"
    product = describe(plan, cluster, lanes)
    x, convolution = _operands(plan, root)
    at = _root_at(plan, cluster, product)
    rows = decode(ROW, product.rows)
    channel = axis("library_channel", convolution.inputs)
    element = _source_element(plan, root, x, convolution, (channel, *at), rows)
    if element.op != "load":
        return f"its input is computed while it is read ({x.op})"
    if element.dtype != F32:
        return f"its input is {element.dtype}"
    flat = plan.places[element.value].flat(element.args)
    begin = _begin(flat, {ROW: convolution.inputs, channel: 1})
    if begin is None:
        return "its input does not lie in memory row by row with channels innermost"
    if root.op == "linear":
        convolution = replace(convolution, size=(math.prod(extents(product.rows)),))
    elif not _in_order(at, convolution.result, rows):
        return "its results are not stored in the order in which it computes them"
    whole = _whole(plan, product, rows, convolution.outputs)
    end = whole(load(product.end, F32, *product.index))
    if end is None:
        return "its results do not lie in memory row by row with channels innermost"
    bias, add, rest = _additions(plan, product, rows, whole)
    return Task(convolution.flat(), product, element.value, begin, end, bias, add, rest)


def extents(axes: Sequence[Expr]) -> list[int]:
    """Extents of axes that do not depend on the batch."""
    found = [extent_of(a) for a in axes]
    assert all(isinstance(e, int) for e in found)
    return [e for e in found if isinstance(e, int)]


# ---- operands ----------------------------------------------------------------------------------


def _operands(plan: Plan, root: Node) -> tuple[Node, Convolution]:
    """The input of the contraction, and its sizes (of a linear layer: without rows)."""
    graph = plan.graph
    x = graph[root.inputs[0]]
    if root.op == "linear":
        inputs, outputs = x.shape[-1], root.shape[-1]
        assert isinstance(inputs, int)
        assert isinstance(outputs, int)
        one = (1,)
        return x, Convolution(1, inputs, outputs, one, one, one, one, (0,), (0,))
    sizes = _conv_sizes(graph, root)
    if x.op != "pad" or x.name in plan.stored or not _zeros_around(x):
        return x, sizes
    low = tuple(a + b for a, b in zip(sizes.low, x["low"][2:]))
    high = tuple(a + b for a, b in zip(sizes.high, x["high"][2:]))
    x = graph[x.inputs[0]]
    size = tuple(s for s in x.shape[2:] if isinstance(s, int))
    return x, replace(sizes, size=size, low=low, high=high)


def _zeros_around(pad: Node) -> bool:
    """Whether a padding adds zeros around the spatial axes."""
    amounts = (*pad["low"], *pad["high"])
    outside = (*pad["low"][:2], *pad["high"][:2])
    zero = pad["mode"] == "constant" and pad["value"] == 0.0
    return zero and not any(outside) and min(amounts) >= 0


def _conv_sizes(graph: Graph, root: Node) -> Convolution:
    def numbers(shape: Sequence[object]) -> Sizes:
        assert all(isinstance(s, int) for s in shape)
        return tuple(s for s in shape if isinstance(s, int))

    x, weight = graph[root.inputs[0]], graph[root.inputs[1]]
    inputs, *size = numbers(x.shape[1:])
    (outputs,) = numbers(root.shape[1:2])
    low, high = zip(*root["padding"])
    return Convolution(
        root["groups"],
        inputs,
        outputs,
        tuple(size),
        numbers(weight.shape[2:]),
        tuple(root["stride"]),
        tuple(root["dilation"]),
        tuple(low),
        tuple(high),
    )


def _root_at(plan: Plan, cluster: Cluster, product: Product) -> tuple[Expr, ...]:
    """The index of the contraction that belongs to an element of the cluster's result, both over
    the axes of the product.
    """
    graph, end = plan.graph, cluster.values[-1]
    chain = [*chain_between(graph, cluster.root, end), end]
    index = root_index(graph, graph[cluster.root], chain)
    assert index is not None
    axes = dict(zip(axes_for(graph[end]), product.index))
    return tuple(substitute(i, axes) for i in index)


def _source_element(
    plan: Plan,
    root: Node,
    x: Node,
    sizes: Convolution,
    at: tuple[Expr, ...],
    rows: dict[Expr, Expr],
) -> Expr:
    """The element of the input in row ROW of its image; `at`: its channel, and the index of the
    contraction.
    """
    channel, *index = at
    inline = Inliner(plan.graph, plan.stored)
    if root.op == "linear":
        return inline.element(x.name, (*(substitute(i, rows) for i in index[:-1]), channel))
    places = [axis(f"library_{n}", s) for n, s in enumerate(sizes.size)]
    spatial = decode(ROW, places)
    return inline.element(x.name, (index[0], channel, *(spatial[p] for p in places)))


def _in_order(at: tuple[Expr, ...], shape: Sizes, rows: dict[Expr, Expr]) -> bool:
    """Whether row r of the result is pixel r of the convolution."""
    pixel = at[2]
    for i, size in zip(at[3:], shape[1:]):
        pixel = pixel * size + i
    return math.prod(shape) == 1 or substitute(pixel, rows) is ROW


def _begin(flat: Expr, steps: dict[Expr, int]) -> Expr | None:
    """The part of a linear index that does not depend on some axes; None if it does not depend on
    them by these steps. Steps of axes that run over a single element do not count.
    """
    constant, terms = linear(flat)
    for a, step in steps.items():
        if extent_of(a) != 1 and terms.pop(a, step if a is ROW else 0) != step:
            return None
    if any(a in walk(term) for term in terms for a in steps):
        return None
    return from_linear(constant, terms)


# ---- epilogues ---------------------------------------------------------------------------------


def _whole(
    plan: Plan, product: Product, rows: dict[Expr, Expr], outputs: int
) -> Callable[[Expr], Expr | None]:
    """Says where a load begins that runs over a whole image of results, channels innermost."""

    def begin(x: Expr) -> Expr | None:
        place = plan.places.get(x.value)
        if place is None or place.dtype != F32:
            return None
        flat = place.flat(tuple(substitute(i, rows) for i in x.args))
        if product.rows and math.prod(extents(product.rows)) > 1 and ROW not in walk(flat):
            return None
        return _begin(flat, {ROW: outputs, **_channels(product)})

    return begin


def _channels(product: Product) -> dict[Expr, int]:
    group = {product.group: product.columns} if product.group is not None else {}
    return {product.column: 1, **group}


def _additions(
    plan: Plan,
    product: Product,
    rows: dict[Expr, Expr],
    whole: Callable[[Expr], Expr | None],
) -> tuple[tuple[str, Expr] | None, tuple[str, Expr] | None, Expr]:
    """What a library adds (bias, a tensor like the result), and the epilogue that is left."""

    def per_channel(x: Expr) -> Expr | None:
        place = plan.places.get(x.value)
        if place is None or place.dtype != F32:
            return None
        flat = place.flat(tuple(substitute(i, rows) for i in x.args))
        begin = _begin(flat, _channels(product))
        return begin if begin is not None and begin.op == "const" else None

    rest, bias = _added(product.value, per_channel)
    rest, add = _added(rest, whole)
    return bias, add, rest


def _added(
    value: Expr, begin: Callable[[Expr], Expr | None]
) -> tuple[Expr, tuple[str, Expr] | None]:
    """f(ACCUMULATED + load) -> f(ACCUMULATED), load   where the library can add that load."""
    users = [p for p in walk(value) if ACCUMULATED in p.args]
    if len(users) != 1 or users[0].op != "add":
        return value, None
    (total,) = users
    other = total.args[1] if total.args[0] is ACCUMULATED else total.args[0]
    first = begin(other) if other.op == "load" else None
    if first is None:
        return value, None
    return substitute(value, {total: ACCUMULATED}), (other.value, first)
