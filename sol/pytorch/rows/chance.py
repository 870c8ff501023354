"""Rows of operators that draw random numbers. Sol draws them in training only, from a seed of
PyTorch's generator; elsewhere PyTorch does."""

from __future__ import annotations

from sol.core.dims import Shape
from sol.core.dtypes import BOOL, F32
from sol.ir.graph import Node
from sol.pytorch.context import Context, Result
from sol.pytorch.rows.table import row


def _kept(c: Context, shape: Shape, p: float) -> Node:
    """True with the probability 1 - p."""
    return c.op("ge", c.random(shape), c.constant(float(p), F32))


def dropped(c: Context, x: Node, p: float) -> Node:
    """x / (1 - p) with the probability 1 - p, else 0."""
    zero = c.constant(0.0, x.dtype)
    if p >= 1:
        return c.op("mul", x, zero)
    kept = _kept(c, x.shape, p)
    return c.op("where", kept, c.op("mul", x, c.constant(1 / (1 - p), x.dtype)), zero)


@row("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(c: Context, x: Node, p: float, train: bool) -> Result:
    """Nothing, unless it is training."""
    if not train or p == 0:
        return x
    if "alpha" in c.target or "feature" in c.target:
        c.refuse("dropout of a kind that draws its random numbers in PyTorch")
    return dropped(c, x, p)


@row("native_dropout")
def native_dropout(c: Context, x: Node, p: float, train: bool | None) -> Result:
    """The same as a kernel has it, with the mask."""
    if not train or p == 0:
        return x, c.op("full", shape=x.shape, value=True, dtype=BOOL)
    if p >= 1:
        return dropped(c, x, p), c.op("full", shape=x.shape, value=False, dtype=BOOL)
    kept = _kept(c, x.shape, p)
    scaled = c.op("mul", x, c.constant(1 / (1 - p), x.dtype))
    return c.op("where", kept, scaled, c.constant(0.0, x.dtype)), kept


@row("bernoulli.p")
def bernoulli(c: Context, x: Node, p: float = 0.5, **_: object) -> Result:
    """1 with the probability p, else 0."""
    return c.cast(c.op("lt", c.random(x.shape), c.constant(float(p), F32)), c.type.dtype)


@row("bernoulli")
def bernoulli_of(c: Context, x: Node, **_: object) -> Result:
    """1 with the probability x, else 0."""
    return c.cast(c.op("lt", c.random(x.shape), c.op("detach", x)), c.type.dtype)
