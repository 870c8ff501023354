"""The order of axes in memory for every stored value, and concatenation in place.

Results of convolutions are channels-last, results of attention (…, L, heads, E), results of the
network row-major; everything else follows its largest operand, so that loops run along memory on
both sides. A value that is only a part of a stored concatenation lies inside it; a concatenation of
parts that already lie side by side is a view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from sol.core.dims import Shape, Size, evaluate, product
from sol.ir.expr import Expr, walk
from sol.ir.graph import Graph, Node
from sol.ops.shuffle import phases
from sol.plan.facts import (
    FEWEST_ACROSS,
    JOINS,
    NOMINAL_BATCH,
    WEIGHT_GRADIENTS,
    Facts,
    is_depthwise,
    is_thin,
)
from sol.plan.fuse import Choice, chain_between, root_index
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Buffer, BufferKind, Place

Order = tuple[int, ...]
_ROW_MAJOR = (
    "item", "packed_columns", "packed_gates", "keys_first", "scatter_add", "conv_weight_gradients",
)  # fmt: skip
_SETS = 4096  # bytes after which the sets of an L1 cache repeat
_LINE = 64  # bytes of a cache line
_WIDE_PLACE = 64  # channels of a place whose neighbour is several cache lines away


def channels_last(rank: int) -> Order:
    """(N, spatial…, C)."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def choose_orders(graph: Graph, facts: Facts, choice: Choice) -> dict[str, Order]:
    """Axes of every value in memory from outermost to innermost."""
    orders: dict[str, Order] = {}
    for node in graph:
        if isinstance(node.type, tuple):
            continue
        if facts.is_source(node.name) or node.name in graph.outputs:
            orders[node.name] = _given_order(graph, facts, node)
        elif node.name in choice.stored:
            orders[node.name] = _order_of(graph, facts, choice, node, orders)
        if node.op == "interleave" and node.name in orders:
            own = [n for n in node.inputs if n in choice.stored and len(facts.users(n)) == 1]
            orders.update({n: orders[node.name] for n in own if n not in graph.outputs})
    return orders


def _given_order(graph: Graph, facts: Facts, node: Node) -> Order:
    """Row-major;

    weights that only depthwise convolutions read are prepared with channels innermost, along their
    lanes; in training, where parameters change with each call, one that linear layers of few rows
    read transposed is read as it is.
    """
    users = facts.users(node.name)
    rank = len(node.shape)
    static = node.name in graph.static and node.name not in graph.outputs
    if (
        static
        and users
        and all(
            u.op == "conv" and u.inputs[1] == node.name and is_depthwise(graph, u) for u in users
        )
    ):
        return (*range(1, rank), 0)
    if static and node.op == "permute" and node["axes"] == (1, 0) and users:
        given = graph[node.inputs[0]].op == "parameter"
        changing = any(n.op in WEIGHT_GRADIENTS for n in graph)
        if given and changing and all(is_thin(u) and u.inputs[1] == node.name for u in users):
            return (1, 0)
    return tuple(range(rank))


def _order_of(
    graph: Graph, facts: Facts, choice: Choice, node: Node, orders: Mapping[str, Order]
) -> Order:
    rank = len(node.shape)
    if node.op in _ROW_MAJOR:
        return tuple(range(rank))
    if _only_flattened(facts, node) or _only_shifted(facts, node):
        return tuple(range(rank))
    if facts.widens(node):
        return channels_last(rank)
    if node.op in ("attention", "masked_attention"):
        return (*range(rank - 3), rank - 2, rank - 3, rank - 1) if rank > 3 else tuple(range(rank))
    root = choice.roots.get(node.name)
    if root is not None:
        own = graph[root]
        natural = (
            channels_last(len(own.shape))
            if own.op in ("conv", "conv_transpose")
            else _linear_order(graph, facts, choice, own, orders)
        )
        if root == node.name:
            return natural
        hidden = {*chain_between(graph, root, node.name), node.name} - {root}
        return _follow(
            graph,
            facts,
            node,
            choice.stored | {root},
            {**orders, root: natural},
            only=root,
            hidden=hidden,
        )
    return _follow(graph, facts, node, choice.stored, orders)


