"""Rows of element-wise operators of one tensor, of casts, and of those that change nothing."""

from __future__ import annotations

from typing import Any

import torch

from sol.core.dtypes import BOOL
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.table import Row, put, row
from sol.pytorch.types import dtype_of

# result in floating point, whatever comes in
_FLOATING = (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "sin", "cos",
    "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "sigmoid",
)  # fmt: skip
_SAME = ("neg", "abs", "sign", "relu", "bitwise_not")
_ROUNDING = ("floor", "ceil", "round", "trunc")
_TESTS = ("isnan", "isinf")


def _floating(op: str) -> Row:
    def translate(c: Context, x: Node) -> Result:
        return c.op(op, c.floating(x))

    return translate


def _same(op: str) -> Row:
    def translate(c: Context, x: Node) -> Result:
        return c.op(op, x)

    return translate


def _rounding(op: str) -> Row:
    def translate(c: Context, x: Node) -> Result:
        return c.op(op, x) if x.dtype.kind == "float" else x

    return translate


def _test(op: str) -> Row:
    def translate(c: Context, x: Node) -> Result:
        if x.dtype.kind == "float":
            return c.op(op, x)
        return c.op("full", shape=x.shape, value=False, dtype=BOOL)

    return translate


for _op in _FLOATING:
    put(_op, _floating(_op))
for _op in _SAME:
    put(_op, _same(_op))
for _op in _ROUNDING:
    put(_op, _rounding(_op))
for _op in _TESTS:
    put(_op, _test(_op))
put("sgn", _same("sign"))
put("special_expm1", _floating("expm1"))
put("special_erf", _floating("erf"))
put("special_ndtr", _floating("ndtr"))
put("square", _same("square"))
put("fix", _rounding("trunc"))


@row("logical_not")
def logical_not(c: Context, x: Node) -> Result:
    """not (x != 0)."""
    return c.op("logical_not", c.cast(x, BOOL))


@row("logit", "special_logit")
def logit(c: Context, x: Node, eps: float | None = None) -> Result:
    """log(x / (1 - x)), x clamped to [eps, 1 - eps]."""
    return c.op("logit", c.floating(x), eps=eps)


# ---- casts

_CPU = torch.device("cpu")


@row("_to_copy", "to.dtype_layout")
def to_copy(
    c: Context,
    x: Node,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Result:
    """Another element type; layout in memory means nothing to Sol."""
    if device is not None and torch.device(device).type not in ("cpu", "meta"):
        c.refuse(f"it moves a tensor to {device}")
    if layout not in (None, torch.strided):
        c.refuse(f"it makes a tensor of layout {layout}")
    return c.cast(x, c.dtype(dtype, x.dtype))


@row("to.dtype")
def to_dtype(c: Context, x: Node, dtype: torch.dtype, *_: Any, **__: Any) -> Result:
    """Another element type."""
    return c.cast(x, dtype_of(dtype))


@row("to.device")
def to_device(c: Context, x: Node, device: Any, dtype: torch.dtype, *_: Any, **__: Any) -> Result:
    """Another element type on the same device."""
    return to_copy(c, x, dtype=dtype, device=device)


@row("to.other", "type_as")
def to_other(c: Context, x: Node, other: Node, *_: Any, **__: Any) -> Result:
    """The element type of another tensor."""
    return c.cast(x, other.dtype)


# ---- what changes nothing

_NOTHING = (
    "alias", "clone", "contiguous", "lift", "lift_fresh", "lift_fresh_copy", "positive",
    "resolve_conj", "resolve_neg", "_conj", "conj",
)  # fmt: skip


@row(*_NOTHING)
def nothing(c: Context, x: Node, **_: Any) -> Result:
    """The tensor itself: a graph has values, not memory."""
    return x


@row("detach")
def detach(c: Context, x: Node) -> Result:
    """The tensor itself; in training, without a gradient."""
    return c.op("detach", x) if c.training else x
