"""Gradients of weights: sums over all images and places of products of two maps, as a kernel.

    dw[o, c, tap] = sum_{n, i} dy[n, o, i] * x[n, c, i * stride + tap * dilation - padding]

For each tap this is a matrix product whose sum runs over places. A unit of work is a block of
channels c by a block of results o, with all taps: it goes through the images line by line, copies
the part of x and of dy that it needs to scratch memory (where padding and any layout are taken care
of), and adds the products of these lines to its block of dw, which stays in the L2 cache. Each line
is copied once for all taps. Lanes run over channels, as dw lies in memory, and the register tile's
rows over results; the other way round where there are few channels. Where each group has one
channel (a depthwise convolution) the sums of a tap are a vector of channels, and no tile is needed.
Where weights are few and maps large (plan/sums.py), a unit has one image and all its channels.

The order of additions does not depend on threads. In: the plan and a cluster of
`conv_weight_gradient` or `linear_weight_gradient`. Out: its kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sol.core.device import CpuDevice
from sol.core.dims import Dim, Size
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Let, Set, Stmt, Store, Var
from sol.kernels.gradient_layer import Layer, as_int, describe
from sol.kernels.micro import Micro, micro_kernel, over_tiles
from sol.kernels.tiles import best_tile, tile_cycles
from sol.kernels.winograd_gradient import Cut, cuts, lower_winograd_gradient
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import size_expr
from sol.lower.units import decode
from sol.ops.maps import all_of, inside
from sol.plan.records import Cluster, Plan

_LONGEST_LINE = 128  # places of a line that are copied at a time
_MOST_PLACES = 256  # of several lines
_L2 = 0.7  # of the cache for a unit's block of dw and its lines
_PACKED = 3.0  # cycles to copy a vector
_ADDED = 3.0  # cycles to add a vector to dw
_FAR = 8.0  # bytes a cycle from beyond the L2 cache
_EXPOSED = 0.5  # of these do not overlap with multiply-adds
_MARGIN = 0.9  # how much faster Winograd's algorithm must seem
_SUMS = 12  # vectors of sums of a depthwise layer that are under way
_GAP = 16  # floats between rows in scratch memory that else would share sets of the L1 cache


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a layer is cut.

    turned: lanes run over results (over both if depthwise). down, vectors: what a unit has of the
    other operand, and vectors of this one; rows x columns: its register tile. lines, line: lines of
    a band and places of a line that are at hand.
    """

    turned: bool
    down: int
    vectors: int
    rows: int
    columns: int
    lanes: int
    lines: int
    line: int
    depthwise: bool = False

    @property
    def width(self) -> int:
        """Numbers along lanes."""
        return self.vectors * self.lanes

    @property
    def channels(self) -> int:
        """Channels of a unit."""
        return self.down if self.turned else self.width

    @property
    def results(self) -> int:
        """Results of a unit."""
        return self.width if self.turned or self.depthwise else self.down

    @property
    def why(self) -> str:
        """For `explain`."""
        tile = f"tile {self.rows}x{self.columns * self.lanes}"
        size = f"{self.results} x {self.channels} weights"
        return f"{tile}, {size}, {self.lines} lines of {self.line} at a time"


@dataclass(frozen=True, slots=True)
class WeightGradient:
    """A lowered gradient, and how it was cut."""

    lowered: Lowered
    cut: Blocking | Cut

    @property
    def why(self) -> str:
        """For `explain`."""
        return self.cut.why


def lower_weight_gradient(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...], strict: bool = False
) -> WeightGradient:
    """The kernel of a cluster with the gradient of a weight; `strict`: a plain sum."""
    layer = describe(plan, cluster)
    blocking = choose_blocking(layer, device)
    fast = None if strict or layer.by_image else _fewer_products(layer, blocking, device)
    if fast is not None:
        memory = Memory(plan)
        lowered = lower_winograd_gradient(layer, fast, memory, NestBuilder(memory.access(), widths))
        if lowered is not None:
            return WeightGradient(lowered, fast)
    memory = Memory(plan)
    make = _Depthwise if layer.depthwise else _Kernel
    kernel = make(layer, blocking, memory, NestBuilder(memory.access(), widths))
    return WeightGradient(kernel.lowered(), blocking)


