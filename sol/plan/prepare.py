"""Last changes to a graph before planning, so that kernels find operands as they need them.

matmul(a, b)                       -> packed_matmul(a, packed_columns(b))     where there are
enough rows
a result that is an input, a constant or another result -> copy(it)
attention with a mask              -> masked_attention                        see attention.py
conv(x, …) of few channels, padded -> conv(pad(x), …)                         borders are tested
once per element, not once per window
"""

from __future__ import annotations

from functools import partial

from sol.core.dims import Dim
from sol.core.dtypes import F32
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, axis, const, reduce, where
from sol.ir.graph import SOURCES, Builder, Graph, Node, TensorType
from sol.ops.registry import OPS, Index, OpDef, Read, Sample, builder, register
from sol.plan.attention import turn_masks
from sol.plan.facts import rows_per_image

_FEW_CHANNELS = 8
_FEWEST_ROWS = 8
_BLOCK = 32  # columns of a block of a packed operand


def prepare_graph(graph: Graph) -> Graph:
    """Apply the rewrites above."""
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
        elif node.op == "conv" and _thin(graph, node):
            b.append(_padded(b, node))
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
        rows_per_image(node.shape[-2:-1]) >= _FEWEST_ROWS
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


def _padded(b: Builder, node: Node) -> Node:
    x = b[node.inputs[0]]
    low = (0, 0, *(p[0] for p in node["padding"]))
    high = (0, 0, *(p[1] for p in node["padding"]))
    pad = b.add(
        "pad",
        x,
        low=low,
        high=high,
        mode="constant",
        value=0.0,
        name=f"{node.name}_pad",
        origin=node.origin,
    )
    attrs = tuple(
        (k, tuple((0, 0) for _ in node["padding"]) if k == "padding" else v) for k, v in node.attrs
    )
    return Node(node.name, "conv", (pad.name, *node.inputs[1:]), attrs, node.type, node.origin)


# ---- the two operators that only plans contain ---------------------------------------------------


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
