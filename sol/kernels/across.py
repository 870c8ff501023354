"""Linear layers along another axis than the innermost one, as an MLP-Mixer's over the tokens.

    y[column, row] = sum over k of W[column, k] * x[k, row]

x and y lie with their rows innermost, so lanes run along rows, and what is broadcast are the
weights, which are read as they are. A unit has some vectors of rows: it copies their x once, in
long pieces and with all that is computed of it, then goes through the columns in register tiles
(micro.py). Nothing is ever transposed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dtypes import F32
from sol.ir.expr import Expr, axis, const, load, substitute
from sol.ir.loop import For, Stmt, when
from sol.kernels.gemm import element_at
from sol.kernels.micro import Micro, micro_kernel
from sol.kernels.operands import Product, describe
from sol.kernels.schedule import of_units
from sol.kernels.tiles import candidates, pieces, tile_cycles
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import fixed_extent
from sol.lower.vector import lane_cost, step
from sol.plan.facts import FEWEST_ACROSS
from sol.plan.records import Cluster, Plan

_COPIED = 6.0  # cycles to copy a vector of x and compute what the product reads of it
_UNIT = 600.0  # cycles to begin a unit


@dataclass(frozen=True, slots=True)
class Across:
    """A layer, and the register tile: columns x vectors of rows. A unit has the vectors of one."""

    product: Product
    columns: int
    vectors: int
    lanes: int

    @property
    def why(self) -> str:
        """For `explain`."""
        shape = f"tile {self.columns}x{self.vectors * self.lanes}"
        return f"{shape}, lanes along rows, weights as they are"


def find_across(plan: Plan, cluster: Cluster, device: CpuDevice) -> Across | None:
    """The layer of a contraction cluster, None if it is another kind of product."""
    root = plan.graph[cluster.root]
    if root.op != "linear":
        return None
    product = describe(plan, cluster, device.vector_lanes(4))
    if product.packing is None or not product.rows or product.group is not None:
        return None
    memory, row = Memory(plan), product.rows[-1]
    if fixed_extent(row) < FEWEST_ACROSS:
        return None
    output = memory.target(product.end, product.index, product.value)
    assert output.index is not None
    if step(output.index, row) != 1 or lane_cost([product.a], row, memory.access()) != 0:
        return None
    return _best(product, device)


def _best(product: Product, device: CpuDevice) -> Across:
    """With the tile that keeps all cores busy until the end."""
    lanes, depth = device.vector_lanes(4), fixed_extent(product.k[0])
    vectors = -(-fixed_extent(product.rows[-1]) // lanes)

    def cycles(tile: tuple[int, int]) -> float:
        units = [
            min(tile[1], vectors - v) * depth * _COPIED + _UNIT
            + tile_cycles(product.columns, min(tile[1], vectors - v), tile) * depth
            for v in range(0, vectors, tile[1])
        ]  # fmt: skip
        return of_units(units, device.cores)

    fitting = [
        t
        for t in candidates(device.vector_registers)
        if t[0] <= product.columns and t[1] <= vectors
    ]
    p, v = min(fitting or [(1, 1)], key=lambda t: (cycles(t), -t[0] * t[1]))
    return Across(product, p, v, lanes)


def lower_across(plan: Plan, layer: Across, widths: tuple[int, ...]) -> Lowered:
    """The kernel of a layer."""
    product, memory = layer.product, Memory(plan)
    builder = NestBuilder(memory.access(), widths)
    width, rows = layer.vectors * layer.lanes, fixed_extent(product.rows[-1])
    block = axis("block", -(-rows // width))
    whole, rest = divmod(rows, width)
    code: tuple[Stmt, ...] = ()
    if whole:
        code = when(block < whole, _block(memory, builder, layer, block, width))
    if rest:
        code += when(block >= whole, _block(memory, builder, layer, block, rest))
    depth = fixed_extent(product.k[0])
    arrays = [("x", F32, depth * width), ("tile", F32, layer.columns * width)]
    outer = [*product.outer, *product.rows[:-1], block]
    return lowered_units(memory, outer, arrays, code, "")


def _block(
    memory: Memory, builder: NestBuilder, layer: Across, block: Expr, rows: int
) -> tuple[Stmt, ...]:
    """A block of so many rows: their x, then all columns."""
    product, lanes = layer.product, layer.lanes
    vectors = -(-rows // lanes)
    row, k = axis("row", rows), product.k[0]
    first = block * (layer.vectors * lanes)
    given = substitute(product.a, {product.rows[-1]: first + row})
    copied = Output("x", k * (vectors * lanes) + row, given)
    code = list(nest(builder, (k, row), (copied,)))
    for starts, high in pieces(product.columns, layer.columns):
        down = axis("down", len(starts))
        column = down * high + starts.start
        tile = _tile(memory, builder, layer, first, rows, column, high)
        code.append(For(down, const(0), const(len(starts)), tile))
    return tuple(code)


def _tile(
    memory: Memory,
    builder: NestBuilder,
    layer: Across,
    first: Expr,
    rows: int,
    column: Expr,
    columns: int,
) -> tuple[Stmt, ...]:
    """A register tile and its epilogue."""
    product, lanes = layer.product, layer.lanes
    width = -(-rows // lanes) * lanes
    weight = memory.flat(load(product.weight, F32, column, const(0)))

    def w(p: int, k: Expr) -> Expr:
        return memory.flat(load(product.weight, F32, column + p, k)).args[0]

    def x(k: Expr, j: int, lane: Expr) -> Expr:
        return k * width + j * lanes + lane

    def target(p: int, j: int, lane: Expr) -> Expr:
        return const(p * width + j * lanes) + lane

    micro = Micro(columns, width // lanes, lanes, weight.value, "x", w, x)
    code = micro_kernel(micro, fixed_extent(product.k[0]), target, "tile")
    p, row = axis("erow", columns), axis("ecol", rows)
    here = {product.column: column + p, product.rows[-1]: first + row}
    finished = load("@tile", F32, p * width + row)
    return (*code, *nest(builder, (p, row), (element_at(memory, product, here, finished),)))
