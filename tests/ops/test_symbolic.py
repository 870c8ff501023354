"""Operators on tensors whose sizes depend on the batch: types, expressions and graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sol.ops  # noqa: F401  fills the table
from sol.core.dims import B, Dim, concrete
from sol.core.dtypes import BOOL, F32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.expr import axis
from sol.ir.graph import Graph, Node, TensorType
from sol.ops.interpret import tabulate
from sol.ops.reference import evaluate, evaluate_node, expansion
from sol.ops.registry import OPS, Read, builder, infer


def t(*shape: int | Dim, dtype: DType = F32) -> TensorType:
    return TensorType(shape, dtype)


WINDOW = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}

Case = tuple[str, tuple[TensorType, ...], dict[str, Any], TensorType]

CASES: list[Case] = [
    ("add", (t(B, 3, 7), t(3, 1)), {}, t(B, 3, 7)),
    ("add", (t(B, 1, 7), t(1, 5, 1)), {}, t(B, 5, 7)),
    ("where", (t(B, 1, dtype=BOOL), t(), t(1, 3)), {}, t(B, 3)),
    ("reshape", (t(B, 3, 4),), {"shape": (3 * B, 4)}, t(Dim(3), 4)),
    ("reshape", (t(4 * B, 6),), {"shape": (B, 2, 2, 6)}, t(B, 2, 2, 6)),
    ("permute", (t(B, 3, 7),), {"axes": (1, 2, 0)}, t(3, 7, B)),
    ("expand", (t(1, 1, 8),), {"shape": (B, 5, 8)}, t(B, 5, 8)),
    ("slice", (t(B, 7),), {"axis": 0, "start": 0, "stop": B, "step": 1}, t(B, 7)),
    ("slice", (t(B + 3, 7),), {"axis": 0, "start": 3, "stop": B + 3, "step": 1}, t(B, 7)),
    ("concat", (t(B, 7), t(2 * B, 7), t(1, 7)), {"axis": 0}, t(Dim(3, 1), 7)),
    ("pad", (t(B, 7),), {"low": (1, 2), "high": (0, -1), "mode": "constant", "value": 0.0},
     t(B + 1, 8)),
    ("repeat", (t(B, 3),), {"repeats": (2, 1)}, t(2 * B, 3)),
    ("roll", (t(B, 3),), {"axes": (1,), "shifts": (1,)}, t(B, 3)),
    ("roll", (t(B, 3),), {"axes": (0, 1), "shifts": (0, -4)}, t(B, 3)),
    ("slice_assign", (t(B, 3), t(B, 3)), {"axis": 0, "start": 0, "stop": B, "step": 1}, t(B, 3)),
    ("slice_assign", (t(B, 3), t(B, 2)), {"axis": 1, "start": 0, "stop": 3, "step": 2}, t(B, 3)),
    ("select_assign", (t(B, 3), t(B)), {"axis": 1, "index": 2}, t(B, 3)),
    ("gather", (t(2 * B, 9), t(B, 2, dtype=I64)), {"axis": 1}, t(B, 2)),
    ("take", (t(9, 5), t(B, 7, dtype=I64)), {"axis": 0}, t(B, 7, 5)),
    ("gather", (t(B, 9), t(B, 2, dtype=I64)), {"axis": 1}, t(B, 2)),
    ("index", (t(B, 9, 9), t(4, dtype=I64), t(4, dtype=I64)), {"axes": (1, 2)}, t(B, 4)),
    ("sum", (t(B, 3, 7),), {"axes": (0, 2), "keepdims": True}, t(1, 3, 1)),
    ("mean", (t(B, 3, 7),), {"axes": (1,), "keepdims": False}, t(B, 7)),
    ("argmax", (t(B, 10),), {"axis": 1, "keepdims": False}, t(B, dtype=I64)),
    ("cumsum", (t(B, 3),), {"axis": 0}, t(B, 3)),
    ("max_pool", (t(B, 3, 13, 13),), {**WINDOW, "dilation": (1, 1), "ceil": False},
     t(B, 3, 7, 7)),
    ("adaptive_avg_pool", (t(B, 3, 13, 13),), {"size": (1, 1)}, t(B, 3, 1, 1)),
    ("conv", (t(B, 3, 9, 9), t(8, 3, 3, 3), t(8)), CONV, t(B, 8, 9, 9)),
    ("conv_transpose", (t(B, 8, 4), t(8, 3, 2)),
     {"stride": (2,), "padding": (0,), "output_padding": (1,), "dilation": (1,), "groups": 1},
     t(B, 3, 9)),
    ("linear", (t(B, 5, 3), t(7, 3)), {}, t(B, 5, 7)),
    ("matmul", (t(B, 2, 5, 3), t(1, 3, 4)), {}, t(B, 2, 5, 4)),
    ("attention", (t(B, 4, 5, 8), t(B, 2, 7, 8), t(B, 2, 7, 3), t(B, 1, 1, 7)),
     {"scale": 1.0, "causal": False, "groups": 2}, t(B, 4, 5, 3)),
    ("batch_norm", (t(B, 3, 7), t(3), t(3)), {"eps": 0.1, "affine": False}, t(B, 3, 7)),
    ("group_norm", (t(B, 6, 7),), {"groups": 3, "eps": 0.1, "affine": False}, t(B, 6, 7)),
    ("layer_norm", (t(B, 6), t(6)),
     {"axes_count": 1, "eps": 0.1, "has_weight": True, "has_bias": False}, t(B, 6)),
    ("pixel_shuffle", (t(B, 12, 2, 2),), {"factor": 2}, t(B, 3, 4, 4)),
    ("interleave", (t(B, 3), t(B, 2)), {"axes": (1,), "steps": (2,)}, t(B, 5)),
    ("im2col", (t(B, 3, 4, 4),), {**WINDOW, "dilation": (1, 1)}, t(B, 27, 4)),
    ("interpolate", (t(B, 3, 4, 4),),
     {"size": (8, 8), "mode": "nearest", "align_corners": False, "scales": None}, t(B, 3, 8, 8)),
    ("reshape", (t(3, B, 4),), {"shape": (3 * B, 4)}, t(Dim(3), 4)),
    ("reshape", (t(Dim(3), 4),), {"shape": (3, B, 2, 2)}, t(3, B, 2, 2)),
    ("reshape", (t(2, B),), {"shape": (B, 2)}, t(B, 2)),
    ("permute", (t(5, B, 2),), {"axes": (1, 0, 2)}, t(B, 5, 2)),
    ("flip", (t(B, 3),), {"axes": (0, 1)}, t(B, 3)),
    ("concat", (t(2, 3), t(B, 3)), {"axis": 0}, t(B + 2, 3)),
    ("sum", (t(B, 3),), {"axes": (0,), "keepdims": False}, t(3)),
    ("mean", (t(B, 3),), {"axes": (0,), "keepdims": False}, t(3)),
    ("softmax", (t(B, 3),), {"axis": 0}, t(B, 3)),
    ("argmax", (t(B, 3),), {"axis": 0, "keepdims": False}, t(3, dtype=I64)),
    ("iota", (), {"shape": (B, 2), "axis": 0, "dtype": I64}, t(B, 2, dtype=I64)),
    ("full", (), {"shape": (B,), "value": 1.0, "dtype": F32}, t(B)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs", "expected"), CASES)
def test_symbolic_sizes(
    op: str, inputs: tuple[TensorType, ...], attrs: dict[str, Any], expected: TensorType
) -> None:
    assert infer(op, inputs, attrs) == expected


def arrays_of(graph: Graph, batch: int) -> dict[str, Any]:
    """Inputs of a graph: indices that exist in any axis, numbers, truth values."""
    rng = np.random.default_rng(batch)
    return {
        n.name: rng.integers(0, 2, concrete(n.shape, batch)).astype(n.dtype.numpy)
        if n.dtype.kind != "float"
        else rng.uniform(0.1, 2, concrete(n.shape, batch)).astype("float32")
        for n in graph.inputs
    }


def symbolic(op: str, inputs: tuple[TensorType, ...], attrs: dict[str, Any]) -> tuple[Graph, Node]:
    graph = builder()
    node = graph.add(op, *(graph.input(f"x{k}", x) for k, x in enumerate(inputs)), **attrs)
    return graph.finish([node]), node


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("op", "inputs", "attrs", "expected"), CASES)
def test_symbolic_values(
    op: str,
    inputs: tuple[TensorType, ...],
    attrs: dict[str, Any],
    expected: TensorType,
    batch: int,
) -> None:
    """One expression or graph for all batches gives what each batch of its own gives."""
    graph, node = symbolic(op, inputs, attrs)
    arrays = arrays_of(graph, batch)
    fixed = graph.at_batch(batch)[node.name]
    want = evaluate_node(fixed, *arrays.values())
    assert want.shape == concrete(expected.shape, batch)
    entry = OPS[op]
    if entry.compute is not None:
        axes = [axis(f"i{k}", size) for k, size in enumerate(node.shape)]
        reads = [Read.of(f"x{k}", x) for k, x in enumerate(inputs)]
        found = tabulate(entry.compute(node, axes, *reads), axes, arrays, batch)
        np.testing.assert_allclose(found, want, rtol=1e-5)
    if entry.expand is not None:
        (found,) = evaluate(expansion(node, inputs), arrays, batch=batch)
        np.testing.assert_allclose(found, want, rtol=1e-5)


def test_what_is_not_linear_in_the_batch_is_refused() -> None:
    for op, inputs, attrs in (
        ("matmul", (t(B, B), t(B, 3)), {}),
        ("reshape", (t(B, B),), {"shape": (B * 1, B)}),
        ("unfold", (t(B),), {"axis": 0, "size": 2, "step": 2}),
    ):
        with pytest.raises(UnsupportedError, match="batch size B"):
            infer(op, inputs, attrs)


@pytest.mark.parametrize(
    ("shape", "other"), [((B, 4, 9), (B, 2, 2, 9)), ((3, B, 4), (Dim(3), 4)), ((2, B), (B, 2))]
)
def test_a_reshape_and_back_leaves_no_division(
    shape: tuple[int | Dim, ...], other: tuple[int | Dim, ...]
) -> None:
    there = symbolic("reshape", (t(*shape),), {"shape": other})[1]
    back = symbolic("reshape", (t(*other),), {"shape": shape})[1]
    compute = OPS["reshape"].compute
    assert compute is not None
    axes = [axis(f"i{k}", size) for k, size in enumerate(shape)]
    x = Read.of("x", t(*shape))
    assert compute(back, axes, Read(t(*other), lambda *at: compute(there, at, x))) is x(*axes)
