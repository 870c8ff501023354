"""Rows of linear layers, products of matrices and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sol.core.dims import Dim, Shape
from sol.core.dtypes import I64
from sol.ir.graph import Node
from sol.ops.rules import broadcast
from sol.pytorch.context import Context, Missing, Result, Scalar, result_dtype
from sol.pytorch.rows.binary import scaled
from sol.pytorch.rows.chance import dropped
from sol.pytorch.rows.table import row


@row("linear")
def linear(c: Context, x: Node, weight: Node, bias: Node | None = None) -> Result:
    """x W^T + b."""
    if weight.tensor.rank == 1:
        y = _matmul(c, x, weight)
        return y if bias is None else c.op("add", y, bias)
    if not x.tensor.rank or x.tensor.rank == 1:
        x = c.reshape(x, (1, *x.shape))
    tensors = [weight] if bias is None else [weight, bias]
    return c.reshape(c.op("linear", x, *tensors), c.shape)


def _matmul(c: Context, a: Node, b: Node) -> Node:
    """NumPy's matmul, vectors included."""
    left = c.reshape(a, (1, *a.shape)) if a.tensor.rank == 1 else a
    right = c.reshape(b, (*b.shape, 1)) if b.tensor.rank == 1 else b
    y = c.op("matmul", left, right)
    shape = list(y.shape)
    if a.tensor.rank == 1:
        del shape[-2]
    if b.tensor.rank == 1:
        del shape[-1]
    return c.reshape(y, tuple(shape))


@row("matmul", "mm", "bmm", "mv", "dot", "vdot", "inner")
def matmul(c: Context, a: Node, b: Node) -> Result:
    """The product of matrices, or of batches of them."""
    if c.target.startswith("aten.inner"):
        if not (a.tensor.rank and b.tensor.rank):
            return c.op("mul", a, b)
        b = (
            b
            if b.tensor.rank == 1
            else c.op("permute", b, axes=(1, 0))
            if b.tensor.rank == 2
            else b
        )
        if b.tensor.rank > 2:
            c.refuse("inner product of more than matrices")
    if result_dtype(a, b).kind != "float":
        c.refuse("a product of matrices of integers")
    return _matmul(c, a, b)


@row("addmm", "baddbmm", "addmv")
def addmm(c: Context, x: Node, a: Node, b: Node, *, beta: Scalar = 1, alpha: Scalar = 1) -> Result:
    """beta * x + alpha * a b; a linear layer where b is a parameter."""
    if beta == alpha == 1 and b.op == "parameter" and x.tensor.rank == 1 and b.tensor.rank == 2:
        return c.op("linear", a, c.op("permute", b, axes=(1, 0)), x)
    y = scaled(c, _matmul(c, a, b), alpha, x.dtype)
    return y if beta == 0 else c.op("add", scaled(c, x, beta, x.dtype), y)


# ---- attention


@row("scaled_dot_product_attention")
def attention(
    c: Context,
    q: Node,
    k: Node,
    v: Node,
    mask: Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Result:
    """softmax(scale q k^T + mask) v."""
    width = q.shape[-1]
    if not isinstance(width, int):
        c.refuse("the width of the heads depends on the batch size B")
    groups = _groups(c, q, k) if enable_gqa else 1
    if groups == 1:
        lead = broadcast("attention", q.shape[:-2], k.shape[:-2], v.shape[:-2])
        q, k, v = (c.expand(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    tensors = [q, k, v] if mask is None else [q, k, v, _mask(c, mask, q, k)]
    factor = 1 / math.sqrt(width) if scale is None else float(scale)
    if dropout_p > 0:
        if groups > 1:
            c.refuse("dropout of weights that groups of heads share")
        return _with_dropout(c, tensors, factor, is_causal, dropout_p)
    return c.op("attention", *tensors, scale=factor, causal=is_causal, groups=groups)


def _with_dropout(
    c: Context, tensors: Sequence[Node], factor: float, causal: bool, p: float
) -> Result:
    """dropout(softmax(scale q k^T + mask)) v."""
    q, k, v, *mask = tensors
    rank = q.tensor.rank
    scores = c.op("matmul", q, c.permute(k, (*range(rank - 2), rank - 1, rank - 2)))
    scores = c.op("mul", scores, c.constant(factor, q.dtype))
    never = c.constant(-math.inf, q.dtype)
    if causal:
        rows, columns = scores.shape[-2:]
        row_ = c.op("iota", shape=(rows, 1), axis=0, dtype=I64)
        column = c.op("iota", shape=(1, columns), axis=1, dtype=I64)
        scores = c.op("where", c.op("le", column, row_), scores, never)
    for m in mask:
        boolean = m.dtype.kind == "bool"
        scores = c.op("where", m, scores, never) if boolean else c.op("add", scores, m)
    weights = c.op("softmax", scores, axis=rank - 1)
    return c.op("matmul", dropped(c, weights, p), v)


def _groups(c: Context, q: Node, k: Node) -> int:
    heads, shared = q.shape[-3], k.shape[-3]
    if isinstance(heads, Dim) or isinstance(shared, Dim) or heads % shared:
        c.refuse(f"{heads} heads that share {shared} keys")
    return heads // shared


def _mask(c: Context, mask: Node, q: Node, k: Node) -> Node:
    """A mask of which one row serves all queries is broadcast over them."""
    full: Shape = (q.shape[-2], k.shape[-2])
    return c.expand(mask, full) if mask.tensor.rank < 2 else mask


@row("_scaled_dot_product_flash_attention_for_cpu")
def flash_attention(
    c: Context,
    q: Node,
    k: Node,
    v: Node,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Node | None = None,
    scale: float | None = None,
) -> Result:
    """The same as a kernel; what it keeps for its gradient is left out."""
    y: Any = attention(c, q, k, v, attn_mask, dropout_p, is_causal, scale=scale)
    return y, Missing("what attention keeps for its gradient")
