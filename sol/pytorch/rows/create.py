"""Rows that make a tensor out of nothing but sizes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sol.core.dims import Dim, Size, product
from sol.core.dtypes import I64, DType
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result, Scalar
from sol.pytorch.rows.table import row

_LARGEST_CONSTANT = 1 << 16  # elements; above this a graph holds no value that could be computed


def _full(c: Context, value: Scalar) -> Node:
    """A tensor of the inferred type with one value everywhere."""
    convert: Any = {"bool": bool, "int": int, "float": float}[c.type.dtype.kind]
    if not isinstance(value, (bool, int, float)):
        c.refuse(f"a value that depends on the batch size B: {value}")
    if c.shape == ():
        return c.constant(convert(value), c.type.dtype)
    return c.op("full", shape=c.shape, value=convert(value), dtype=c.type.dtype)


@row("zeros", "zeros_like", "new_zeros", "new_empty", "empty.memory_format", "empty_like",
     "empty_strided", "new_empty_strided", "empty_permuted")  # fmt: skip
def zeros(c: Context, *_: Any, **__: Any) -> Result:
    """0 everywhere; also for memory that PyTorch does not initialise."""
    return _full(c, 0)


@row("ones", "ones_like", "new_ones")
def ones(c: Context, *_: Any, **__: Any) -> Result:
    """1 everywhere."""
    return _full(c, 1)


@row("full", "full_like", "fill.Scalar")
def full(c: Context, _: Any, value: Scalar, **__: Any) -> Result:
    """One value everywhere."""
    return _full(c, value)


@row("new_full")
def new_full(c: Context, _: Node, size: Sequence[Size], value: Scalar, **__: Any) -> Result:
    """One value everywhere."""
    return _full(c, value)


@row("fill.Tensor")
def fill_tensor(c: Context, x: Node, value: Node) -> Result:
    """The value of a tensor without axes everywhere."""
    return c.expand(c.cast(value, x.dtype), x.shape)


@row("scalar_tensor")
def scalar_tensor(c: Context, value: Scalar, **_: Any) -> Result:
    """A number as a tensor without axes."""
    return _full(c, value)


# ---- sequences


@row("arange")
def arange(c: Context, end: Any, **_: Any) -> Result:
    """0, 1, 2, …"""
    return arange_step(c, 0, end, 1)


@row("arange.start")
def arange_start(c: Context, start: Any, end: Any, **_: Any) -> Result:
    """start, start + 1, …"""
    return arange_step(c, start, end, 1)


@row("arange.start_step")
def arange_step(c: Context, start: Any, end: Any, step: Any = 1, **_: Any) -> Result:
    """start, start + step, … below end: an index where all are whole numbers, else a constant."""
    dtype = c.type.dtype
    if all(isinstance(v, (int, Dim)) for v in (start, end, step)) and dtype.kind == "int":
        return _iota(c, start, step, dtype)
    return _evaluated(c)


def _iota(c: Context, start: Size, step: int, dtype: DType) -> Node:
    if isinstance(start, Dim):
        c.refuse(f"it begins at {start}, which depends on the batch size B")
    x = c.op("iota", shape=c.shape, axis=0, dtype=dtype)
    if step != 1:
        x = c.op("mul", x, c.constant(step, dtype))
    return c.op("add", x, c.constant(start, dtype)) if start else x


@row("linspace", "eye", "eye.m", "tril_indices", "triu_indices", "logspace", "hann_window",
     "hann_window.periodic", "hamming_window", "hamming_window.periodic", "blackman_window",
     "blackman_window.periodic")  # fmt: skip
def evaluated(c: Context, *_: Any, **__: Any) -> Result:
    """PyTorch's own value as a constant."""
    return _evaluated(c)


def _evaluated(c: Context) -> Node:
    """Run the operator once: its arguments are numbers, so its value never changes."""
    count = product(c.shape)
    if not isinstance(count, int):
        c.refuse("its size depends on the batch size B")
    if count > _LARGEST_CONSTANT:
        c.refuse(f"a constant of {count} elements")
    if c.fx is None or not callable(c.fx.target):
        c.refuse("no operator to evaluate")
    if any(isinstance(a, torch.fx.Node) for a in c.fx.all_input_nodes):
        c.refuse("its arguments depend on the batch size B")
    kwargs = {**c.fx.kwargs, "device": torch.device("cpu")}
    value = c.fx.target(*c.fx.args, **kwargs)
    return c.constant(value.numpy(), c.type.dtype)


@row("isin.Tensor_Scalar")
def isin_scalar(
    c: Context, x: Node, value: Scalar, *, assume_unique: bool = False, invert: bool = False
) -> Result:
    """x == value, or x != value."""
    return c.op("ne" if invert else "eq", x, c.constant(value, x.dtype))


@row("bucketize.Tensor")
def bucketize(
    c: Context, x: Node, boundaries: Node, *, out_int32: bool = False, right: bool = False
) -> Result:
    """How many boundaries are below each element (at most it, with `right`)."""
    wide = c.reshape(x, (*x.shape, 1))
    below = c.op("le" if right else "lt", boundaries, wide)
    count = c.op("sum", c.cast(below, I64), axes=(len(x.shape),), keepdims=False)
    return c.cast(count, c.type.dtype)
