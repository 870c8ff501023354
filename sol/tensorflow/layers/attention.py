"""Rows of multi-head attention: three linear layers, attention, and one more."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from keras import layers as k

from sol.core.dtypes import BOOL, F32
from sol.ir.graph import Node
from sol.tensorflow.context import Context
from sol.tensorflow.layers.table import layer, optional, weight
from sol.tensorflow.layout import permute, pointwise

_MASKED = float(np.finfo(np.float32).max) * -0.7  # what Keras gives to places that are masked


@layer(k.MultiHeadAttention)
def multi_head_attention(
    c: Context, of: Any, query: Node, value: Node, key: Node | None = None,
    attention_mask: Node | None = None, return_attention_scores: bool = False,
    use_causal_mask: bool = False, **masks: Any,
) -> Node:  # fmt: skip
    """Attention of sequences [N, T, features]."""
    key = value if key is None else key
    if return_attention_scores or any(m is not None for m in masks.values()):
        c.refuse("attention scores as a result, or masks of the sequences")
    if any(x.tensor.rank != 3 for x in (query, key, value)) or getattr(of, "_use_gate", False):
        c.refuse("more axes than batch, sequence and features, or a gate")
    if c.training and of._dropout:
        c.refuse("dropout of attention scores")
    q = _heads(c, of._query_dense, c.floating(query))
    kk = _heads(c, of._key_dense, c.floating(key))
    v = _heads(c, of._value_dense, c.floating(value))
    mask = [] if attention_mask is None else [_additive(c, attention_mask)]
    causal = bool(use_causal_mask)
    if causal and mask:
        c.refuse("a causal mask together with another one")
    if causal and query.shape[1] != key.shape[1]:
        c.refuse("a causal mask for sequences of different lengths")
    y = c.op(
        "attention", q, kk, v, *mask, scale=float(of._inverse_sqrt_key_dim), causal=causal,
        groups=1,
    )  # fmt: skip
    y = permute(c, y, (0, 2, 1, 3))
    batch, length, heads, size = y.shape
    return _joined(c, of._output_dense, c.reshape(y, (batch, length, heads * size)))


def _heads(c: Context, dense: Any, x: Node) -> Node:
    """[N, T, features] -> [N, heads, T, size]"""
    features, heads, size = dense.kernel.shape
    kernel = c.reshape(weight(c, dense._kernel), (features, heads * size))
    bias = optional(c, dense.bias)
    biases = [] if bias is None else [c.reshape(bias, (heads * size,))]
    y = c.op("linear", x, permute(c, kernel, (1, 0)), *biases)
    y = c.reshape(y, (x.shape[0], x.shape[1], heads, size))
    return permute(c, y, (0, 2, 1, 3))


def _joined(c: Context, dense: Any, x: Node) -> Node:
    """[N, T, heads * size] -> [N, T, features…]"""
    heads, size, *features = dense.kernel.shape
    count = prod(features)
    kernel = c.reshape(weight(c, dense._kernel), (heads * size, count))
    bias = optional(c, dense.bias)
    biases = [] if bias is None else [c.reshape(bias, (count,))]
    y = c.op("linear", x, permute(c, kernel, (1, 0)), *biases)
    return c.reshape(y, (x.shape[0], x.shape[1], *features))


def _additive(c: Context, mask: Node) -> Node:
    """A mask of booleans, [N, T, S] or [N, heads, T, S], as numbers that are added to scores."""
    if mask.tensor.rank == 3:
        mask = c.reshape(mask, (mask.shape[0], 1, *mask.shape[1:]))
    if mask.tensor.rank != 4:
        c.refuse("a mask with other axes than [N, T, S] or [N, heads, T, S]")
    attends = c.cast(mask, BOOL)
    return pointwise(c, "where", attends, c.constant(0.0, F32), c.constant(_MASKED, F32))
