"""PyTorch's sizes and element types as Sol's, and back.

A symbolic size of PyTorch is a SymPy expression of one symbol, the batch; Sol's is
`coef * B + const`. What is not of that form raises UnsupportedError that names the batch size B,
and the network is then captured again for fixed sizes. Used by capture, translation and calls.
"""

from __future__ import annotations

from typing import Any

import sympy  # type: ignore[import-untyped]
import torch

from sol.core.dims import Size, dim
from sol.core.dtypes import BOOL, F32, F64, I8, I16, I32, I64, U8, DType
from sol.core.errors import UnsupportedError
from sol.ir.graph import TensorType

TO_SOL: dict[torch.dtype, DType] = {
    torch.float32: F32,
    torch.float64: F64,
    torch.int64: I64,
    torch.int32: I32,
    torch.int16: I16,
    torch.int8: I8,
    torch.uint8: U8,
    torch.bool: BOOL,
}
TO_TORCH: dict[DType, torch.dtype] = {sol: theirs for theirs, sol in TO_SOL.items()}

Symbolic = int | torch.SymInt


def dtype_of(dtype: torch.dtype) -> DType:
    """Sol's element type; UnsupportedError for one that it has not (half, bfloat16, complex, …)."""
    if dtype not in TO_SOL:
        raise UnsupportedError("dtype", f"Sol computes no {str(dtype).removeprefix('torch.')}")
    return TO_SOL[dtype]


def size_of(size: Symbolic) -> Size:
    """A size of PyTorch as `coef * B + const`; UnsupportedError if it is no such function of B."""
    if isinstance(size, int):
        return int(size)
    return _linear(size.node.expr)


def _linear(expr: sympy.Expr) -> Size:
    if expr.is_Integer:
        return int(expr)
    symbols = sorted(expr.free_symbols, key=str)
    if any(str(s).startswith(("u", "zu")) for s in symbols):
        raise UnsupportedError("size", f"{expr} is known only when values are known")
    if len(symbols) != 1:
        raise UnsupportedError("size", f"{expr} depends on more than the batch size B")
    found = _coefficients(expr, symbols[0])
    if found is None:
        raise UnsupportedError("size", f"{expr} is not linear in the batch size B")
    return dim(*found)


def _coefficients(expr: sympy.Expr, symbol: sympy.Symbol) -> tuple[int, int] | None:
    """(coef, const) of an expression that is linear with whole coefficients, else None."""
    expr = sympy.expand(expr)
    coef = expr.coeff(symbol)
    const = expr - coef * symbol
    if not (coef.is_Integer and const.is_Integer):
        return None
    return int(coef), int(const)


def tensor_type(value: torch.Tensor) -> TensorType:
    """The type of a (fake) tensor; UnsupportedError if Sol has no such type."""
    if value.layout is not torch.strided:
        raise UnsupportedError("layout", f"Sol takes dense tensors only, not {value.layout}")
    return TensorType(tuple(size_of(s) for s in value.shape), dtype_of(value.dtype))


def result_type(value: Any) -> Any:
    """The type of what an operator returns: a TensorType, a tuple of types, or None."""
    if isinstance(value, torch.Tensor):
        return tensor_type(value)
    if isinstance(value, (tuple, list)):
        return tuple(result_type(v) for v in value)
    return None