def _linear_order(
    graph: Graph, facts: Facts, choice: Choice, root: Node, orders: Mapping[str, Order]
) -> Order:
    """Row-major; rows innermost in a linear layer over another axis than the innermost of its
    input, as over the tokens of an image: its lanes run along rows (kernels/across.py)."""
    rank = len(root.shape)
    rows = root.shape[-2] if root.op == "linear" and rank > 2 else 0
    if not isinstance(rows, int) or rows < FEWEST_ACROSS:
        return tuple(range(rank))
    x = graph[root.inputs[0]]
    axes = axes_for(x)
    value = Inliner(graph, choice.stored).element(x.name, axes)
    loads = [p for p in walk(value) if p.op == "load" and p.value in orders]
    main = max(loads, key=lambda p: facts.size(p.value), default=None)
    if main is None or 4 * evaluate(x.shape[-1], NOMINAL_BATCH) % _SETS == 0:
        return tuple(range(rank))
    strides = strides_of(graph[main.value].shape, orders[main.value])
    row, k = (_average_step(main, strides, a) for a in axes[-2:])
    if row == 1 < k and _comes_back(graph, choice, root):
        return (*range(rank - 2), rank - 1, rank - 2)
    return tuple(range(rank))


def _comes_back(graph: Graph, choice: Choice, root: Node) -> bool:
    """Whether what follows a linear layer over another axis has that axis back in its place: at the
    end of its epilogue, or of those of the layers that read it. Other readers want its columns side
    by side."""
    end = next(e for e, name in choice.roots.items() if name == root.name)
    chain = [*chain_between(graph, root.name, end), end]
    index = root_index(graph, root, chain)
    if index is not None and index[-2] is axes_for(graph[end])[-1]:
        return True
    users = [u for u in graph.users[end] if u.name not in graph.static]
    return bool(users) and all(_wants_rows(graph, choice, end, u) for u in users)


def _wants_rows(graph: Graph, choice: Choice, name: str, user: Node) -> bool:
    """Whether a reader of a layer over another axis turns it back, or is such a layer again."""
    rank = len(graph[name].shape)
    if user.op == "permute":
        return bool(user["axes"][-1] == rank - 2)
    layer = user.op == "linear" and user.inputs[0] == name and user.inputs[1] in graph.static
    return layer and rank > 2 and _comes_back(graph, choice, user)


def _only_shifted(facts: Facts, node: Node) -> bool:
    """Whether only sums of taps, whose vectors go along lines, read a map of many channels:

    each of their vectors would be from as many cache lines as it has lanes.
    """
    users = {u.op for u in facts.users(node.name)}
    return users == {"sum_of_taps"} and evaluate(node.shape[1], NOMINAL_BATCH) > _WIDE_PLACE


def _only_flattened(facts: Facts, node: Node) -> bool:
    """Whether all that reads a map sees each image as one row, as a linear layer at the end does:

    to write it in that order once costs less than to look for its elements in every product.
    """
    if len(node.shape) < 3:
        return False
    users = facts.users(node.name)
    row = product(node.shape[1:])
    return bool(users) and all(
        u.op == "reshape" and len(u.shape) == 2 and u.shape[1] == row for u in users
    )


def _follow(
    graph: Graph,
    facts: Facts,
    node: Node,
    stored: frozenset[str],
    orders: Mapping[str, Order],
    only: str = "",
    hidden: set[str] | None = None,
) -> Order:
    """The order in which the largest operand's elements are met along memory."""
    axes = axes_for(node)
    inline = Inliner(graph, stored - (hidden or set()))
    value = inline.meaning(node.name, axes)
    loads = [
        p
        for p in walk(value)
        if p.op == "load" and p.value in orders and (not only or p.value == only)
    ]
    if not loads:
        return tuple(range(len(axes)))
    main = max(
        loads,
        key=lambda p: (
            not facts.is_source(p.value) or graph[p.value].op == "input",
            facts.size(p.value),
        ),
    )
    strides = strides_of(graph[main.value].shape, orders[main.value])
    steps = [_average_step(main, strides, a) for a in axes]
    last = len(axes)
    return tuple(
        sorted(range(last), key=lambda k: (-steps[k] if steps[k] else -_missing(steps, k), k))
    )


