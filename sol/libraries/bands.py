"""The kernel around a library's convolution: units of work are bands of an image's rows, and what
the library does not compute follows on the band while it is in the cache.

A library with threads of its own would fight with the pool for the cores (docs/libraries.md has the
measurement), so it computes one band in the thread that took the unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute
from sol.ir.loop import Call, For, Kernel, Stmt, scratch_layout
from sol.kernels.operands import ACCUMULATED
from sol.libraries.convolution import Convolution, Task
from sol.lower.cluster import Lowered, Memory
from sol.lower.nest import NestBuilder, nest
from sol.lower.units import UNIT, count, decode, with_units
from sol.plan.records import Plan


@dataclass(frozen=True, slots=True)
class Bands:
    """An image cut into `count` bands of `rows` rows of the result (the last one may be shorter).

    parts: the different convolutions that compute them, the most frequent one first; part_of: the
    number of each band's part.
    """

    rows: int
    count: int
    parts: tuple[Convolution, ...]
    part_of: tuple[int, ...]


def cut_bands(convolution: Convolution, device: CpuDevice) -> Bands:
    """Bands so that every core has one, and a band's result takes at most half of a level 2
    cache.
    """
    height = convolution.result[0]
    result = 4 * math.prod(convolution.result) * convolution.outputs
    wanted = max(device.cores, -(-2 * result // device.l2))
    rows = -(-height // min(height, wanted))
    cut = [convolution.band(r, min(r + rows, height)) for r in range(0, height, rows)]
    if any(band.size[0] < 1 for band in cut):  # rows that see nothing but padding
        rows, cut = height, [convolution]
    parts = tuple(part for part, _ in Counter(cut).most_common())
    return Bands(rows, len(cut), parts, tuple(parts.index(band) for band in cut))


def lower_bands(
    plan: Plan,
    task: Task,
    bands: Bands,
    function: str,
    weight: str,
    scratch: int,
    widths: Sequence[int],
) -> Lowered:
    """The kernel that calls `function(band, pointers)` for each band.

    Pointers are those of the source, the packed weights (buffer `weight`), the result, `scratch`
    bytes, the bias and what is added; an absent one is that of the result.
    """
    memory = Memory(plan)
    band = axis("band", bands.count)
    source = _at(memory, task.source, task.source_at + _source_row(task.convolution, bands, band))
    packed = (memory.buffers.read("@weights", F32), const(0))
    target = plan.places[task.product.end]
    name = memory.buffers.write(target.buffer, target.dtype)
    convolution = task.convolution
    width = math.prod(convolution.result[1:])  # rows of the matrix product per row of the image
    first = band * (bands.rows * width)
    moved = first * convolution.outputs
    result = (name, task.result_at + moved)
    bias = _at(memory, *task.bias) if task.bias else result
    add = _at(memory, task.add[0], task.add[1] + moved) if task.add else result
    arrays, size = scratch_layout([("library", F32, -(-scratch // 4))])
    pointers = (source, packed, result, ("library", const(0)), bias, add)
    rest = _epilogue(memory, task, name, first, bands, tuple(widths))
    outer = (*task.product.outer, band)
    statements = (*arrays, *with_units(outer, (Call(function, band, pointers), *rest)))
    kernel = Kernel(memory.buffers.arguments(), UNIT, count(outer), statements, size)
    names = tuple(weight if n == "@weights" else n for n in memory.buffers.names)
    return Lowered(kernel, names)


def _at(memory: Memory, value: str, index: Expr) -> tuple[str, Expr]:
    """The kernel's name for the buffer of a value, and an element of it."""
    place = memory.plan.places[value]
    return memory.buffers.read(place.buffer, place.dtype), index


def _source_row(convolution: Convolution, bands: Bands, band: Expr) -> Expr:
    """Elements from the beginning of an image to the first row that a band reads."""
    row = band * (bands.rows * convolution.stride[0]) - convolution.low[0]
    pitch = math.prod(convolution.size[1:]) * convolution.inputs
    return apply("max", row, const(0)) * pitch


def _epilogue(
    memory: Memory, task: Task, name: str, first: Expr, bands: Bands, widths: tuple[int, ...]
) -> tuple[Stmt, ...]:
    """The operators that are left, in place on a band of the result."""
    if task.rest is ACCUMULATED:
        return ()
    product, builder = task.product, NestBuilder(memory.access(), widths)
    width = math.prod(task.convolution.result[1:])
    total = math.prod(task.convolution.result)
    present = apply("min", const(bands.rows * width), const(total) - first)
    row = axis("brow", bands.rows * width)
    mapping = decode(first + row, product.rows)
    index = tuple(substitute(i, mapping) for i in product.index)
    place = memory.plan.places[product.end]
    finished = load("@" + name, F32, place.flat(index))
    value = substitute(substitute(task.rest, mapping), {ACCUMULATED: finished})
    columns = (*([product.group] if product.group is not None else []), product.column)
    code = nest(builder, columns, (memory.target(product.end, index, value),))
    return (For(row, const(0), present, code),)
