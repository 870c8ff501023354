"""A contraction as a matrix product: which axes are rows, columns and reduction, and the element of
A for them.

Convolution, transposed convolution, linear layers and matrix products with packed columns take the
same form
    C[row axes, group, column] = sum over k axes of A(row axes, group, k axes) * W[group][k][column]
where row axes are those of the cluster's *result*, behind all element-wise operators, views and
permutations of the epilogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dims import Dim, evaluate
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute, walk, where
from sol.ir.expr import local_value as accumulator_value
from sol.ir.graph import Node
from sol.kernels.pack import Packing
from sol.lower.ranges import extent_of
from sol.plan.facts import NOMINAL_BATCH
from sol.plan.fuse import chain_between, channel_axis, root_index
from sol.plan.inline import Inliner, axes_for
from sol.plan.layout import number
from sol.plan.records import Cluster, Plan

_SPLIT_BELOW = 32  # rows per image below which the windows of an image are joined to its rows
ACCUMULATED = accumulator_value("accumulated")


@dataclass(frozen=True)
class Product:
    """The operands of one contraction.

    outer: axes that are a unit each: the symbolic one, and those that W depends on; rows: the other
    row axes, outer to inner; group, column: axes of the output channel. k: reduction axes, outer to
    inner. a: element of A; value: element of the result in terms of ACCUMULATED; index: its logical
    index.
    w_batch: where W is computed by the network, its leading indices, and the columns per block of
    it.
    """

    outer: tuple[Expr, ...]
    rows: tuple[Expr, ...]
    group: Expr | None
    column: Expr
    columns: int
    k: tuple[Expr, ...]
    a: Expr
    value: Expr
    index: tuple[Expr, ...]
    end: str
    weight: str
    packing: Packing | None
    w_batch: tuple[Expr, ...] = ()
    w_block: int = 0


@dataclass(frozen=True)
class Spine:
    """A contraction and the end of its chain of element-wise users.

    index: where the end's element at `axes` reads the contraction; channel: the axis among them
    that is the output channel; value: the end's element in terms of ACCUMULATED.
    """

    root: Node
    end: Node
    index: tuple[Expr, ...]
    axes: tuple[Expr, ...]
    channel: Expr
    value: Expr

    def outer(self, order: Sequence[int]) -> list[Expr]:
        """Axes of the end, in this order, that are neither output channel nor place of a
        convolution; the symbolic one is outermost."""
        places = self.index[2:]
        return [a for a in self.rows(order) if a not in places]

    def rows(self, order: Sequence[int]) -> list[Expr]:
        """Axes of the end, in this order, but for the output channel; the symbolic one is
        outermost."""
        found = [a for a in (self.axes[k] for k in order) if a.op == "axis"]
        rows = [a for a in found if a is not self.channel]
        return sorted(rows, key=lambda a: isinstance(extent_of(a), int))


def spine(plan: Plan, cluster: Cluster) -> Spine:
    """The spine of a contraction cluster."""
    graph = plan.graph
    root, end = graph[cluster.root], graph[cluster.values[-1]]
    hidden = chain_between(graph, root.name, end.name) if root.name != end.name else []
    chain = [root.name, *hidden[1:], *([end.name] if end.name != root.name else [])]
    index = root_index(graph, root, chain)
    assert index is not None
    axes = axes_for(end)
    channel = channel_axis(root, index)
    assert channel is not None
    return Spine(root, end, index, axes, channel, _epilogue(plan, root, end, index, axes))


def describe(plan: Plan, cluster: Cluster, lanes: int) -> Product:
    """The matrix product of a contraction cluster (tile sizes in `packing` are filled in later)."""
    found = spine(plan, cluster)
    root, end, index, axes, channel = found.root, found.end, found.index, found.axes, found.channel
    groups, columns = grouping(root)
    group = axis("group", groups) if groups > 1 else None
    column = axis("column", columns)
    inline = Inliner(plan.graph, plan.stored)
    oriented = oriented_channel(channel, group, column, columns)
    a, k, k_order = _operand_a(plan, inline, root, index, group)
    w_batch = _dynamic_batch(plan, root, index)
    outer, rows, splits = _row_axes(plan, end, axes, channel, {p for i in w_batch for p in walk(i)})
    mapping = {**oriented, **splits}
    packing = _packing(root, groups, k_order, lanes)
    return Product(
        outer,
        rows,
        group,
        column,
        columns,
        k,
        substitute(a, splits),
        substitute(found.value, mapping),
        tuple(substitute(i, mapping) for i in axes),
        end.name,
        root.inputs[1],
        packing,
        tuple(substitute(i, splits) for i in w_batch),
        root.get("block", 0),
    )


def foreseen(value: Expr, place: Expr) -> list[Expr]:
    """The loads of a value, with linear indices, whose index differs from place to place and is
    known before anything is read: what can be fetched early, also where it does not exist."""
    summed = {a for x in walk(value) if x.op == "reduce" for a in x.args[1:]}
    found = []
    for x in walk(value):
        parts = set(walk(x.args[0])) if x.op == "load" else set()
        if place in parts and not summed & parts and not any(p.op == "load" for p in parts):
            found.append(x)
    return found


def oriented_channel(
    channel: Expr, group: Expr | None, column: Expr, columns: int
) -> dict[Expr, Expr]:
    """The axis of output channels in terms of group and column."""
    if channel.op != "axis":
        return {}
    return {channel: column + (group * columns if group is not None else 0)}


def grouping(root: Node) -> tuple[int, int]:
    """(products, columns of one product)."""
    if root.op not in ("conv", "conv_transpose"):
        outputs = root.shape[-1]
        assert isinstance(outputs, int)
        return 1, outputs
    groups: int = root["groups"]
    outputs = root.shape[1]
    assert isinstance(outputs, int)
    return groups, outputs // groups


def _epilogue(
    plan: Plan, root: Node, end: Node, index: tuple[Expr, ...], axes: tuple[Expr, ...]
) -> Expr:
    """The result's element in terms of ACCUMULATED."""
    inline = Inliner(plan.graph, plan.stored | {root.name})
    value = (
        inline.meaning(end.name, axes) if end.name != root.name else load(root.name, F32, *index)
    )
    total = ACCUMULATED
    if len(root.inputs) > 2:
        position = index[1] if root.op in ("conv", "conv_transpose") else index[-1]
        total = total + inline.element(root.inputs[2], (position,))
    return substitute(value, {load(root.name, F32, *index): total})