def _missing(steps: Sequence[Fraction], k: int) -> Fraction:
    """A place for an axis along which the operand does not change:

    just outside its right neighbour, innermost if it has none.
    """
    return next((s for s in steps[k + 1 :] if s), Fraction(0))


def _average_step(load: Expr, strides: Shape, axis: Expr) -> Fraction:
    if axis.op != "axis":
        return Fraction(0)
    extent = evaluate(axis.value[1], NOMINAL_BATCH)
    if extent < 2:
        return Fraction(0)
    ends = [
        sum(number(i, axis, at) * evaluate(s, NOMINAL_BATCH) for i, s in zip(load.args, strides))
        for at in (0, extent - 1)
    ]
    return abs(Fraction(ends[1] - ends[0], extent - 1))


def number(x: Expr, axis: Expr, value: int) -> int:
    """An index expression with one axis set and all others 0; data-dependent indices count as 0."""
    match x.op:
        case "const":
            return int(x.value)
        case "axis":
            return value if x is axis else 0
        case "linear":
            constant, coefs = x.value
            return evaluate(constant, NOMINAL_BATCH) + sum(
                evaluate(c, NOMINAL_BATCH) * number(a, axis, value) for a, c in zip(x.args, coefs)
            )
        case "floordiv":
            return number(x.args[0], axis, value) // max(1, number(x.args[1], axis, value))
        case "mod":
            return number(x.args[0], axis, value) % max(1, number(x.args[1], axis, value))
        case "max":
            return max(number(a, axis, value) for a in x.args)
        case "min":
            return min(number(a, axis, value) for a in x.args)
    return 0


def strides_of(shape: Shape, order: Order) -> Shape:
    """Strides per logical axis of a dense value with its axes in this order."""
    strides: list[Size] = [0] * len(shape)
    step: Size = 1
    for axis in reversed(order):
        strides[axis] = step
        step = step * shape[axis]
    return tuple(strides)


# ---- places --------------------------------------------------------------------------------------


def place_values(
    graph: Graph, facts: Facts, choice: Choice, orders: Mapping[str, Order], private: frozenset[str]
) -> tuple[dict[str, Place], dict[str, Buffer], set[str]]:
    """Places and buffers of all values in memory, and the concatenations that are views of a larger
    one.
    """
    places: dict[str, Place] = {}
    buffers: dict[str, Buffer] = {}
    views: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op in JOINS and node.name in choice.stored and node.name not in private:
            if node.name not in places and not _view_of_parts(graph, node, orders, places):
                _own_buffer(graph, node, orders, places, buffers)
            _place_parts(graph, facts, choice, node, orders, places, private)
            if _is_view(graph, node, places):
                views.add(node.name)
    for node in graph:
        if isinstance(node.type, tuple) or node.name in places or node.name in private:
            continue
        if node.name in choice.stored or facts.is_source(node.name):
            _own_buffer(graph, node, orders, places, buffers)
    return places, buffers, views


def _own_buffer(
    graph: Graph,
    node: Node,
    orders: Mapping[str, Order],
    places: dict[str, Place],
    buffers: dict[str, Buffer],
) -> None:
    kind, order = _buffer_kind(graph, node), orders[node.name]
    padding = _row_padding(graph, node, order) if kind == "arena" else 0
    strides, size = padded_strides(node.shape, order, padding)
    places[node.name] = Place(node.name, strides, 0, node.dtype, node.shape)
    buffers[node.name] = Buffer(node.name, kind, node.dtype, size)


