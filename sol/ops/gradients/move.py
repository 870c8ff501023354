"""Gradients of operators that move elements: the same elements moved back, sums where they meet."""

from __future__ import annotations

from itertools import pairwise

from sol.core.dims import Size
from sol.ir.graph import Builder, Node
from sol.ops.gradients.parts import Gradients, permuted, reshaped, summed, summed_to, zeros
from sol.ops.rules import need_number


def reshape(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The old shape."""
    return [reshaped(graph, dy, x.shape)]


def permute(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The axes back in order."""
    axes = node["axes"]
    return [permuted(graph, dy, [axes.index(k) for k in range(len(axes))])]


def expand(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The sum over what was broadcast."""
    return [summed_to(graph, dy, x.shape)]


def slice_(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Zeros around it, and between its elements if it has a step."""
    axis, start, stop = node["axis"], node["start"], node["stop"]
    if node["step"] == 1 and isinstance(start, int):
        after = x.shape[axis] - stop
        if isinstance(after, int):
            low, high = ([0] * x.tensor.rank for _ in range(2))
            low[axis], high[axis] = start, after
            return [padded(graph, dy, low, high)]
    nothing = zeros(graph, x.shape, dy.dtype)
    where = {"axis": axis, "start": start, "stop": stop, "step": node["step"]}
    return [graph.add("slice_assign", nothing, dy, **where)]


def padded(graph: Builder, x: Node, low: list[int], high: list[int]) -> Node:
    """x with zeros around it; x itself if there are none."""
    if not any((*low, *high)):
        return x
    return graph.add("pad", x, low=tuple(low), high=tuple(high), mode="constant", value=0.0)


def cut(graph: Builder, x: Node, axis: int, start: Size, stop: Size, step: int = 1) -> Node:
    """x[start:stop:step] on an axis."""
    if start == 0 and stop == x.shape[axis] and step == 1:
        return x
    return graph.add("slice", x, axis=axis, start=start, stop=stop, step=step)


def concat(graph: Builder, node: Node, dy: Node, *parts: Node) -> Gradients:
    """Each part cut out again."""
    axis = node["axis"]
    start: Size = 0
    found: list[Node | None] = []
    for part in parts:
        stop = start + part.shape[axis]
        piece = cut(graph, dy, axis, start, stop) if part.dtype.kind == "float" else None
        found.append(piece)
        start = stop
    return found


def flip(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Turned round again."""
    return [graph.add("flip", dy, axes=node["axes"])]


def roll(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Rolled back."""
    shifts = tuple(-s for s in node["shifts"])
    return [graph.add("roll", dy, axes=node["axes"], shifts=shifts)]


def repeat(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The sum of all copies."""
    repeats = node["repeats"]
    shape = (1,) * (len(repeats) - x.tensor.rank) + x.shape
    apart = reshaped(graph, dy, tuple(n for pair in zip(repeats, shape) for n in pair))
    total = summed(graph, apart, range(0, 2 * len(repeats), 2), keepdims=False)
    return [reshaped(graph, total, x.shape)]


def pad(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The part that is x; in other modes, what each border was made of is added, axis by axis."""
    low, high = node["low"], node["high"]
    if node["mode"] == "constant":
        less = tuple(-n for n in low), tuple(-n for n in high)
        return [padded(graph, dy, *map(list, less))]
    for axis, (before, after) in enumerate(zip(low, high)):
        if before or after:
            extent = need_number("pad", f"axis {axis}", x.shape[axis])
            dy = _folded(graph, dy, axis, before, after, extent, node["mode"])
    return [dy]


def _folded(
    graph: Builder, dy: Node, axis: int, before: int, after: int, extent: int, mode: str
) -> Node:
    """The middle of an axis, and each border at the place that it was taken from."""
    total = before + extent + after
    y = cut(graph, dy, axis, max(before, 0), total - max(after, 0))
    left, right = max(before, 0), max(after, 0)
    y = _widened(graph, y, axis, max(-before, 0), max(-after, 0))  # what was cropped
    if left:
        border = cut(graph, dy, axis, 0, left)
        y = graph.add("add", y, _source(graph, border, axis, extent, mode, True))
    if right:
        border = cut(graph, dy, axis, total - right, total)
        y = graph.add("add", y, _source(graph, border, axis, extent, mode, False))
    return y


def _source(graph: Builder, border: Node, axis: int, extent: int, mode: str, first: bool) -> Node:
    """A border laid where it came from, zeros elsewhere."""
    width = need_number("pad", "a border", border.shape[axis])
    match mode:
        case "replicate":
            border = summed(graph, border, (axis,))
            low = 0 if first else extent - 1
        case "circular":
            low = extent - width if first else 0
        case _:
            border = graph.add("flip", border, axes=(axis,))
            low = 1 if first else extent - 1 - width
    taken = need_number("pad", "a border", border.shape[axis])
    return _widened(graph, border, axis, low, extent - low - taken)


def _widened(graph: Builder, x: Node, axis: int, before: int, after: int) -> Node:
    low, high = ([0] * x.tensor.rank for _ in range(2))
    low[axis], high[axis] = before, after
    return padded(graph, x, low, high)


def triangle(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """The same triangle."""
    return [graph.add(node.op, dy, diagonal=node["diagonal"])]


def pixel_shuffle(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Its inverse."""
    return [graph.add("pixel_unshuffle", dy, factor=node["factor"])]


def pixel_unshuffle(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Its inverse."""
    return [graph.add("pixel_shuffle", dy, factor=node["factor"])]


def channel_shuffle(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Its inverse: as many groups as there were channels in one."""
    channels = need_number("channel_shuffle", "the number of channels", x.shape[1])
    return [graph.add("channel_shuffle", dy, groups=channels // node["groups"])]


def interleave(graph: Builder, node: Node, dy: Node, *parts: Node) -> Gradients:
    """Each part taken out again."""
    found: list[Node | None] = []
    steps = node["steps"]
    for number in range(len(parts)):
        piece, rest = dy, number
        for axis, step in reversed(list(zip(node["axes"], steps))):
            rest, at = divmod(rest, step)
            piece = cut(graph, piece, axis, at, dy.shape[axis], step)
        found.append(piece)
    return found


def unfold(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Every window back on its elements: `fold`."""
    axis, step = node["axis"], node["step"]
    extent = need_number("unfold", f"axis {axis}", x.shape[axis])
    return [graph.add("fold", dy, axis=axis, step=step, dilation=1, low=0, extent=extent)]


def im2col(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """Every window back on its elements, one axis after the other."""
    n, c, height, width = x.shape
    (kh, kw), stride, dilation = node["kernel"], node["stride"], node["dilation"]
    tall, wide = (need_number("im2col", "a size", s) for s in (height, width))
    low = node["padding"]
    rows = (tall + 2 * low[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (wide + 2 * low[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    apart = reshaped(graph, dy, (n, c, kh, kw, rows, columns))
    apart = permuted(graph, apart, (0, 1, 4, 2, 5, 3))  # [n, c, rows, kh, columns, kw]
    across = {"axis": 4, "step": stride[1], "dilation": dilation[1], "low": low[1], "extent": wide}
    y = graph.add("fold", apart, **across)
    y = permuted(graph, y, (0, 1, 2, 4, 3))
    down = {"axis": 2, "step": stride[0], "dilation": dilation[0], "low": low[0], "extent": tall}
    return [graph.add("fold", y, **down)]


# ---- indices from data, assignments ----------------------------------------------------------


def gather(graph: Builder, node: Node, dy: Node, x: Node, index: Node) -> Gradients:
    """Every element added where it came from."""
    added = graph.add("gather_add", index, dy, axis=node["axis"], shape=x.shape)
    return added, None


def take(graph: Builder, node: Node, dy: Node, x: Node, index: Node) -> Gradients:
    """Every row added where it came from."""
    axis, rank = node["axis"], index.tensor.rank
    extent = need_number("take", f"axis {axis}", x.shape[axis])
    rest = [k for k in range(dy.tensor.rank) if not axis <= k < axis + rank]
    rows = permuted(graph, dy, [*range(axis, axis + rank), *rest])
    added = graph.add("scatter_add", index, rows, extent=extent)  # [extent, rest…]
    back = [*range(1, axis + 1), 0, *range(axis + 1, x.tensor.rank)]
    return permuted(graph, added, back), None


def index(graph: Builder, node: Node, dy: Node, x: Node, *indices: Node) -> Gradients:
    """As take, by the number of the element in the indexed axes together."""
    axes = node["axes"]
    rank = max(i.tensor.rank for i in indices)
    adjacent = all(b == a + 1 for a, b in pairwise(axes))
    place = axes[0] if adjacent else 0
    extents = [need_number("index", f"axis {a}", x.shape[a]) for a in axes]
    flat: Node | None = None
    for i, extent in zip(indices, extents):
        size = graph.constant(extent, i.dtype)
        zero = graph.constant(0, i.dtype)
        position = graph.add("where", graph.add("lt", i, zero), graph.add("add", i, size), i)
        flat = (
            position if flat is None else graph.add("add", graph.add("mul", flat, size), position)
        )
    assert flat is not None
    picked = dy.shape[place : place + rank]
    if flat.shape != picked:
        flat = graph.add("expand", flat, shape=picked)
    rest = [k for k in range(dy.tensor.rank) if not place <= k < place + rank]
    rows = permuted(graph, dy, [*range(place, place + rank), *rest])
    total = 1
    for extent in extents:
        total *= extent
    added = graph.add("scatter_add", flat, rows, extent=total)
    kept = [k for k in range(x.tensor.rank) if k not in axes]
    added = reshaped(graph, added, (*extents, *(x.shape[k] for k in kept)))
    order = [*axes, *kept]
    return permuted(graph, added, [order.index(k) for k in range(x.tensor.rank)]), *[None] * len(
        indices
    )


def slice_assign(graph: Builder, node: Node, dy: Node, x: Node, value: Node) -> Gradients:
    """The value's part cut out, and zeros there for what it was assigned to."""
    where = {k: node[k] for k in ("axis", "start", "stop", "step")}
    nothing = zeros(graph, value.shape, dy.dtype)
    return (
        graph.add("slice_assign", dy, nothing, **where) if x.dtype.kind == "float" else None,
        graph.add("slice", dy, **where) if value.dtype.kind == "float" else None,
    )


def select_assign(graph: Builder, node: Node, dy: Node, x: Node, value: Node) -> Gradients:
    """As slice_assign."""
    axis, at = node["axis"], node["index"]
    nothing = zeros(graph, value.shape, dy.dtype)
    part = graph.add("slice", dy, axis=axis, start=at, stop=at + 1, step=1)
    return (
        graph.add("select_assign", dy, nothing, axis=axis, index=at)
        if x.dtype.kind == "float"
        else None,
        reshaped(graph, part, value.shape) if value.dtype.kind == "float" else None,
    )
