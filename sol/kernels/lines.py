"""Convolutions that read A from padded lines of the map instead of a packed panel.

    A(row, k) = region[y * stride + tap_y * dilation][channel][x * stride + tap_x * dilation]

A thread copies what the windows of some lines of results cover, with the padding around it, into
scratch memory. There, the rows of one line of results lie at a constant distance for every k, and
the micro-kernel, which reads A as scalars, needs nothing else. Packing would copy each element
once per tap, in runs as short as a window is wide; so first layers, which have few channels in
row-major maps, take this way. The outermost loop of k is over taps along x: within it no element
is read for two rows, so no compiler keeps elements in registers that accumulators need. Called by
gemm.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sol.core.device import CpuDevice
from sol.core.dims import Size
from sol.ir.expr import Expr, axis, const, free_axes, where
from sol.ir.graph import Node
from sol.ir.loop import If, Stmt
from sol.kernels.operands import Product, spine
from sol.kernels.tiles import Tile, best_tile, fastest, share_of_columns, tile_cycles, vector_widths
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of
from sol.lower.units import decode
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan

_DEEPEST = 640  # longer sums are added up in parts, and packing is a small share of their time
_REGION_BYTES = 32 * 1024  # the lines that a thread copies: with W they stay in the L2 cache
_RESULT_BYTES = 64 * 1024  # of one line, which is passed over once for each block of columns
_LARGEST_REGION = 0.25  # of the L2 cache: lines longer than this are packed
_UNITS_PER_CORE = 4
_AGAIN = 1.0  # cycles of coming back to a row of results for other columns
_COPY = 3.0  # cycles for a vector of copied elements
_SHORT_RUN = 1.0  # cycles for an element of a packed panel whose runs are short


@dataclass(frozen=True, slots=True)
class Span:
    """How one axis of the region, which belongs to one axis of k, is passed over.

    out: the position of the result along it, times `stride`; `row` is `out` if that is an axis of
    rows. The channels are a span of stride 0.
    """

    taps: int
    out: Expr
    row: Expr | None
    stride: int
    dilation: int
    padding: int
    size: int  # of the map

    def covered(self, results: int) -> int:
        """Elements that the windows of so many neighbouring results cover."""
        return (results - 1) * self.stride + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True)
class Lines:
    """A convolution whose rows are lines of a map.

    product: with rows of one line, or of lines (line, place in it); other axes of rows are units of
    their own; k begins with the taps along a line. spans: the axes of the region, channels and the
    places in a line innermost. element: of the map at an index in that order. run: how many
    neighbours in memory follow each other in k.
    """

    product: Product
    spans: tuple[Span, ...]
    element: Callable[[Sequence[Expr]], Expr]
    run: int

    @property
    def length(self) -> int:
        """Rows of one line."""
        return _int(extent_of(self.product.rows[-1]))

    @property
    def flat(self) -> bool:
        """Whether there is one line only, so that units are parts of it."""
        return len(self.product.rows) == 1

    def line(self, panel: int) -> Expr:
        """The axis of lines in a panel."""
        return axis("line", panel // self.length)

    def shape(self, panel: int) -> tuple[int, ...]:
        """The region of `panel` rows."""
        cut = self.product.rows[0]
        counts = {cut: panel} if self.flat else {cut: panel // self.length}
        counts.setdefault(self.product.rows[-1], self.length)
        return tuple(
            span.covered(counts.get(span.row, 1) if span.row is not None else 1)
            for span in self.spans
        )

    def pitches(self, panel: int) -> tuple[int, ...]:
        """Distances of elements of the region along its axes."""
        found: list[int] = []
        pitch = 1
        for size in reversed(self.shape(panel)):
            found.append(pitch)
            pitch *= size
        return tuple(reversed(found))

    def loops(self, panel: int) -> tuple[tuple[int, int], ...]:
        """k as nested loops: (extent, step in the region); what goes on at the same step is one."""
        *others, line = zip(self.spans, self.pitches(panel))
        found: list[tuple[int, int]] = []
        for span, pitch in reversed(others):
            step = pitch * span.dilation
            if found and step == found[0][0] * found[0][1]:
                found[0] = (span.taps * found[0][0], found[0][1])
            elif span.taps > 1 or not found:
                found.insert(0, (span.taps, step))
        return ((line[0].taps, line[0].dilation), *found)

    def index(self, panel: int, row: Expr, k: Expr) -> Expr:
        """Where A of a row of the panel lies in the region."""
        rows = self.product.rows
        cut = axis("row", panel) if self.flat else self.line(panel)
        local = decode(row, (cut, *rows[1:]))
        place = {rows[0]: local.pop(cut), **local}
        total = const(0)
        for span, pitch in zip(self.spans, self.pitches(panel)):
            if span.row is not None:
                total = total + place[span.row] * (span.stride * pitch)
        loops = self.loops(panel)
        axes = tuple(axis(f"loop{n}", extent) for n, (extent, _) in enumerate(loops))
        taps = decode(k, axes)
        for a, (_, step) in zip(axes, loops):
            total = total + taps[a] * step
        return total

    def copy(self, builder: NestBuilder, panel: int, row0: Expr) -> tuple[Stmt, ...]:
        """Fill the region of the panel that begins with row `row0`."""
        first = decode(row0, self.product.rows)
        shape = self.shape(panel)
        axes = [axis(f"region{n}", s) if s > 1 else const(0) for n, s in enumerate(shape)]
        used = [a for a in axes if a.op == "axis"]
        starts = [first.get(s.out, s.out) * s.stride - s.padding for s in self.spans]
        places = [start + a for start, a in zip(starts, axes)]
        target = const(0)
        for a, pitch in zip(axes, self.pitches(panel)):
            target = target + a * pitch

        def code(condition: Expr) -> tuple[Stmt, ...]:
            value = where(condition, self.element(places), const(0.0))
            return nest(builder, used, (Output("panel", target, value),))

        padded = const(True)
        for span, place in zip(self.spans, places):
            padded = padded & (place >= 0) & (place < span.size)
        inside = const(True)
        if self.flat:
            for span, start, size in zip(self.spans, starts, shape):
                inside = inside & (start >= 0) & (start + (size - 1) < span.size)
        if inside.op == "const":
            return code(padded)
        return (If(inside, code(const(True)), code(padded)),)


def find_lines(plan: Plan, cluster: Cluster, product: Product) -> Lines | None:
    """A contraction as lines of a map; None if it is none, or its rows are no places of a map."""
    root, packing = plan.graph[cluster.root], product.packing
    if root.op != "conv" or root["groups"] != 1 or packing is None or not product.rows:
        return None
    run = _int(extent_of(product.k[-1]))
    if packing.k_order[-1] == 0 and run >= packing.lanes:
        return None  # channels in memory one after the other: packing is cheap
    index = spine(plan, cluster).index
    rows = product.rows[-2:]
    spans = {0: _channels(plan, root)}
    spans |= {n: _span(plan, root, index, n - 1, rows) for n in packing.k_order if n}
    if all(s.taps == 1 for n, s in spans.items() if n):
        return None
    claimed = {s.row: n for n, s in spans.items() if s.row is not None}
    outer = (*product.outer, *product.rows[:-2])
    free = {p for s in spans.values() if s.row is None for p in free_axes(s.out)}
    if set(claimed) != set(rows) or not free | free_axes(index[0]) <= set(outer):
        return None
    line = claimed[rows[-1]]
    others = [n for n in packing.k_order if n not in (0, line)]
    k, order = (line, *others, 0), (*others, 0, line)
    axes = dict(zip(packing.k_order, product.k))
    inline = Inliner(plan.graph, plan.stored)

    def element(places: Sequence[Expr]) -> Expr:
        natural = [place for _, place in sorted(zip(order, places), key=lambda pair: pair[0])]
        return inline.element(root.inputs[0], (index[0], *natural))

    lines = replace(
        product,
        outer=outer,
        rows=rows,
        k=tuple(axes[n] for n in k),
        packing=replace(packing, k_order=k),
    )
    return Lines(lines, tuple(spans[n] for n in order), element, run)


def _channels(plan: Plan, root: Node) -> Span:
    channels = _int(plan.graph[root.inputs[0]].shape[1])
    return Span(channels, const(0), None, 0, 1, 0, channels)


def _span(plan: Plan, root: Node, index: tuple[Expr, ...], n: int, rows: tuple[Expr, ...]) -> Span:
    out = index[2 + n]
    size = _int(plan.graph[root.inputs[0]].shape[2 + n])
    taps = _int(plan.graph[root.inputs[1]].shape[2 + n])
    row = out if out in rows else None
    return Span(taps, out, row, root["stride"][n], root["dilation"][n], root["padding"][n][0], size)


def choose_lines(lines: Lines, device: CpuDevice) -> Tile | None:
    """The tile of a convolution that reads padded lines; None if packing is estimated faster."""
    depth = _volume(lines.product.k)
    if depth > _DEEPEST:
        return None
    whole = device.vector_lanes(4)
    widths = vector_widths(lines.length, device)
    found = [t for lanes in widths if (t := _tile(lines, device, depth, lanes)) is not None]
    if not found:
        return None
    cycles, tile = fastest(found)
    packing = _COPY / whole if lines.run >= whole else _SHORT_RUN
    total, columns = _volume(lines.product.rows), lines.product.columns
    vectors, each = -(-columns // tile.lanes), device.fma_cycles(tile.lanes)
    other = best_tile(total, vectors, device, each=each)
    packed = tile_cycles(total, vectors, other, each) + total * packing
    return tile if cycles < packed * depth else None


def _tile(lines: Lines, device: CpuDevice, depth: int, lanes: int) -> tuple[float, Tile] | None:
    """(cycles, tile) with vectors of so many lanes; None if a region does not fit the cache."""
    product, each = lines.product, device.fma_cycles(lanes)
    vectors = -(-product.columns // lanes)
    rows, v = best_tile(lines.length, vectors, device, again=_AGAIN / depth, each=each)
    panel = _panel(lines, rows, device)
    region = math.prod(lines.shape(panel))
    if 4 * region > _LARGEST_REGION * device.l2:
        return None
    total = _volume(product.rows)
    panels = -(-total // panel)
    share = share_of_columns(vectors, v, depth, lanes, device) if panels > 1 else vectors
    copies = panels * -(-vectors // share) * region / device.vector_lanes(4) * _COPY
    steps = tile_cycles(lines.length, vectors, (rows, v), each) * depth
    tile = Tile(rows, v, lanes, panel, share, lines=True)
    return total // lines.length * steps + copies, tile


def _panel(lines: Lines, rows: int, device: CpuDevice) -> int:
    """Rows per unit: as many as keep the region small, and all cores busy."""
    unit = rows if lines.flat else lines.length
    most = -(-_volume(lines.product.rows) // unit)
    count = most
    if lines.flat:
        count = max(1, min(most, _RESULT_BYTES // (4 * unit * lines.product.columns)))
    while count > 1 and 4 * math.prod(lines.shape(count * unit)) > _REGION_BYTES:
        count = -(-count // 2)
    while count > 1 and -(-most // count) < _UNITS_PER_CORE * device.cores:
        count = -(-count // 2)
    return -(-most // -(-most // count)) * unit


def _volume(axes: Sequence[Expr]) -> int:
    return math.prod(_int(extent_of(a)) for a in axes)


def _int(size: Size) -> int:
    assert isinstance(size, int)
    return size