def _row_padding(graph: Graph, node: Node, order: Order) -> int:
    """Elements between the rows that a product reads, if rows at multiples of 4 KiB would fall into
    the same sets of the L1 cache."""
    row = node.shape[order[-1]] if len(order) > 1 else 1
    if not isinstance(row, int) or row * node.dtype.bytes % _SETS:
        return 0
    read = any(u.op in ("linear", "conv") for u in graph.users[node.name])
    return _LINE // node.dtype.bytes if read else 0


def padded_strides(shape: Shape, order: Order, padding: int) -> tuple[Shape, Size]:
    """Strides per logical axis with `padding` elements behind each row, and elements in all."""
    wide = list(shape)
    if padding:
        wide[order[-1]] = wide[order[-1]] + padding
    return strides_of(tuple(wide), order), product(tuple(wide))


def _buffer_kind(graph: Graph, node: Node) -> BufferKind:
    if node.op == "input":
        return "input"
    if node.name in graph.static:
        return "prepared"
    return "output" if node.name in graph.outputs else "arena"


def _place_parts(
    graph: Graph,
    facts: Facts,
    choice: Choice,
    node: Node,
    orders: Mapping[str, Order],
    places: dict[str, Place],
    private: frozenset[str],
) -> None:
    """Give every part of a concatenation that is free a place inside it."""
    for name, place in zip(node.inputs, part_places(graph, node, places[node.name])):
        part = graph[name]
        free = (
            name in choice.stored
            and name not in places
            and name not in private
            and name not in graph.outputs
        )
        if (
            free
            and orders[name] == _order_of_parts(node, orders)
            and part.dtype == node.dtype
            and node.inputs.count(name) == 1
        ):
            places[name] = place


def _order_of_parts(node: Node, orders: Mapping[str, Order]) -> Order:
    """The order that a part must have to be written where it lies."""
    return node["axes"] if node.op == "kept" else orders[node.name]


def _view_of_parts(
    graph: Graph, node: Node, orders: Mapping[str, Order], places: dict[str, Place]
) -> bool:
    """Make a concatenation a view where all its parts already lie side by side in a larger one."""
    first = places.get(node.inputs[0])
    if first is None or node.name in graph.outputs or node.op != "concat":
        return False
    places[node.name] = Place(first.buffer, first.strides, first.offset, node.dtype, node.shape)
    if _is_view(graph, node, places):
        return True
    del places[node.name]
    return False


def _is_view(graph: Graph, node: Node, places: Mapping[str, Place]) -> bool:
    expected = part_places(graph, node, places[node.name])
    return all(places.get(name) == place for name, place in zip(node.inputs, expected))


def part_places(graph: Graph, node: Node, whole: Place) -> list[Place]:
    """Where the parts of a concatenation, or of an interleaved value, lie in it."""
    if node.op == "kept":
        return [_kept_place(graph[node.inputs[0]], node, whole)]
    if node.op == "interleave":
        return [_phase_place(graph[n], node, whole, at) for n, at in _phases(node)]
    axis, start, found = node["axis"], 0, []
    for name in node.inputs:
        shape = graph[name].shape
        offset = whole.offset + start * whole.strides[axis]
        found.append(Place(whole.buffer, whole.strides, offset, node.dtype, shape))
        start = start + shape[axis]
    return found


def _kept_place(part: Node, node: Node, whole: Place) -> Place:
    strides = dict(zip(node["axes"], whole.strides))
    along = tuple(strides[k] for k in range(len(part.shape)))
    return Place(whole.buffer, along, whole.offset, node.dtype, part.shape)


def _phases(node: Node) -> list[tuple[str, tuple[int, ...]]]:
    """Each part of an interleaved value, and where it begins on the axes."""
    return list(zip(node.inputs, phases(node["steps"])))


def _phase_place(part: Node, node: Node, whole: Place, start: tuple[int, ...]) -> Place:
    strides, offset = list(whole.strides), whole.offset
    for axis, step, at in zip(node["axes"], node["steps"], start):
        offset = offset + at * whole.strides[axis]
        strides[axis] = whole.strides[axis] * step
    return Place(whole.buffer, tuple(strides), offset, node.dtype, part.shape)