def _fewer_products(layer: Layer, blocking: Blocking, device: CpuDevice) -> Cut | None:
    """The best cut for Winograd's algorithm, if that seems faster."""
    ways = sorted(cuts(layer, device), key=lambda way: way[0])
    if not ways:
        return None
    cycles, cut = ways[0]
    places = math.prod(as_int(span.places) for span in layer.spans)
    return cut if cycles < _cycles(layer, blocking, device) * places * _MARGIN else None


# ---- how it is cut -------------------------------------------------------------------------------


def choose_blocking(layer: Layer, device: CpuDevice) -> Blocking:
    """The blocks that seem fastest: few copies of lines, enough units for all cores."""
    lanes = device.vector_lanes(4)
    lines, line = _places_at_hand(layer)
    if layer.depthwise:
        return _of_channels(layer, device, lines, line)
    found: list[tuple[float, int, Blocking]] = []
    for turned in (False, True):
        sizes = (layer.results, layer.channels)
        along, across = sizes[:: 1 if turned else -1]
        for vectors in _parts(-(-along // lanes)):
            for down in _parts(across):
                tile = best_tile(down, vectors, device)
                blocking = Blocking(turned, down, vectors, *tile, lanes, lines, line)
                found.append((_cycles(layer, blocking, device), len(found), blocking))
    return min(found)[-1]


def _of_channels(layer: Layer, device: CpuDevice, lines: int, line: int) -> Blocking:
    """Of a depthwise layer: all channels of an image, as many lines as fit into the L2 cache, or
    blocks of channels."""
    lanes = device.vector_lanes(4)
    vectors = -(-layer.channels // lanes)
    most = max(1, _SUMS // layer.spans[-1].taps)
    if not layer.by_image:
        share = min(most, -(-vectors // min(vectors, device.cores)))
        return Blocking(False, 1, share, 1, share, lanes, lines, line, True)
    share = max(n for n in range(1, most + 1) if vectors % n == 0)
    ways = [n for n in range(lines, 0, -1) if lines % n == 0]
    found = [Blocking(False, 1, vectors, 1, share, lanes, n, line, True) for n in ways]
    return next((b for b in found if _floats(layer, b) * 4 <= _L2 * device.l2), found[-1])


def _floats(layer: Layer, blocking: Blocking) -> int:
    """Of scratch memory."""
    return sum(size for _, size in _arrays(layer, blocking))


def _parts(size: int) -> list[int]:
    """Sizes of equal parts of something: all of it, halves, thirds, …"""
    return sorted({-(-size // n) for n in range(1, size + 1)})


def _places_at_hand(layer: Layer) -> tuple[int, int]:
    """Lines of a band and places of a line. Bands are whole parts of the map."""
    last = layer.spans[-1].places
    if isinstance(last, Dim) or last > _LONGEST_LINE or len(layer.spans) == 1:
        return 1, _LONGEST_LINE if isinstance(last, Dim) else min(last, _LONGEST_LINE)
    height = layer.spans[-2].places
    assert isinstance(height, int)
    lines = max(
        n for n in range(1, height + 1) if height % n == 0 and (n == 1 or n * last <= _MOST_PLACES)
    )
    return lines, last


def _cycles(layer: Layer, blocking: Blocking, device: CpuDevice) -> float:
    """Cycles for one place of dy, of the core that has most to do."""
    b = blocking
    units = layer.groups * -(-layer.channels // b.channels) * -(-layer.results // b.results)
    rounds = units / device.cores if layer.by_image else -(-units // device.cores)
    products = layer.taps * tile_cycles(b.down, b.vectors, (b.rows, b.columns))
    places = b.lines * b.line
    added = layer.taps * b.down * b.vectors * _ADDED / places
    around = math.prod(_copied(layer, b)) / places  # elements of x for each place
    copied = (around * -(-b.channels // b.lanes) + -(-b.results // b.lanes)) * _PACKED
    moved = 4 * (around * b.channels + b.results) / _FAR * _EXPOSED
    too_large = max(0.0, 4 * _floats(layer, b) / (_L2 * device.l2) - 1)
    return rounds * (products + added + copied + moved) * (1 + 4 * too_large)


# ---- the kernel ----------------------------------------------------------------------------------


def _arrays(layer: Layer, blocking: Blocking) -> list[tuple[str, int]]:
    """Scratch arrays and their sizes in floats."""
    b = blocking
    return [
        ("sums", layer.taps * b.down * b.width),
        ("lines", math.prod(_copied(layer, b)) * _pitch(b.channels)),
        ("gradient", b.lines * b.line * _pitch(b.results)),
    ]


def _pitch(floats: int) -> int:
    return floats + (_GAP if floats % (2 * _GAP) == 0 else 0)


def _copied(layer: Layer, blocking: Blocking) -> tuple[int, ...]:
    """Elements of x along each span that are at hand: of outer ones, one for each tap."""
    *outer, _ = layer.spans
    sizes = [span.taps for span in outer]
    if outer:
        sizes[-1] = outer[-1].covered(blocking.lines)
    return (*sizes, layer.spans[-1].covered(blocking.line))


class _Kernel:
    """Statements of one kernel. Spans are the line, the band (if there is one) and outer ones."""

    def __init__(
        self, layer: Layer, blocking: Blocking, memory: Memory, builder: NestBuilder
    ) -> None:
        self.layer, self.blocking = layer, blocking
        self.memory, self.builder = memory, builder
        b = blocking
        self.group: Expr = const(0) if layer.depthwise else axis("group", layer.groups)
        self.block = axis("channels", -(-layer.channels // b.channels))
        self.part = self.block
        if not layer.depthwise:
            self.part = axis("results", -(-layer.results // b.results))
        self.images = tuple(axis(f"image{n}", size) for n, size in enumerate(layer.images))
        # the first place at hand along each span
        steps = self._steps()
        self.turns = tuple(axis(f"turn{n}", count) for n, (count, _) in enumerate(steps))
        self.first = tuple(turn * size for turn, (_, size) in zip(self.turns, steps))

    def _steps(self) -> list[tuple[Size, int]]:
        """For each span: how often it is cut, and into how many places."""
        *outer, line = self.layer.spans
        found: list[tuple[Size, int]] = [(span.places, 1) for span in outer]
        if outer:
            found[-1] = (as_int(outer[-1].places) // self.blocking.lines, self.blocking.lines)
        many = line.places
        size = self.blocking.line
        # a batch is cut at run time
        return [*found, (many if isinstance(many, Dim) else -(-many // size), size)]

    def lowered(self) -> Lowered:
        """The kernel."""
        layer = self.layer
        code = (*self._copy_x(), *self._copy_dy(), *self._products())
        for turn, (count, size) in reversed(list(zip(self.turns, self._steps()))):
            end = size_expr(count)
            if isinstance(count, Dim):
                end = (end + (size - 1)) // size
            code = (For(turn, const(0), end, code),)
        for image in () if layer.by_image else reversed(self.images):
            code = (For(image, const(0), size_expr(image.value[1]), code),)
        body = (*self._zeros(), *code, *self._results())
        arrays = [(name, F32, size) for name, size in _arrays(self.layer, self.blocking)]
        outer = [self.block] if layer.depthwise else [self.group, self.part, self.block]
        outer = [*self.images, *outer] if layer.by_image else outer
        return lowered_units(self.memory, outer, arrays, body, "")

    def _zeros(self) -> tuple[Stmt, ...]:
        size = self.layer.taps * self.blocking.down * self.blocking.width
        place = axis("place", size)
        return nest(self.builder, (place,), (Output("sums", place, const(0.0)),))

    def _copy_x(self) -> tuple[Stmt, ...]:
        """Lines of x with what surrounds them, channels innermost; 0 beyond the map."""
        layer, b = self.layer, self.blocking
        sizes = _copied(layer, b)
        axes = [axis(f"copy{n}", s) if s > 1 else const(0) for n, s in enumerate(sizes)]
        channel = axis("channel", b.channels)
        positions, target = [], const(0)
        for n, (span, first, a, size) in enumerate(zip(layer.spans, self.first, axes, sizes)):
            outer = n < len(layer.spans) - 2
            positions.append(span.position(first, a * span.dilation if outer else a))
            target = target * size + a
        number = self.block * b.channels + channel
        value = layer.x(self.images, self.group, number, positions)
        valid = [inside(p, 0, s.extent) for p, s in zip(positions, layer.spans)]
        valid.append(inside(number, 0, layer.channels))
        value = where(all_of(valid), value, const(0.0))
        loops = [a for a in (*axes, channel) if a.op == "axis"]
        return nest(
            self.builder, loops, (Output("lines", target * _pitch(b.channels) + channel, value),)
        )

    def _copy_dy(self) -> tuple[Stmt, ...]:
        """The same places of dy, results innermost."""
        layer, b = self.layer, self.blocking
        result, column = axis("result", b.results), axis("column", b.line)
        row = axis("row", b.lines) if b.lines > 1 else const(0)
        here = list(self.first)
        here[-1] = here[-1] + column
        if len(here) > 1:
            here[-2] = here[-2] + row
        number = self.part * b.results + result
        valid = inside(number, 0, layer.results) & inside(here[-1], 0, layer.spans[-1].places)
        value = where(valid, layer.dy(self.images, self.group, number, here), const(0.0))
        target = (row * b.line + column) * _pitch(b.results) + result
        loops = [a for a in (row, column, result) if a.op == "axis"]
        return nest(self.builder, loops, (Output("gradient", target, value),))

    # ---- products

    def _taps(self) -> list[Expr]:
        spans = enumerate(self.layer.spans)
        return [axis(f"tap{n}", s.taps) if s.taps > 1 else const(0) for n, s in spans]

    def _number(self, taps: Sequence[Expr]) -> Expr:
        """The number of a tap."""
        number = const(0)
        for span, tap in zip(self.layer.spans, taps):
            number = number * span.taps + tap
        return number

    def _products(self) -> tuple[Stmt, ...]:
        """For each tap, register tiles of results by channels, added to the sums."""
        taps, b = self._taps(), self.blocking
        code = over_tiles(b.down, b.vectors, (b.rows, b.columns), partial(self._tile, taps))
        return self._over(taps, code)

    def _over(self, taps: Sequence[Expr], code: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        for tap, span in reversed(list(zip(taps, self.layer.spans))):
            if span.taps > 1:
                code = (For(tap, const(0), const(span.taps), code),)
        return code

    def _tile(
        self, taps: Sequence[Expr], row: Expr, rows: int, vector: Expr, vectors: int
    ) -> tuple[Stmt, ...]:
        b = self.blocking
        read_x, read_dy = self._reader_of_x(taps), self._reader_of_dy()
        names = ("lines", "gradient") if b.turned else ("gradient", "lines")
        scalars, along = (read_x, read_dy) if b.turned else (read_dy, read_x)
        base = self._number(taps) * (b.down * b.width) + vector * b.lanes
        micro = Micro(
            rows,
            vectors,
            b.lanes,
            *names,
            lambda p, k: scalars(k, row + p),
            lambda k, j, lane: along(k, (vector + j) * b.lanes + lane),
            (b.lines, b.line) if b.lines > 1 else (),
        )
        return micro_kernel(
            micro,
            self._depth(),
            lambda p, j, lane: base + (row + p) * b.width + j * b.lanes + lane,
            "sums",
            const(True),
        )

    def _reader_of_dy(self) -> Callable[[Expr, Expr], Expr]:
        """Where result number n at place k is."""
        pitch = _pitch(self.blocking.results)
        return lambda k, n: k * pitch + n

    def _reader_of_x(self, taps: Sequence[Expr]) -> Callable[[Expr, Expr], Expr]:
        """Where channel number n that a tap meets at place k is."""
        layer, b = self.layer, self.blocking
        sizes = _copied(layer, b)
        start = const(0)
        for n, (span, tap, size) in enumerate(zip(layer.spans, taps, sizes)):
            outer = n < len(layer.spans) - 2
            start = start * size + tap * (1 if outer else span.dilation)
        lines, line = axis("line", b.lines), axis("at", b.line)

        def index(k: Expr, n: Expr) -> Expr:
            place = decode(k, (lines, line)) if b.lines > 1 else {lines: const(0), line: k}
            at = start + place[line] * layer.spans[-1].step
            if b.lines > 1:
                at = at + place[lines] * (layer.spans[-2].step * sizes[-1])
            return at * _pitch(b.channels) + n

        return index

    def _depth(self) -> Expr | int:
        """Places at hand."""
        many, b = self.layer.spans[-1].places, self.blocking
        if isinstance(many, int) and many % b.line == 0:
            return b.lines * b.line
        return apply("min", const(b.line), size_expr(many) - self.first[-1])

    # ---- results

    def _results(self) -> tuple[Stmt, ...]:
        """The block of dw to its place; a last block that is not full has code of its own."""
        layer, b = self.layer, self.blocking
        size, block = (layer.results, self.part) if b.turned else (layer.channels, self.block)
        whole, rest = divmod(size, b.width)
        full, part = self._stored(b.width), self._stored(rest)
        if rest and whole:
            return (If(block < whole, full, part),)
        return part if rest else full

    def _index(self, result: Expr, channel: Expr, taps: Sequence[Expr]) -> tuple[Expr, ...]:
        """Where an element of dw is."""
        images = self.images if self.layer.by_image else ()
        return (*images, *self.layer.index(result, channel, taps))

    def _stored(self, width: int) -> tuple[Stmt, ...]:
        layer, b, taps = self.layer, self.blocking, self._taps()
        row, lane = axis("row", b.down), axis("along", max(1, width))
        o, c = (lane, row) if b.turned else (row, lane)
        result, channel = self.part * b.results + o, self.block * b.channels + c
        size, number = (layer.channels, channel) if b.turned else (layer.results, result)
        at = (self._number(taps) * b.down + row) * b.width + lane
        index = self._index(self.group * layer.results + result, channel, taps)
        target = self.memory.target(layer.name, index, load("@sums", F32, at))
        loops = [t for t in (*taps, lane) if t.op == "axis"]
        code = nest(self.builder, loops, (target,))
        end = apply("min", const(b.down), const(size) - (number - row))
        return (For(row, const(0), end, code),)


class _Depthwise(_Kernel):
    """Channels with a result each: for the taps along a line, vectors of sums in registers."""

    def _products(self) -> tuple[Stmt, ...]:
        b, taps = self.blocking, self._taps()
        *outer, last = taps
        along = range(self.layer.spans[-1].taps)
        lane, line = axis("lane", b.lanes), axis("line", b.lines)
        blocks = b.vectors // b.columns
        block = axis("vectors", blocks) if blocks > 1 else const(0)
        begin = block * (b.columns * b.lanes) + lane
        depth = self._depth()
        count = size_expr(depth // b.lines) if isinstance(depth, int) else depth
        at = axis("at", b.line)
        place = line * b.line + at
        names = {(t, j): f"sum_{t}_{j}" for t in along for j in range(b.columns)}
        step: list[Stmt] = []
        for j in range(b.columns):
            column = begin + j * b.lanes
            step.append(Let(f"dy_{j}", load("@gradient", F32, self._reader_of_dy()(place, column))))
        for t, j in names:
            tap = [*outer, const(t)] if last.op == "axis" else [*outer, last]
            x = load("@lines", F32, self._reader_of_x(tap)(place, begin + j * b.lanes))
            name = names[t, j]
            step.append(Set(name, local(name, F32, True) + local(f"dy_{j}", F32, True) * x))
        zeros = [Var(name, const(0.0), b.lanes) for name in names.values()]
        end: list[Stmt] = []
        for (t, j), name in names.items():
            number = self._number([*outer, const(t)] if last.op == "axis" else taps)
            target = number * b.width + begin + j * b.lanes
            end.append(Store("sums", target, local(name, F32, True) + load("@sums", F32, target)))
        body = (*zeros, For(at, const(0), count, tuple(step)), *end)
        body = (For(line, const(0), const(b.lines), body),)
        code: tuple[Stmt, ...] = (For(lane, const(0), const(b.lanes), body, b.lanes),)
        if blocks > 1:
            code = (For(block, const(0), const(blocks), code),)
        return self._over(outer, code)

    def _stored(self, width: int) -> tuple[Stmt, ...]:
        b, taps = self.blocking, self._taps()
        lane = axis("along", max(1, width))
        channel = self.block * b.width + lane
        at = self._number(taps) * b.width + lane
        index = self._index(channel, channel, taps)
        target = self.memory.target(self.layer.name, index, load("@sums", F32, at))
        return nest(self.builder, [t for t in (*taps, lane) if t.op == "axis"], (target,))
