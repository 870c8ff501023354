"""Scaled dot-product attention, whole: a kernel takes it as it is, or it expands into its graph."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from sol.core.dims import Shape
from sol.core.dtypes import I64
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.gradients.parts import Gradients, reshaped, summed_to
from sol.ops.registry import OpDef, Sample, register
from sol.ops.rules import broadcasts_to, need, need_kind, need_number, need_positive, show_shape
from sol.ops.sampling import boolean, f32


def _infer_attention(
    q: TensorType, k: TensorType, v: TensorType, *mask: TensorType,
    scale: float, causal: bool, groups: int,
) -> TensorType:  # fmt: skip
    op = "attention"
    for x in (q, k, v):
        need(x.rank == q.rank >= 2, op, f"inputs {q}, {k}, {v}", "equally many axes, at least 2")
        need_kind(op, x, "float")
    need(q.shape[-1] == k.shape[-1], op, f"queries {q}, keys {k}", "vectors of equal length")
    need(k.shape[:-1] == v.shape[:-1], op, f"keys {k}, values {v}", "as many keys as values")
    need_positive(op, "groups", (groups,))
    lead = _grouped_lead(k.shape[:-2], groups)
    need(
        q.shape[:-2] == lead,
        op,
        f"queries {q}, keys {k} in {groups} groups",
        f"{show_shape(lead)} in front",
    )
    need(len(mask) <= 1, op, f"{len(mask) + 3} inputs", "queries, keys, values and maybe a mask")
    for m in mask:
        need_kind(op, m, "float", "bool")
        scores = (*q.shape[:-1], k.shape[-2])
        wanted = f"one that broadcasts to {show_shape(scores)}"
        need(broadcasts_to(m.shape, scores), op, f"a mask {m}", wanted)
    return TensorType((*q.shape[:-1], v.shape[-1]), q.dtype)


def _grouped_lead(lead: Shape, groups: int) -> Shape:
    if groups == 1:
        return lead
    need(len(lead) > 0, "attention", f"groups={groups} without an axis of heads", "groups=1")
    return (*lead[:-1], lead[-1] * groups)


# ---- as a graph ----------------------------------------------------------------------------------


def _expand_attention(
    graph: Builder, node: Node, q: Node, k: Node, v: Node, mask: Node | None = None
) -> Node:
    """Query heads of a group get an axis of their own, on which keys and values broadcast."""
    groups = node["groups"]
    if groups == 1:
        return _plain(graph, node, q, k, v, mask)
    if mask is not None and mask.tensor.rank > 2:
        mask = _split_heads(graph, mask, groups)
    q = _split_heads(graph, q, groups)
    k = graph.add("reshape", k, shape=(*k.shape[:-2], 1, *k.shape[-2:]))
    v = graph.add("reshape", v, shape=(*v.shape[:-2], 1, *v.shape[-2:]))
    return graph.add("reshape", _plain(graph, node, q, k, v, mask), shape=node.shape)


def _split_heads(graph: Builder, x: Node, groups: int) -> Node:
    """[…, heads, L, E] -> […, heads of keys, groups, L, E]; one head stands for all of them."""
    heads = need_number("attention", "the number of heads", x.shape[-3])
    pair = (heads // groups, groups) if heads > 1 else (1, 1)
    return graph.add("reshape", x, shape=(*x.shape[:-3], *pair, *x.shape[-2:]))


def _plain(graph: Builder, node: Node, q: Node, k: Node, v: Node, mask: Node | None) -> Node:
    """softmax(scale q kᵀ + mask) v."""
    return graph.add("matmul", _weights(graph, node, q, k, mask), v)


def _weights(graph: Builder, node: Node, q: Node, k: Node, mask: Node | None) -> Node:
    """softmax(scale q kᵀ + mask)."""
    scaled = graph.add("mul", q, graph.constant(float(node["scale"]), q.dtype))
    scores = graph.add("matmul", scaled, _turned(graph, k))
    if node["causal"]:
        scores = _forbid(graph, _causal(graph, scores), scores)
    if mask is None:
        return graph.add("softmax", scores, axis=scores.tensor.rank - 1)
    if mask.dtype.kind == "bool":
        scores = _forbid(graph, mask, scores)
    else:
        scores = graph.add("add", scores, mask)
    return _softmax_or_zero(graph, scores)


def _turned(graph: Builder, x: Node) -> Node:
    rank = x.tensor.rank
    return graph.add("permute", x, axes=(*range(rank - 2), rank - 1, rank - 2))


def _causal(graph: Builder, scores: Node) -> Node:
    """True where a key stands at or before its query."""
    rows, columns = scores.shape[-2:]
    row = graph.add("iota", shape=(rows, 1), axis=0, dtype=I64)
    column = graph.add("iota", shape=(1, columns), axis=1, dtype=I64)
    return graph.add("le", column, row)


def _forbid(graph: Builder, allowed: Node, scores: Node) -> Node:
    return graph.add("where", allowed, scores, graph.constant(-inf, scores.dtype))


def _softmax_or_zero(graph: Builder, scores: Node) -> Node:
    """Softmax along the last axis; a row of -inf, whose keys are all masked, gives zeros."""
    along: dict[str, Any] = {"axes": (scores.tensor.rank - 1,), "keepdims": True}
    zero = graph.constant(0.0, scores.dtype)
    top = graph.add("max_reduce", scores, **along)
    nothing = graph.add("eq", top, graph.constant(-inf, scores.dtype))
    powers = graph.add("exp", graph.add("sub", scores, graph.add("where", nothing, zero, top)))
    scale = graph.add("reciprocal", graph.add("sum", powers, **along))
    return graph.add("mul", powers, graph.add("where", nothing, zero, scale))


# ---- gradient ------------------------------------------------------------------------------------


def _gradient(
    graph: Builder, node: Node, dy: Node, q: Node, k: Node, v: Node, *mask: Node
) -> Gradients:
    """The weights are computed again: P = softmax(scale q kᵀ + mask).

    dv = Pᵀ dy, dS = P (dy vᵀ - Σ P dy vᵀ), dq = scale dS k, dk = scale dSᵀ q, dmask = dS.
    """
    groups = node["groups"]
    given = (q, k, v)
    split = [_split_heads(graph, m, groups) if m.tensor.rank > 2 else m for m in mask]
    if groups > 1:
        q, dy = (_split_heads(graph, x, groups) for x in (q, dy))
        k, v = (graph.add("reshape", x, shape=(*x.shape[:-2], 1, *x.shape[-2:])) for x in (k, v))
    used = split[0] if groups > 1 and split else mask[0] if mask else None
    weights = _weights(graph, node, q, k, used)
    by_weights = graph.add("matmul", dy, _turned(graph, v))
    along: dict[str, Any] = {"axes": (weights.tensor.rank - 1,), "keepdims": True}
    total = graph.add("sum", graph.add("mul", weights, by_weights), **along)
    by_scores = graph.add("mul", weights, graph.add("sub", by_weights, total))
    scaled = graph.add("mul", by_scores, graph.constant(float(node["scale"]), q.dtype))
    found = (
        graph.add("matmul", scaled, k),
        graph.add("matmul", _turned(graph, scaled), q),
        graph.add("matmul", _turned(graph, weights), dy),
    )
    back = [_shaped_as(graph, d, x, like) for d, x, like in zip(found, given, (q, k, v))]
    if not mask:
        return back
    by_mask = None
    if mask[0].dtype.kind == "float":
        assert used is not None
        by_mask = reshaped(graph, summed_to(graph, by_scores, used.shape), mask[0].shape)
    return *back, by_mask


def _shaped_as(graph: Builder, change: Node, x: Node, like: Node) -> Node:
    return reshaped(graph, summed_to(graph, change, like.shape), x.shape)


# ---- in NumPy ------------------------------------------------------------------------------------


def _reference_attention(node: Node, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    if node["groups"] > 1:
        k, v = (np.repeat(x, node["groups"], axis=-3) for x in (k, v))
    scores = np.matmul(q * node["scale"], np.swapaxes(k, -1, -2))
    if node["causal"]:
        scores = np.where(np.tri(*scores.shape[-2:]) != 0, scores, -inf)
    if mask is not None:
        scores = np.where(mask, scores, -inf) if mask.dtype == bool else scores + mask
    top = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - np.where(top == -inf, 0, top))
    total = powers.sum(axis=-1, keepdims=True)
    return np.matmul(powers / np.where(total == 0, 1, total), v).astype(q.dtype)


def _attention(scale: float, causal: bool = False, groups: int = 1) -> dict[str, Any]:
    return {"scale": scale, "causal": causal, "groups": groups}


register(
    OpDef(
        "attention",
        "contract",
        _infer_attention,
        "`y = softmax(scale * q kᵀ + mask) v` over the last two axes. `causal` allows keys up to "
        "the query's own place. A boolean mask is True where a query may attend. With `groups` > "
        "1, that many heads of queries (axis -3) share one head of keys and values. A query that "
        "may attend nothing gives 0.",
        samples=(
            Sample((f32(2, 3, 7, 4), f32(2, 3, 7, 4), f32(2, 3, 7, 4)), _attention(0.5)),
            Sample((f32(1, 2, 13, 8), f32(1, 2, 13, 8), f32(1, 2, 13, 5)), _attention(0.3, True)),
            Sample((f32(2, 5, 3), f32(2, 9, 3), f32(2, 9, 3), f32(5, 9)), _attention(1.0)),
            Sample(
                (f32(2, 3, 5, 4), f32(2, 3, 3, 4), f32(2, 3, 3, 4), boolean(2, 1, 5, 3)),
                _attention(0.5),
            ),
            Sample(
                (f32(1, 6, 5, 4), f32(1, 2, 7, 4), f32(1, 2, 7, 4), f32(1, 6, 5, 7)),
                _attention(0.5, False, 3),
            ),
            Sample(
                (f32(1, 4, 5, 4), f32(1, 2, 5, 4), f32(1, 2, 5, 4), f32(1, 1, 5, 5)),
                _attention(0.5, True, 2),
            ),
            Sample((f32(1, 17), f32(33, 17), f32(33, 1)), _attention(0.25)),
            Sample((f32(3, 5, 7, 4), f32(3, 1, 7, 4), f32(3, 1, 7, 4)), _attention(0.5, True, 5)),
        ),
        expand=_expand_attention,
        reference=_reference_attention,
        gradient=_gradient,
    )
)
