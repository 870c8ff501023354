"""Normalisations that were written out, found again: layer norm, RMS norm, softmax.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function. Equal subexpressions must be the same node (pass `duplicates`) for these to be seen.
"""

from __future__ import annotations

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import aligned, inverse, to_last

# ---- layer_norm and rms_norm --------------------------------------------------


def _normalised(rw: Rewriter, m: Match, op: str) -> Node | None:
    """The normalisation over the axes of the mean `v`, which are moved to the end and back."""
    x, mean, eps = m["x"], m["v"], rw.number(m["$e"])
    if not mean["keepdims"] or not isinstance(eps, float) or eps < 0 or not mean["axes"]:
        return None
    rank, axes = x.tensor.rank, mean["axes"]
    order = to_last(axes, rank)
    trailing = order == tuple(range(rank))
    last = x if trailing else rw.add("permute", x, axes=order)
    extra = {"has_weight": False, "has_bias": False} if op == "layer_norm" else {}
    normal = rw.add(op, last, axes_count=len(axes), eps=eps, **extra)
    return normal if trailing else rw.add("permute", normal, axes=inverse(order))


def _rms_norm(rw: Rewriter, m: Match) -> Node | None:
    """`mul(x, rsqrt(mean(square(x)) + eps))`, `div(x, sqrt(…))` -> `rms_norm(x)`"""
    return _normalised(rw, m, "rms_norm")


def _layer_norm(rw: Rewriter, m: Match) -> Node | None:
    """`rms_norm(sub(x, mean(x)))` written out -> `layer_norm(x)`; so with `var(x)` for the mean"""
    variance = m["v"]
    centred = m["m"]["keepdims"] and m["m"]["axes"] == variance["axes"]
    if not centred or (variance.op == "var" and variance["correction"] != 0):
        return None
    return _normalised(rw, m, "layer_norm")


def _rms_to_layer(rw: Rewriter, m: Match) -> Node | None:
    """`rms_norm(sub(x, mean(x)))` -> `layer_norm(x)`, as the rule for rms_norm comes first"""
    node, mean, rank = m.root, m["m"], m["x"].tensor.rank
    trailing = tuple(range(rank - node["axes_count"], rank))
    if not mean["keepdims"] or mean["axes"] != trailing:
        return None
    return rw.add(
        "layer_norm", m["x"], axes_count=node["axes_count"], eps=node["eps"],
        has_weight=False, has_bias=False,
    )  # fmt: skip


def _parameter(rw: Rewriter, static: Node, normal: Node) -> Node | None:
    """A static operand as weight or bias of a normalisation: of the shape of its last axes."""
    count, x = normal["axes_count"], normal.shape
    wanted = x[len(x) - count :]
    if aligned(static.shape, len(x)) != (*(1,) * (len(x) - count), *wanted):
        return None
    return static if static.shape == wanted else rw.add("reshape", static, shape=wanted)


def _norm_weight(rw: Rewriter, m: Match) -> Node | None:
    """`mul(rms_norm(x), W)` -> `rms_norm(x, W)`; so for layer_norm; W static, of the last axes"""
    normal = m["n"]
    weight = _parameter(rw, m["W"], normal)
    if weight is None:
        return None
    attrs = dict(normal.attrs)
    if normal.op == "layer_norm":
        attrs["has_weight"] = True
    return rw.add(normal.op, m["x"], weight, **attrs)


def _norm_bias(rw: Rewriter, m: Match) -> Node | None:
    """`add(layer_norm(x, W), T)` -> `layer_norm(x, W, T)`; T static, of the last axes"""
    normal = m["n"]
    if normal["has_bias"]:
        return None
    bias = _parameter(rw, m["T"], normal)
    if bias is None:
        return None
    attrs = {**dict(normal.attrs), "has_bias": True}
    return rw.add("layer_norm", *rw.inputs_of(normal), bias, **attrs)


# ---- softmax ------------------------------------------------------------------


def _softmax(rw: Rewriter, m: Match) -> Node | None:
    """`div(e, sum(e))` with `e = exp(x - max(x))` -> `softmax(x)`"""
    top, total = m["top"], m["total"]
    if top["axes"] != total["axes"] or len(top["axes"]) != 1:
        return None
    if not (top["keepdims"] and total["keepdims"]):
        return None
    return rw.add("softmax", m["x"], axis=top["axes"][0])


def _log_softmax(rw: Rewriter, m: Match) -> Node | None:
    """`sub(x, logsumexp(x))` -> `log_softmax(x)`"""
    total = m["total"]
    if len(total["axes"]) != 1 or not total["keepdims"]:
        return None
    return rw.add("log_softmax", m["x"], axis=total["axes"][0])


_CENTRED = "sub:d(x, mean:m(x))"
RULES: tuple[Rule, ...] = (
    rule(f"mul({_CENTRED}, rsqrt(add(mean:v(square(d)), $e)))", _layer_norm),
    rule(f"div({_CENTRED}, sqrt(add(mean:v(square(d)), $e)))", _layer_norm),
    rule("mul(sub(x, mean:m(x)), rsqrt(add(var:v(x), $e)))", _layer_norm),
    rule("div(sub(x, mean:m(x)), sqrt(add(var:v(x), $e)))", _layer_norm),
    rule("mul(x, rsqrt(add(mean:v(square(x)), $e)))", _rms_norm),
    rule("div(x, sqrt(add(mean:v(square(x)), $e)))", _rms_norm),
    rule("rms_norm(sub(x, mean:m(x)))", _rms_to_layer),
    rule("mul(!layer_norm|rms_norm:n(x), W)", _norm_weight),
    rule("add(!layer_norm:n(*), T)", _norm_bias),
    rule("div(exp:e(sub(x, max_reduce:top(x))), sum:total(e))", _softmax),
    rule("mul(exp:e(sub(x, max_reduce:top(x))), reciprocal(sum:total(e)))", _softmax),
    rule("sub(x, logsumexp:total(x))", _log_softmax),
)
