"""Last changes to a graph before planning, so that kernels find operands as they need them.

matmul(a, b)                       -> packed_matmul(a, packed_columns(b))     where there are
enough rows
a result that is an input, a constant or another result -> copy(it)
attention with a mask              -> masked_attention                        see attention.py
conv(x, …) of few channels, padded -> conv(pad(x), …)                         borders are tested
once per element, not once per window
conv(x, w, b) of few results       -> sum_of_taps(conv(x, w'), b)             each pixel times all
taps at once, which fill the lanes that few results would leave empty
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from sol.core.dims import Dim
from sol.core.dtypes import F32
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, axis, const, reduce, where
from sol.ir.graph import SOURCES, Builder, Graph, Node, TensorType
from sol.ops.maps import all_of, axes_of, inside, over
from sol.ops.registry import OPS, Index, OpDef, Read, Sample, builder, register
from sol.ops.rules import numbers
from sol.ops.windows import taps, window_sizes
from sol.plan.attention import turn_masks
from sol.plan.facts import FEWEST_ROWS, rows_per_image

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

_FEW_CHANNELS = 8
_FEW_RESULTS = 4
_MOST_COLUMNS = 256  # products of a place that are kept in memory
_DEEP = 16  # channels of inputs that are worth a pass over all products
_FEWER = 2.5  # times fewer multiply-adds: Winograd's algorithm saves as many
STEM_CHANNELS = 4  # of a first layer's input, so that a vector holds those of a pixel
_BLOCK = 32  # columns of a block of a packed operand


def prepare_graph(graph: Graph, lanes: int, stems: Collection[str] = ()) -> Graph:
    """Apply the rewrites above. lanes: floats of a vector of the device. stems: first layers that
    read a copy of their input, padded, with channels for a vector."""
    b = builder()
    for node in graph:
        b.reserve(node.name)
    turned: dict[str, Node] = {}
    for node in graph:
        if node.op == "attention" and len(node.inputs) > 3:
            b.append(turn_masks(graph, b, node, turned))
        elif node.op == "matmul" and node.dtype.name == "f32" and _worth_packing(node):
            right = b[node.inputs[1]]
            packed = b.add(
                "packed_columns",
                right,
                block=_BLOCK,
                name=f"{node.name}_packed",
                origin=node.origin,
            )
            attrs = (("block", _BLOCK), ("columns", node.shape[-1]))
            b.append(
                Node(
                    node.name,
                    "packed_matmul",
                    (node.inputs[0], packed.name),
                    attrs,
                    node.type,
                    node.origin,
                )
            )
        elif node.name in stems:
            b.append(_padded(b, node, STEM_CHANNELS))
        elif node.op == "conv" and _thin(graph, node):
            b.append(_padded(b, node))
        elif node.op == "conv" and _few_results(graph, node, lanes):
            b.append(_tap_by_tap(b, node))
        else:
            b.append(node)
    return b.finish(_results(b, graph))


def _results(b: Builder, graph: Graph) -> list[Node]:
    """One node of its own for every result: inputs, parameters and repeated results are copied."""
    results: list[Node] = []
    for name in graph.outputs:
        node = b[name]
        given = node.op in SOURCES or name in graph.static
        results.append(
            b.add("copy", node, name=f"{name}_copy") if given or node in results else node
        )
    return results


def _worth_packing(node: Node) -> bool:
    return (
        rows_per_image(node.shape[-2:-1]) >= FEWEST_ROWS
        and isinstance(node.shape[-1], int)
        and isinstance(node.shape[-2], int)
    )


def _thin(graph: Graph, node: Node) -> bool:
    channels = graph[node.inputs[0]].shape[1]
    assert isinstance(channels, int)
    return (
        channels // node["groups"] < _FEW_CHANNELS
        and node["groups"] == 1
        and any(p != (0, 0) for p in node["padding"])
    )


def _padded(b: Builder, node: Node, channels: int = 0) -> Node:
    """A convolution that does without padding; with so many input channels at least."""
    x, weight = b[node.inputs[0]], b[node.inputs[1]]
    given = x.shape[1]
    assert isinstance(given, int)
    more = max(0, channels - given)
    low = (0, 0, *(p[0] for p in node["padding"]))
    high = (0, more, *(p[1] for p in node["padding"]))
    x = _with_zeros(b, x, low, high, f"{node.name}_pad", node.origin)
    if more:
        none = (0,) * (len(low) - 2)
        name = f"{node.name}_widened"
        weight = _with_zeros(b, weight, (0, 0, *none), (0, more, *none), name)
    attrs = tuple(
        (k, tuple((0, 0) for _ in node["padding"]) if k == "padding" else v) for k, v in node.attrs
    )
    inputs = (x.name, weight.name, *node.inputs[2:])
    return Node(node.name, "conv", inputs, attrs, node.type, node.origin)


def _with_zeros(
    b: Builder, x: Node, low: tuple[int, ...], high: tuple[int, ...], name: str, origin: str = ""
) -> Node:
    return b.add("pad", x, low=low, high=high, mode="constant", value=0.0, name=name, origin=origin)


def _few_results(graph: Graph, node: Node, lanes: int) -> bool:
    """Whether all taps of a convolution side by side use lanes much better than its results alone,
    each place of the input with all taps instead of each result with all taps.
    """
    given = graph[node.inputs[0]].shape
    results, channels, *kernel = numbers("conv", "a weight size", graph[node.inputs[1]].shape)
    window = math.prod(kernel)
    before = math.prod(numbers("conv", "a size", node.shape[2:])) * window
    after = math.prod(numbers("conv", "a size", given[2:])) * -(-results * window // lanes)
    return (
        node.inputs[1] in graph.static
        and node.dtype.name == "f32"
        and node["groups"] == 1
        and set(node["stride"]) == {1}
        and results <= _FEW_RESULTS
        and results * window <= _MOST_COLUMNS
        and channels >= _DEEP
        and after * _FEWER <= before
    )


def _tap_by_tap(b: Builder, node: Node) -> Node:
    """One product for each tap and result at each place of the input, and their shifted sums."""
    x, weight, *bias = (b[i] for i in node.inputs)
    results, channels, *kernel = weight.shape
    rank = len(kernel)
    turned = b.add("permute", weight, axes=(*range(2, rank + 2), 0, 1), name=f"{node.name}_taps")
    columns = math.prod(numbers("conv", "a weight size", (results, *kernel)))
    shape = (columns, channels, *(1 for _ in kernel))
    stacked = b.add("reshape", turned, shape=shape, name=f"{node.name}_taps")
    ones = (1,) * rank
    products = b.add(
        "conv",
        x,
        stacked,
        stride=ones,
        padding=((0, 0),) * rank,
        dilation=ones,
        groups=1,
        name=f"{node.name}_products",
        origin=node.origin,
    )
    attrs = (
        ("dilation", node["dilation"]),
        ("kernel", tuple(kernel)),
        ("padding", node["padding"]),
    )
    inputs = (products.name, *(n.name for n in bias))
    return Node(node.name, "sum_of_taps", inputs, attrs, node.type, node.origin)


# ---- the operators that only plans contain ---------------------------------------------------


def _infer_packed(b: TensorType, *, block: int) -> TensorType:
    *batch, depth, columns = b.shape
    if isinstance(columns, Dim):
        raise UnsupportedError("packed_columns", "the number of columns depends on the batch")
    return TensorType((*batch, -(-columns // block), depth, block), b.dtype)


def _compute_packed(node: Node, index: Index, b: Read) -> Expr:
    *batch, block, k, column = index
    position = block * node["block"] + column
    columns = b.shape[-1]
    assert isinstance(columns, int)
    return where(position < columns, b(*batch, k, position), const(0.0))


def _reference_packed(node: Node, b: Any) -> Any:
    block = node["block"]
    *batch, depth, columns = b.shape
    blocks = -(-columns // block)
    padded = np.zeros((*batch, depth, blocks * block), b.dtype)
    padded[..., :columns] = b
    return padded.reshape(*batch, depth, blocks, block).swapaxes(-3, -2)


def _infer_product(a: TensorType, b: TensorType, *, block: int, columns: int) -> TensorType:
    batch = a.shape[:-2] if len(a.shape) >= len(b.shape) - 1 else b.shape[:-3]
    return TensorType((*batch, a.shape[-2], columns), a.dtype)


def _compute_product(node: Node, index: Index, a: Read, b: Read) -> Expr:
    *batch, i, j = index
    k = axis(f"{node.name}_k", a.shape[-1])
    left = a(*_aligned(batch, a.shape[:-2]), i, k)
    right = b(*_aligned(batch, b.shape[:-3]), j // node["block"], k, j % node["block"])
    return reduce("sum", (k,), left * right)


def _aligned(batch: Index, shape: tuple[object, ...]) -> tuple[Expr, ...]:
    tail = tuple(batch)[len(batch) - len(shape) :]
    return tuple(const(0) if s == 1 else i for i, s in zip(tail, shape))


def _infer_sum_of_taps(
    x: TensorType, *bias: TensorType, kernel: Ints, padding: Pads, dilation: Ints
) -> TensorType:
    channels = x.shape[1]
    assert isinstance(channels, int)
    ones = (1,) * len(kernel)
    places = window_sizes("sum_of_taps", x.shape[2:], kernel, ones, padding, dilation)
    return TensorType((x.shape[0], channels // math.prod(kernel), *places), x.dtype)


def _compute_sum_of_taps(node: Node, index: Index, x: Read, bias: Read | None = None) -> Expr:
    n, o, *place = index
    tap = axes_of(node, node["kernel"])
    number = const(0)
    for k, extent in zip(tap, node["kernel"]):
        number = number * extent + k
    low = [before for before, _ in node["padding"]]
    position = taps(place, tap, (1,) * len(tap), low, node["dilation"])
    valid = all_of([inside(p, 0, extent) for p, extent in zip(position, x.shape[2:])])
    results = node.shape[1]
    assert isinstance(results, int)
    element = x(n, number * results + o, *position)
    total = over("sum", tap, where(valid, element, const(0, node.dtype)))
    return total if bias is None else total + bias(o)


def _same(x: TensorType) -> TensorType:
    return x


_F32 = partial(TensorType, dtype=F32)
for _entry in (
    OpDef(
        "packed_columns",
        "move",
        _infer_packed,
        "Columns of a matrix in blocks: `y[..., n, k, j] = b[..., k, n * block + j]`, else 0.",
        (Sample((_F32((3, 5, 37)),), {"block": _BLOCK}),),
        compute=_compute_packed,
        reference=_reference_packed,
    ),
    OpDef(
        "packed_matmul",
        "contract",
        _infer_product,
        "A matrix product whose right side comes from packed_columns.",
        (Sample((_F32((3, 9, 5)), _F32((3, 2, 5, 32))), {"block": _BLOCK, "columns": 37}),),
        compute=_compute_product,
    ),
    OpDef(
        "sum_of_taps",
        "window",
        _infer_sum_of_taps,
        "`y[n, o, i] = Σ_k x[n, k O + o, i + k * dilation - padding] + b[o]`, O results, k over "
        "the places of a window.",
        (
            Sample(
                (_F32((2, 18, 5, 7)), _F32((2,))),
                {"kernel": (3, 3), "padding": ((1, 1), (0, 2)), "dilation": (1, 1)},
            ),
            Sample((_F32((2, 12, 23)),), {"kernel": (4,), "padding": ((3, 3),), "dilation": (2,)}),
        ),
        compute=_compute_sum_of_taps,
    ),
    OpDef(
        "copy",
        "elementwise",
        _same,
        "`y = x`, as a tensor of its own: a result of the network.",
        (Sample((_F32((3, 5)),)),),
        compute=lambda node, index, x: x(*index),
    ),
):
    if _entry.name not in OPS:
        register(_entry)
