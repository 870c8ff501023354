"""Attention that was written out, found again: `softmax(q kᵀ * scale + mask) v`.

Rules of the pass `canonical`. The first looks from the last product backwards to the first one,
through whatever models put between them: scales before or after, masks that are added or filled in,
and reshapes that split and join the batch (windows of an image get their mask so). Other rules take
in scales of queries and keys, and keys and values that are repeated for several query heads.

Attention gives 0 for a query that may attend to nothing, where what was written out gives NaN: a
mask must be known not to hide all keys from a query (passes/masks.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sol.core.dims import Shape
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import aligned, regrouped, swap_last
from sol.passes.masks import LOWEST_SUM, hides_a_row, infinities, is_causal


@dataclass(frozen=True, slots=True)
class _Operand:
    """Something that the scores are added to or multiplied by, where they have the shape `at`."""

    node: Node
    at: Shape


@dataclass(frozen=True, slots=True)
class _Scores:
    """What stands between the product of q and k and the softmax, as far as it is known.

    `node` is looked at next; `batches` are the batch axes that the scores have on the way, and
    `infinite` is how many of the masks have some -inf.
    """

    node: Node
    batches: tuple[Shape, ...]
    scale: float = 1.0
    factors: tuple[_Operand, ...] = ()
    masks: tuple[_Operand, ...] = ()
    infinite: int = 0


def _attention(rw: Rewriter, m: Match) -> Node | None:
    """`matmul(softmax(matmul(q, permute(k)) * s + mask), v)` -> `attention(q, k, v, mask)`"""
    weights, value = rw.inputs_of(m.root)
    top = _same_matrices(rw, weights)
    if top is None or top.op != "softmax" or top["axis"] != top.tensor.rank - 1:
        return None
    if not rw.is_single(top) or not rw.is_single(weights):
        return None
    (first,) = rw.inputs_of(top)
    batches = tuple(dict.fromkeys((weights.shape[:-2], first.shape[:-2])))
    scores = _down_to_product(rw, _Scores(first, batches))
    if scores is None or value.shape[:-2] != weights.shape[:-2]:
        return None
    return _build(rw, scores, value, m.root)


def _same_matrices(rw: Rewriter, node: Node) -> Node | None:
    """What a reshape that only changes the batch axes reads, or the node itself."""
    if node.op != "reshape":
        return node
    (x,) = rw.inputs_of(node)
    return x if x.tensor.rank >= 2 and x.shape[-2:] == node.shape[-2:] else None


def _down_to_product(rw: Rewriter, scores: _Scores) -> _Scores | None:
    """Follow the scores to the matmul that makes them."""
    while scores.node.op != "matmul":
        if not rw.is_single(scores.node):
            return None
        below = _step(rw, scores)
        if below is None:
            return None
        scores = below
    return scores if rw.is_single(scores.node) else None


def _step(rw: Rewriter, scores: _Scores) -> _Scores | None:
    """One operator further down; None if attention has no such operator."""
    node, inputs = scores.node, rw.inputs_of(scores.node)
    match node.op:
        case "mul" | "div":
            return _through_scale(rw, scores, inputs)
        case "add":
            return _through_mask(rw, scores, inputs)
        case "where":
            return _through_fill(rw, scores, inputs)
        case "reshape":
            below = _same_matrices(rw, node)
            if below is None:
                return None
            batches = tuple(dict.fromkeys((*scores.batches, below.shape[:-2])))
            return replace(scores, node=below, batches=batches)
        case _:
            return None


def _through_scale(rw: Rewriter, scores: _Scores, inputs: tuple[Node, ...]) -> _Scores | None:
    node = scores.node
    for x, factor in (inputs, inputs[::-1]) if node.op == "mul" else (inputs,):
        number = rw.number(factor)
        if number and x.type == node.type:
            scale = scores.scale * number if node.op == "mul" else scores.scale / number
            return replace(scores, node=x, scale=scale)
    # a number for each head, as Swin 2 has it: the queries are multiplied by it
    for x, factor in (inputs, inputs[::-1]):
        per_row = aligned(factor.shape, node.tensor.rank)[-2:] == (1, 1)
        if node.op == "mul" and per_row and x.type == node.type and _leads_to_product(rw, x):
            factors = (*scores.factors, _Operand(factor, node.shape))
            return replace(scores, node=x, factors=factors)
    return None


def _through_mask(rw: Rewriter, scores: _Scores, inputs: tuple[Node, ...]) -> _Scores | None:
    for x, mask in (inputs, inputs[::-1]):
        if x.type == scores.node.type and _leads_to_product(rw, x):
            found = infinities(rw, mask)
            return None if found is None else _masked(rw, scores, x, mask, found)
    return None


def _through_fill(rw: Rewriter, scores: _Scores, inputs: tuple[Node, ...]) -> _Scores | None:
    """`where(hidden, lowest, x)` is `x + where(hidden, lowest, 0)`, if lowest is low enough."""
    condition, yes, no = inputs
    for x, other, hides in ((no, yes, True), (yes, no, False)):
        lowest = rw.number(other)
        if lowest is None or lowest > LOWEST_SUM or x.type != scores.node.type:
            continue
        infinite = not math.isfinite(lowest)
        if infinite and not _leaves_something(condition, hides):
            return None
        zero, fill = rw.constant(0.0, x.dtype), rw.constant(lowest, x.dtype)
        mask = rw.add("where", condition, *((fill, zero) if hides else (zero, fill)))
        return _masked(rw, scores, x, mask, int(infinite))
    return None


def _leaves_something(condition: Node, hides: bool) -> bool:
    """Whether a constant condition leaves something in each row of what it hides."""
    if condition.op != "constant":
        return False
    values = condition["value"].array
    return not hides_a_row(values if hides else ~values)


def _masked(rw: Rewriter, scores: _Scores, x: Node, mask: Node, infinite: int) -> _Scores | None:
    # two masks with -inf might hide a row together; a factor below would have to scale the mask
    if mask.dtype != x.dtype or scores.infinite + infinite > 1 or scores.factors:
        return None
    if scores.scale != 1:  # it was added before the scores were scaled
        mask = rw.add("mul", mask, rw.constant(scores.scale, mask.dtype))
    masks = (*scores.masks, _Operand(mask, scores.node.shape))
    return replace(scores, node=x, masks=masks, infinite=scores.infinite + infinite)


def _leads_to_product(rw: Rewriter, node: Node) -> bool:
    """Whether following the operators of scores downwards ends at a matmul."""
    if node.op not in ("mul", "div", "add", "where", "reshape"):
        return node.op == "matmul"
    below = (i for i in rw.inputs_of(node) if node.op == "reshape" or i.type == node.type)
    return any(_leads_to_product(rw, i) for i in below)


# ---- putting it together ------------------------------------------------------


def _build(rw: Rewriter, scores: _Scores, value: Node, root: Node) -> Node | None:
    query, key = rw.inputs_of(scores.node)
    batch = scores.node.shape[:-2]
    if query.shape[:-2] != batch or key.shape[:-2] != batch:
        return None
    key = rw.add("permute", key, axes=swap_last(key.tensor.rank))
    for factor in scores.factors:
        if factor.at != scores.node.shape:
            return None
        query = rw.add("mul", query, factor.node)
    for common in sorted(dict.fromkeys((*scores.batches, batch)), key=len, reverse=True):
        masks = [_in_batch(rw, mask, common) for mask in scores.masks]
        if any(mask is None for mask in masks):
            continue
        operands = [_rebatched(rw, x, common) for x in (query, key, value)]
        total = _sum(rw, [mask for mask in masks if mask is not None])
        attrs = {"scale": scores.scale, "causal": False, "groups": 1}
        result = rw.add("attention", *operands, *total, **attrs)
        return _rebatched(rw, result, root.shape[:-2])
    return None


def _rebatched(rw: Rewriter, x: Node, batch: Shape) -> Node:
    shape = (*batch, *x.shape[-2:])
    return x if x.shape == shape else rw.add("reshape", x, shape=shape)


def _in_batch(rw: Rewriter, mask: _Operand, batch: Shape) -> Node | None:
    """The mask as it broadcasts to scores of these batch axes; None if it does not."""
    own_batch = mask.at[:-2]
    if own_batch == batch:
        return mask.node
    *lead, rows, columns = aligned(mask.node.shape, len(mask.at))
    shape = regrouped(tuple(lead), own_batch, batch)
    return None if shape is None else rw.add("reshape", mask.node, shape=(*shape, rows, columns))


def _sum(rw: Rewriter, masks: list[Node]) -> list[Node]:
    """All masks as one, or none."""
    while len(masks) > 1:
        masks = [rw.add("add", masks[0], masks[1]), *masks[2:]]
    return masks


# ---- what stands before it ----------------------------------------------------


def _absorbed_scale(rw: Rewriter, m: Match) -> Node | None:
    """`attention(mul(q, c), k, v)` -> `attention(q, k, v)` with c times its scale; so for k"""
    query, key, *rest = rw.inputs_of(m.root)
    plain_query, scale = _unscaled(rw, query, m.root["scale"])
    plain_key, scale = _unscaled(rw, key, scale)
    if plain_query is query and plain_key is key:
        return None
    attrs = {**dict(m.root.attrs), "scale": scale}
    return rw.add("attention", plain_query, plain_key, *rest, **attrs)


def _unscaled(rw: Rewriter, node: Node, scale: float) -> tuple[Node, float]:
    """A value without the number that it, or what it is a view of, is multiplied by."""
    inputs = rw.inputs_of(node)
    if node.op in ("permute", "reshape"):
        plain, below = _unscaled(rw, inputs[0], scale)
        return (node, scale) if plain is inputs[0] else (rw.again(node, plain), below)
    if node.op not in ("mul", "div"):
        return node, scale
    x, factor = inputs
    if node.op == "mul" and rw.number(factor) is None:
        x, factor = factor, x
    number = rw.number(factor)
    if not number or x.type != node.type:
        return node, scale
    return x, (scale * number if node.op == "mul" else scale / number)


# ---- masks --------------------------------------------------------------------


def _plain_mask(rw: Rewriter, m: Match) -> Node | None:
    """`attention(q, k, v, expand(mask))` -> `attention(q, k, v, mask)`: it broadcasts by itself

    And `attention(q, k, v, True)` -> `attention(q, k, v)`, also with a mask of zeros that is added.
    """
    *operands, mask = rw.inputs_of(m.root)
    if len(operands) != 3:
        return None
    number = rw.number(mask)
    if number is True or (number == 0 and mask.dtype.kind == "float"):
        return rw.again(m.root, *operands)
    if mask.op != "expand":
        return None
    return rw.again(m.root, *operands, *rw.inputs_of(mask))


def _causal(rw: Rewriter, m: Match) -> Node | None:
    """`attention(q, k, v, mask)` -> `attention(q, k, v)`, causal, if that is all the mask says"""
    *operands, mask = rw.inputs_of(m.root)
    if len(operands) != 3 or m.root["causal"]:
        return None
    if not is_causal(rw, mask, (operands[0].shape[-2], operands[1].shape[-2])):
        return None
    return rw.add("attention", *operands, **{**dict(m.root.attrs), "causal": True})


# ---- repeated heads -----------------------------------------------------------


def _grouped(rw: Rewriter, m: Match) -> Node | None:
    """`attention(q, repeated(k), repeated(v))` -> `attention(q, k, v, groups=n)`

    repeated(k) is `reshape(expand(reshape(k)))`, where each head becomes n equal heads.
    """
    if m.root["groups"] != 1:
        return None
    query, key, value, *mask = rw.inputs_of(m.root)
    keys, values = _repeated(rw, key), _repeated(rw, value)
    if keys is None or values is None or keys[1] != values[1]:
        return None
    attrs = {**dict(m.root.attrs), "groups": keys[1]}
    return rw.add("attention", query, keys[0], values[0], *mask, **attrs)


def _repeated(rw: Rewriter, node: Node) -> tuple[Node, int] | None:
    """The heads (…, H, S, E) of `reshape(expand((…, H, 1, S, E) to (…, H, n, S, E)))`, and n."""
    if node.op != "reshape" or rw.inputs_of(node)[0].op != "expand":
        return None
    (wide,) = rw.inputs_of(node)
    (narrow,) = rw.inputs_of(wide)
    if wide.tensor.rank != node.tensor.rank + 1 or narrow.tensor.rank != wide.tensor.rank:
        return None
    *batch, heads, times, rows, columns = wide.shape
    fits = narrow.shape == (*batch, heads, 1, rows, columns)
    if (
        not fits
        or not isinstance(times, int)
        or node.shape != (*batch, heads * times, rows, columns)
    ):
        return None
    return rw.add("reshape", narrow, shape=(*batch, heads, rows, columns)), times


RULES: tuple[Rule, ...] = (
    rule("matmul(*)", _attention),
    rule("attention(*)", _absorbed_scale),
    rule("attention(*)", _grouped),
    rule("attention(*)", _plain_mask),
    rule("attention(*)", _causal),
)
