"""Sources: values that no operator computes from others.

Inputs, parameters and constants are memory; `iota` and `full` are expressions and are never stored
unless something needs them in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sol.core.dims import Shape, Size, concrete
from sol.core.dtypes import BOOL, F32, I32, I64, DType
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, cast, const, from_linear
from sol.ir.graph import Literal, Node, TensorType
from sol.ops.registry import Index, OpDef, Sample, register
from sol.ops.rules import need_axis

_NOTHING = "it reads nothing"


def _infer_input() -> TensorType:
    raise UnsupportedError("input", "its type is not inferred", do="make it with Builder.input")


def _infer_parameter(*, key: str) -> TensorType:
    raise UnsupportedError(
        "parameter", f"the type of {key} is not inferred", do="make it with Builder.parameter"
    )


def _infer_constant(*, value: Literal) -> TensorType:
    return TensorType(value.shape, value.dtype)


def _infer_iota(*, shape: Shape, axis: int, dtype: DType) -> TensorType:
    need_axis("iota", axis, len(shape))
    return TensorType(tuple(shape), dtype)


def _infer_full(*, shape: Shape, value: float, dtype: DType) -> TensorType:
    return TensorType(tuple(shape), dtype)


def _infer_extent(*, size: Size, dtype: DType) -> TensorType:
    return TensorType((), dtype)


def _compute_constant(node: Node, index: Index) -> Expr:
    """A constant without axes is a number in the code; the others are memory."""
    value: Literal = node["value"]
    assert value.shape == (), f"{node.name}: only a constant without axes is an expression"
    return const(value.array.item(), value.dtype)


def _compute_iota(node: Node, index: Index) -> Expr:
    return cast(index[node["axis"]], node.dtype)


def _compute_full(node: Node, index: Index) -> Expr:
    return const(node["value"], node.dtype)


def _compute_extent(node: Node, index: Index) -> Expr:
    return cast(from_linear(node["size"], {}), node.dtype)


def _reference_constant(node: Node) -> Any:
    value: Literal = node["value"]
    return value.array.astype(node.dtype.numpy)


def _reference_iota(node: Node) -> Any:
    shape = concrete(node.shape, 1)
    line = np.arange(shape[node["axis"]], dtype=node.dtype.numpy)
    steps = [1] * len(shape)
    steps[node["axis"]] = -1
    return np.broadcast_to(line.reshape(steps), shape)


def _reference_full(node: Node) -> Any:
    return np.full(concrete(node.shape, 1), node["value"], node.dtype.numpy)


register(
    OpDef(
        "input", "source", _infer_input, "An input of the network, in calling order.", why=_NOTHING
    )
)
register(
    OpDef(
        "parameter",
        "source",
        _infer_parameter,
        "A parameter or buffer. The framework owns its memory and names it `key`.",
        why=_NOTHING,
    )
)
register(
    OpDef(
        "constant",
        "source",
        _infer_constant,
        "The array or number `value`, which never changes.",
        samples=(
            Sample((), {"value": Literal.of(np.arange(6.0).reshape(2, 3), F32)}),
            Sample((), {"value": Literal.of(7, I64)}),
            Sample((), {"value": Literal.of([True, False], BOOL)}),
        ),
        compute=_compute_constant,
        reference=_reference_constant,
        why=_NOTHING,
    )
)
register(
    OpDef(
        "iota",
        "source",
        _infer_iota,
        "`y[..., i, ...] = i`, the index along `axis`.",
        samples=(
            Sample((), {"shape": (7,), "axis": 0, "dtype": I64}),
            Sample((), {"shape": (3, 17, 2), "axis": 1, "dtype": F32}),
            Sample((), {"shape": (1, 5), "axis": 1, "dtype": I32}),
        ),
        compute=_compute_iota,
        reference=_reference_iota,
        why=_NOTHING,
    )
)
register(
    OpDef(
        "full",
        "source",
        _infer_full,
        "`y[...] = value`.",
        samples=(
            Sample((), {"shape": (3, 5), "value": 0.5, "dtype": F32}),
            Sample((), {"shape": (), "value": -3, "dtype": I64}),
            Sample((), {"shape": (2, 1, 4), "value": True, "dtype": BOOL}),
        ),
        compute=_compute_full,
        reference=_reference_full,
        why=_NOTHING,
    )
)
register(
    OpDef(
        "extent",
        "source",
        _infer_extent,
        "The number `size`, which may depend on the batch.",
        samples=(
            Sample((), {"size": 7, "dtype": F32}),
            Sample((), {"size": 24, "dtype": I64}),
        ),
        compute=_compute_extent,
        why=_NOTHING,
    )
)