def _dynamic_batch(plan: Plan, root: Node, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Leading indices of a W that the network computes."""
    if root.op != "packed_matmul":
        return ()
    return _broadcast(index[:-2], plan.graph[root.inputs[1]].shape[:-3])


def _operand_a(
    plan: Plan,
    inline: Inliner,
    root: Node,
    index: tuple[Expr, ...],
    group: Expr | None,
) -> tuple[Expr, tuple[Expr, ...], tuple[int, ...]]:
    """The element of A, its reduction axes in loop order, and that order as positions in (input
    channel, taps…).
    """
    graph = plan.graph
    if root.op in ("conv", "conv_transpose"):
        element, axes = _conv_element(plan, inline, root, index, group)
    else:
        x = graph[root.inputs[0]]
        depth = axis("depth", x.shape[-1])
        position = (
            (*_broadcast(index[:-2], x.shape[:-2]), index[-2])
            if root.op == "packed_matmul"
            else index[:-1]
        )
        element, axes = inline.element(x.name, (*position, depth)), (depth,)
    order = _memory_order(plan, element, axes)
    return element, tuple(axes[k] for k in order), order


def _broadcast(index: Sequence[Expr], shape: Sequence[object]) -> tuple[Expr, ...]:
    tail = index[len(index) - len(shape) :]
    return tuple(const(0) if s == 1 else i for i, s in zip(tail, shape))


def _conv_element(
    plan: Plan,
    inline: Inliner,
    root: Node,
    index: tuple[Expr, ...],
    group: Expr | None,
) -> tuple[Expr, tuple[Expr, ...]]:
    x, weight = plan.graph[root.inputs[0]], plan.graph[root.inputs[1]]
    channels = x.shape[1]
    assert isinstance(channels, int)
    inside = channels // root["groups"]
    depth = axis("depth", inside)
    taps = tuple(axis(f"tap{n}", s) for n, s in enumerate(weight.shape[2:]))
    condition = const(True)
    places = []
    for n, tap in enumerate(taps):
        place, reachable = _tap_place(root, index[2 + n], tap, n, x.shape[2 + n])
        places.append(place)
        condition = condition & reachable
    channel = depth + (group * inside if group is not None else 0)
    element = where(condition, inline.element(x.name, (index[0], channel, *places)), const(0.0))
    return element, (depth, *taps)


def _tap_place(root: Node, out: Expr, tap: Expr, n: int, size: object) -> tuple[Expr, Expr]:
    """Input position that output position `out` reads with a tap, and whether there is one."""
    assert isinstance(size, int)
    stride, dilation = root["stride"][n], root["dilation"][n]
    if root.op == "conv":
        place = out * stride + tap * dilation - root["padding"][n][0]
        return place, (place >= 0) & (place < size)
    spread = out + root["padding"][n] - tap * dilation
    place = spread // stride
    return place, (spread >= 0) & (place < size) & apply("eq", spread % stride, 0)


def _memory_order(plan: Plan, element: Expr, axes: tuple[Expr, ...]) -> tuple[int, ...]:
    """Reduction axes so that the innermost runs along A's memory."""
    loads = [p for p in walk(element) if p.op == "load" and any(a in walk(p) for a in axes)]
    default = (*range(1, len(axes)), 0)
    if not loads or len(axes) == 1:
        return default if len(axes) > 1 else (0,)
    main = max(loads, key=lambda p: len(p.args))
    place = plan.places.get(main.value)
    if place is None:
        return default

    def step(a: Expr) -> int:
        ends = [
            sum(
                number(i, a, at) * evaluate(s, NOMINAL_BATCH)
                for i, s in zip(main.args, place.strides)
            )
            for at in (0, 1)
        ]
        return abs(ends[1] - ends[0])

    return tuple(
        sorted(
            range(len(axes)),
            key=lambda k: (-step(axes[k]) if extent_of(axes[k]) != 1 else -(1 << 40), k),
        )
    )


def _row_axes(
    plan: Plan, end: Node, axes: tuple[Expr, ...], channel: Expr, fixed: set[Expr]
) -> tuple[tuple[Expr, ...], tuple[Expr, ...], dict[Expr, Expr]]:
    """Unit axes (the symbolic one, then those of `fixed`), row axes in memory order, and how the
    result's axes are written in them.
    """
    ordered = [
        axes[k] for k in plan.orders[end.name] if axes[k].op == "axis" and axes[k] is not channel
    ]
    symbolic = [a for a in ordered if isinstance(extent_of(a), Dim)]
    others = tuple(a for a in ordered if a not in symbolic and a in fixed)
    rows = tuple(a for a in ordered if a not in symbolic and a not in fixed)
    assert len(symbolic) < 2, "one axis at most depends on the batch"
    if not symbolic:
        return others, rows, {}
    (image,) = symbolic
    extent = extent_of(image)
    assert isinstance(extent, Dim)
    total = 1
    for a in rows:
        total *= a.value[1]
    if extent.coef == 1 or extent.const != 0 or total >= _SPLIT_BELOW or image in fixed:
        return (image, *others), rows, {}
    name = image.value[0]
    batch, part = axis(f"{name}_image", Dim(1)), axis(f"{name}_part", extent.coef)
    return (batch, *others), (part, *rows), {image: batch * extent.coef + part}


def _packing(root: Node, groups: int, k_order: tuple[int, ...], lanes: int) -> Packing | None:
    kinds = {"conv": "conv", "conv_transpose": "deconv", "linear": "linear"}
    if root.op not in kinds:
        return None
    return Packing(kinds[root.op], groups, k_order, 0, lanes)
