"""Each rule of the canonical form: what it makes of a small graph, and that the results stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sol.core.dims import B, Dim
from sol.core.dtypes import BOOL, F32, F64, I32, I64
from sol.ir.graph import Node
from sol.passes.canonical import canonical
from sol.passes.duplicates import dead, duplicates
from sol.passes.fold import fold

Make = Callable[[Any, Node], Node]


def prepared(graph: Any) -> Any:
    """What canonical requires, and then canonical itself."""
    return canonical(duplicates(dead(fold(graph))))


def strided(n: Any) -> Node:
    """The places of all elements of [B, 4, 6, 6], as exporters write a strided view."""
    rows = n("mul", n("iota", shape=(B,), axis=0, dtype=I64), 144)
    places = n.constant(np.arange(144).reshape(1, 4, 6, 6), I64)
    return n("add", n("reshape", rows, shape=(B, 1, 1, 1)), places)


MOVES: dict[str, tuple[Make, str]] = {
    "reshape of reshape": (
        lambda n, x: n("reshape", n("reshape", x, shape=(B, 144)), shape=(B, 12, 12)),
        "reshape",
    ),
    "reshape and back": (
        lambda n, x: n("reshape", n("reshape", x, shape=(B, 144)), shape=x.shape),
        "",
    ),
    "permute of permute": (
        lambda n, x: n("permute", n("permute", x, axes=(0, 2, 3, 1)), axes=(3, 0, 1, 2)),
        "permute",
    ),
    "permute and back": (
        lambda n, x: n("permute", n("permute", x, axes=(0, 2, 3, 1)), axes=(0, 3, 1, 2)),
        "",
    ),
    "permute of joined axes": (
        lambda n, x: n("permute", n("reshape", x, shape=(B, 24, 6)), axes=(0, 2, 1)),
        "permute reshape",
    ),
    "permute that takes joined axes apart": (
        lambda n, x: n("permute", n("reshape", x, shape=(B, 4, 2, 3, 6)), axes=(0, 2, 1, 3, 4)),
        "reshape permute",
    ),
    "split of permuted axes": (
        lambda n, x: n("reshape", n("permute", x, axes=(0, 2, 3, 1)), shape=(B, 6, 2, 3, 2, 2)),
        "reshape permute",
    ),
    "permutes around a split": (
        lambda n, x: n(
            "permute",
            n("reshape", n("permute", x, axes=(0, 2, 3, 1)), shape=(B, 6, 6, 2, 2)),
            axes=(0, 3, 4, 1, 2),
        ),
        "reshape",
    ),
    "split, permuted, joined": (
        lambda n, x: n(
            "reshape",
            n("permute", n("reshape", x, shape=(B, 2, 2, 6, 6)), axes=(0, 3, 1, 2, 4)),
            shape=(B, 6, 4, 6),
        ),
        "permute",
    ),
    "split and joined otherwise": (
        lambda n, x: n(
            "reshape",
            n("permute", n("reshape", x, shape=(B, 2, 2, 36)), axes=(0, 3, 1, 2)),
            shape=(B, 6, 6, 4),
        ),
        "permute",
    ),
    "permute of axes and ones": (
        lambda n, x: n(
            "permute", n("reshape", x, shape=(B, 1, 4, 1, 6, 6, 1)), axes=(0, 3, 4, 6, 2, 1, 5)
        ),
        "permute reshape",
    ),
    "permute of ones": (
        lambda n, x: n("permute", n("reshape", x, shape=(B, 1, 144)), axes=(1, 0, 2)),
        "reshape",
    ),
    "slice of all": (lambda n, x: n("slice", x, axis=2, start=0, stop=6, step=1), ""),
    "slice of slice": (
        lambda n, x: n(
            "slice",
            n("slice", x, axis=2, start=1, stop=6, step=2),
            axis=2, start=1, stop=3, step=1,
        ),
        "slice",
    ),
    "slice of slice, steps": (
        lambda n, x: n(
            "slice",
            n("slice", n("reshape", x, shape=(B, 144)), axis=1, start=3, stop=140, step=3),
            axis=1, start=1, stop=40, step=5,
        ),
        "reshape slice",
    ),
    "slices of two axes": (
        lambda n, x: n(
            "slice",
            n("slice", x, axis=2, start=1, stop=6, step=2),
            axis=3, start=1, stop=3, step=1,
        ),
        "slice slice",
    ),
    "concat of one": (lambda n, x: n("concat", x, axis=1), ""),
    "concat of empty": (
        lambda n, x: n("concat", x, n("slice", x, axis=1, start=2, stop=2, step=1), axis=1),
        "",
    ),
    "concat of concat": (
        lambda n, x: n("concat", n("concat", x, n("neg", x), axis=1), x, axis=1),
        "neg concat",
    ),
    "concat of another axis": (
        lambda n, x: n("concat", *[n("concat", x, x, axis=1)] * 2, axis=2),
        "concat concat",
    ),
    "pad of nothing": (
        lambda n, x: n("pad", x, low=(0,) * 4, high=(0,) * 4, mode="constant", value=0.0),
        "",
    ),
    "pad of pad": (
        lambda n, x: n(
            "pad",
            n("pad", x, low=(0, 0, 1, 0), high=(0, 0, 0, 2), mode="constant", value=1.0),
            low=(0, 0, 0, 3), high=(0, 1, 0, 2), mode="constant", value=1.0,
        ),
        "pad",
    ),
    "pad of pad, other value": (
        lambda n, x: n(
            "pad",
            n("pad", x, low=(0, 0, 1, 0), high=(0,) * 4, mode="constant", value=1.0),
            low=(0, 0, 1, 0), high=(0,) * 4, mode="constant", value=2.0,
        ),
        "pad pad",
    ),
    "pad that crops": (
        lambda n, x: n("pad", x, low=(0, 0, -1, 0), high=(0, 0, -2, 0), mode="reflect", value=0.0),
        "slice",
    ),
    "roll of nothing": (lambda n, x: n("roll", x, axes=(2, 3), shifts=(0, 0)), ""),
    "roll around": (lambda n, x: n("roll", x, axes=(2, 3), shifts=(6, -12)), ""),
    "roll and back": (
        lambda n, x: n(
            "roll", n("roll", x, axes=(2, 3), shifts=(-3, -2)), axes=(3, 2), shifts=(2, 3)
        ),
        "",
    ),
    "roll of roll": (
        lambda n, x: n("roll", n("roll", x, axes=(2, 3), shifts=(-3, 1)), axes=(3,), shifts=(1,)),
        "roll",
    ),
    "flip of flip": (lambda n, x: n("flip", n("flip", x, axes=(2, 3)), axes=(3, 1)), "flip"),
    "flip and back": (lambda n, x: n("flip", n("flip", x, axes=(2, 3)), axes=(3, 2)), ""),
    "repeat once": (lambda n, x: n("repeat", x, repeats=(1, 1, 1, 1)), ""),
    "repeat of ones": (
        lambda n, x: n("repeat", n("reshape", x, shape=(B, 1, 144)), repeats=(2, 1, 3, 1)),
        "reshape expand",
    ),
    "repeat of more": (lambda n, x: n("repeat", x, repeats=(1, 2, 1, 1)), "repeat"),
    "expand to its shape": (lambda n, x: n("expand", x, shape=x.shape), ""),
    "expand of expand": (
        lambda n, x: n(
            "expand", n("expand", x, shape=(2, B, 4, 6, 6)), shape=(3, 2, B, 4, 6, 6)
        ),
        "expand",
    ),
    "sum of an expanded": (
        lambda n, x: n("add", x, n("expand", n.parameter(6), shape=x.shape)),
        "add",
    ),
    "sum that needs its shape": (
        lambda n, x: n("add", n("expand", n("slice", x, axis=3, start=0, stop=1, step=1),
                                shape=x.shape), 1.0),
        "slice expand add",
    ),
    "condition of an expanded": (
        lambda n, x: n(
            "where", n("gt", x, 0.0), n("expand", n.constant(0.5), shape=x.shape), x
        ),
        "gt where",
    ),
    "interpolate to its size": (
        lambda n, x: n(
            "interpolate", x, size=(6, 6), mode="linear", align_corners=False, scales=None
        ),
        "",
    ),
    "interpolate by another scale": (
        lambda n, x: n(
            "interpolate", x, size=(6, 6), mode="nearest", align_corners=False, scales=(1.1, 1.0)
        ),
        "interpolate",
    ),
    "interpolate one pixel": (
        lambda n, x: n(
            "interpolate", n.reduce("mean", x, 2, 3), size=(3, 5), mode="linear",
            align_corners=False, scales=None,
        ),
        "mean expand",
    ),
    "cast to its type": (lambda n, x: n("cast", x, dtype=F64), ""),
    "cast of a wider cast": (
        lambda n, x: n("cast", n("cast", n("cast", x, dtype=I32), dtype=I64), dtype=F64),
        "cast cast",
    ),
    "cast that loses": (
        lambda n, x: n("cast", n("cast", x, dtype=F32), dtype=F64),
        "cast cast",
    ),
    "assignment of all": (
        lambda n, x: n("slice_assign", x, n("neg", x), axis=2, start=0, stop=6, step=1),
        "neg",
    ),
    "channel shuffle": (
        lambda n, x: n(
            "reshape",
            n("permute", n("reshape", x, shape=(B, 2, 2, 6, 6)), axes=(0, 2, 1, 3, 4)),
            shape=x.shape,
        ),
        "channel_shuffle",
    ),
    "take of a range": (
        lambda n, x: n("take", x, n("iota", shape=(3,), axis=0, dtype=I64), axis=1),
        "slice",
    ),
    "take of every other place": (
        lambda n, x: n("take", x, n.constant([1, 3, 5], I64), axis=2),
        "slice",
    ),
    "take of places in rows": (
        lambda n, x: n("take", x, n.constant([[0, 1, 2], [3, 4, 5]], I64), axis=3),
        "reshape",
    ),
    "take of places in columns": (
        lambda n, x: n("take", x, n.constant([[[1], [3]], [[2], [4]]], I64), axis=2),
        "slice reshape permute reshape",
    ),
    "take of places with gaps": (
        lambda n, x: n("take", x, n.constant([[0, 1], [3, 4]], I64), axis=2),
        "take",
    ),
    "take of places that are no arithmetic": (
        lambda n, x: n("take", x, n.constant([0, 2, 3], I64), axis=2),
        "take",
    ),
    "take backwards": (
        lambda n, x: n("take", x, n.constant([2, 1, 0], I64), axis=2),
        "take",
    ),
    "a strided view as a take": (
        lambda n, x: n("take", n("reshape", x, shape=(B * 144,)), strided(n), axis=0),
        "",
    ),
}  # fmt: skip


SCALARS: dict[str, tuple[Make, str]] = {
    "max with 0": (lambda n, x: n("max", x, 0.0), "relu"),
    "max with a number": (lambda n, x: n("max", 0.5, x), "clamp"),
    "min of max": (lambda n, x: n("min", n("max", x, -0.5), 0.5), "clamp"),
    "max with NaN": (lambda n, x: n("max", x, math.nan), "max"),
    "clamp at 0": (lambda n, x: n("clamp", x, low=0.0, high=None), "relu"),
    "clamp without bounds": (lambda n, x: n("clamp", x, low=None, high=None), ""),
    "clamp at infinity": (lambda n, x: n("clamp", x, low=-math.inf, high=1.0), "clamp"),
    "clamp at infinities": (lambda n, x: n("clamp", x, low=-math.inf, high=math.inf), ""),
    "relu6": (lambda n, x: n("clamp", n("relu", x), low=None, high=6.0), "clamp"),
    "relu of clamp": (lambda n, x: n("relu", n("clamp", x, low=-1.0, high=1.0)), "clamp"),
    "relu of relu": (lambda n, x: n("relu", n("relu", x)), "relu"),
    "clamp of clamp": (
        lambda n, x: n("clamp", n("clamp", x, low=-1.0, high=1.0), low=0.0, high=3.0),
        "clamp",
    ),
    "clamps that exclude each other": (
        lambda n, x: n("clamp", n("clamp", x, low=-1.0, high=0.0), low=1.0, high=3.0),
        "clamp clamp",
    ),
    "threshold": (lambda n, x: n("threshold", x, threshold=0.0, value=0.0), "relu"),
    "threshold elsewhere": (
        lambda n, x: n("threshold", x, threshold=0.0, value=1.0),
        "threshold",
    ),
    "pow 1": (lambda n, x: n("pow", x, 1.0), ""),
    "pow 2": (lambda n, x: n("pow", x, 2.0), "square"),
    "pow 3": (lambda n, x: n("pow", x, 3.0), "square mul"),
    "pow -1": (lambda n, x: n("pow", x, -1.0), "reciprocal"),
    "pow -2": (lambda n, x: n("pow", x, -2.0), "square reciprocal"),
    "pow 0.5": (lambda n, x: n("pow", n("abs", x), 0.5), "abs sqrt"),
    "pow -0.5": (lambda n, x: n("pow", n("abs", x), -0.5), "abs rsqrt"),
    "pow 2.5": (lambda n, x: n("pow", n("abs", x), 2.5), "abs pow"),
    "product with itself": (lambda n, x: n("mul", x, x), "square"),
    "division by a power of two": (lambda n, x: n("div", x, 8.0), "mul"),
    "division by minus a half": (lambda n, x: n("div", x, -0.5), "mul"),
    "division by six": (lambda n, x: n("div", x, 6.0), "div"),
    "division by almost nothing": (lambda n, x: n("div", x, 2.0**-130), "div"),
    "one divided": (lambda n, x: n("div", 1.0, x), "reciprocal"),
    "rsqrt": (lambda n, x: n("div", 1.0, n("sqrt", n("abs", x))), "abs rsqrt"),
    "difference with a number": (lambda n, x: n("sub", x, 3.0), "add"),
    "minus one times": (lambda n, x: n("mul", x, -1.0), "neg"),
    "sum with a negative": (lambda n, x: n("add", n("neg", x), n("exp", x)), "exp sub"),
    "minus minus": (lambda n, x: n("sub", x, n("neg", n("exp", x))), "exp add"),
    "rsqrt of reciprocal": (
        lambda n, x: n("sqrt", n("reciprocal", n("abs", x))),
        "abs rsqrt",
    ),
    "reciprocal twice": (lambda n, x: n("reciprocal", n("reciprocal", x)), ""),
    "product of negatives": (
        lambda n, x: n("mul", n("neg", x), n("neg", n("exp", x))),
        "exp mul",
    ),
    "quotient of negatives": (
        lambda n, x: n("div", n("neg", x), n("neg", n("exp", x))),
        "exp div",
    ),
    "square of a size": (lambda n, x: n("square", n("abs", n("neg", x))), "square"),
    "size of a negative": (lambda n, x: n("abs", n("neg", x)), "abs"),
    "not unequal": (lambda n, x: n("logical_not", n("ne", x, 1.0)), "eq"),
    "not equal": (lambda n, x: n("logical_not", n("eq", x, 1.0)), "ne"),
    "not less": (lambda n, x: n("logical_not", n("lt", x, 1.0)), "lt logical_not"),
    "not less, of integers": (
        lambda n, x: n("logical_not", n("lt", n("cast", x, dtype=I64), 1)),
        "cast ge",
    ),
    "xor of booleans": (
        lambda n, x: n("bitwise_xor", n("gt", x, 0.0), n("ne", n("lt", x, 1.0), n("eq", x, 0.5))),
        "gt lt eq logical_xor logical_xor",
    ),
    "and of booleans": (
        lambda n, x: n("bitwise_and", n("gt", x, 0.0), n("mul", n("lt", x, 1.0), n("ne", x, x))),
        "gt lt ne logical_and logical_and",
    ),
    "and of integers": (
        lambda n, x: n("bitwise_and", n("cast", x, dtype=I64), n.constant(1, I64)),
        "cast bitwise_and",
    ),
}


REDUCTIONS: dict[str, tuple[Make, str]] = {
    "adaptive pooling to 1": (lambda n, x: n("adaptive_avg_pool", x, size=(1, 1)), "mean"),
    "adaptive pooling to a divisor": (
        lambda n, x: n("adaptive_avg_pool", x, size=(2, 3)),
        "avg_pool",
    ),
    "adaptive pooling to its size": (lambda n, x: n("adaptive_avg_pool", x, size=(6, 6)), ""),
    "adaptive pooling otherwise": (
        lambda n, x: n("adaptive_avg_pool", x, size=(4, 3)),
        "adaptive_avg_pool",
    ),
    "adaptive maximum to 1": (lambda n, x: n("adaptive_max_pool", x, size=(1, 1)), "max_reduce"),
    "adaptive maximum to a divisor": (
        lambda n, x: n("adaptive_max_pool", x, size=(2, 3)),
        "max_pool",
    ),
    "pooling of all": (
        lambda n, x: n("avg_pool", x, kernel=(6, 6), stride=(1, 1), padding=(0, 0), ceil=False,
                       count_include_pad=True, divisor=None),
        "mean",
    ),
    "pooling with a divisor": (
        lambda n, x: n("avg_pool", x, kernel=(6, 6), stride=(1, 1), padding=(0, 0), ceil=False,
                       count_include_pad=True, divisor=7),
        "avg_pool",
    ),
    "pooling of one pixel": (
        lambda n, x: n("max_pool", x, kernel=(1, 1), stride=(1, 1), padding=(0, 0),
                       dilation=(1, 1), ceil=False),
        "",
    ),
    "pooling of one pixel in steps": (
        lambda n, x: n("max_pool", x, kernel=(1, 1), stride=(2, 2), padding=(0, 0),
                       dilation=(1, 1), ceil=False),
        "max_pool",
    ),
    "sum divided": (lambda n, x: n("div", n.reduce("sum", x, 2, 3), 36.0), "mean"),
    "sum divided by another number": (
        lambda n, x: n("div", n.reduce("sum", x, 2, 3), 35.0),
        "sum div",
    ),
    "mean of mean": (
        lambda n, x: n.reduce("mean", n.reduce("mean", x, 3, keepdims=False), 2, keepdims=False),
        "mean",
    ),
    "mean of mean, mixed": (
        lambda n, x: n.reduce("mean", n.reduce("mean", x, 1, keepdims=False), 2),
        "mean reshape",
    ),
    "max of max": (
        lambda n, x: n.reduce("max_reduce", n.reduce("max_reduce", x, 1, 3), 2), "max_reduce",
    ),
    "sum of mean": (
        lambda n, x: n.reduce("sum", n.reduce("mean", x, 3), 2), "mean sum",
    ),
    "flattened mean": (
        lambda n, x: n("reshape", n.reduce("mean", x, 2, 3), shape=(B, 4)), "mean",
    ),
    "mean of one": (
        lambda n, x: n.reduce("mean", n("reshape", x, shape=(B, 1, 144)), 1, keepdims=False),
        "reshape",
    ),
}  # fmt: skip


def _row_mean(n: Any, x: Node) -> Node:
    return n.reduce("mean", x, 3)


def _normalised(n: Any, x: Node, axes: tuple[int, ...] = (3,), root: str = "rsqrt") -> Node:
    centred = n("sub", x, n.reduce("mean", x, *axes))
    power = n("add", n.reduce("mean", n("pow", centred, 2.0), *axes), 1e-5)
    if root == "rsqrt":
        return n("mul", centred, n("rsqrt", power))
    return n("div", centred, n(root, power))


def _var_normalised(n: Any, x: Node, correction: float) -> Node:
    var = n("var", x, axes=(3,), correction=correction, keepdims=True)
    return n("mul", n("sub", x, _row_mean(n, x)), n("rsqrt", n("add", var, 1e-5)))


def _rms(n: Any, x: Node) -> Node:
    return n("mul", x, n("rsqrt", n("add", _row_mean(n, n("pow", x, 2.0)), 1e-6)))


def _softmax(n: Any, x: Node, keepdims: bool = True) -> Node:
    powers = n("exp", n("sub", x, n.reduce("max_reduce", x, 1)))
    return n("div", powers, n.reduce("sum", powers, 1))


NORMS: dict[str, tuple[Make, str]] = {
    "layer norm": (_normalised, "layer_norm"),
    "layer norm by division": (lambda n, x: _normalised(n, x, (3,), "sqrt"), "layer_norm"),
    "layer norm of two axes": (lambda n, x: _normalised(n, x, (2, 3)), "layer_norm"),
    "layer norm of channels": (
        lambda n, x: _normalised(n, x, (1,)),
        "permute layer_norm permute",
    ),
    "layer norm by var": (lambda n, x: _var_normalised(n, x, 0), "layer_norm"),
    "layer norm by division and var": (
        lambda n, x: n(
            "div",
            n("sub", x, _row_mean(n, x)),
            n("sqrt", n("add", n("var", x, axes=(3,), correction=0, keepdims=True), 1e-5)),
        ),
        "layer_norm",
    ),
    "layer norm by rms norm": (
        lambda n, x: n("rms_norm", n("sub", x, _row_mean(n, x)), axes_count=1, eps=1e-5),
        "layer_norm",
    ),
    "rms norm of another mean": (
        lambda n, x: n("rms_norm", n("sub", x, n.reduce("mean", x, 2, 3)), axes_count=1, eps=1e-5),
        "mean sub rms_norm",
    ),
    "rms norm by division": (
        lambda n, x: n("div", x, n("sqrt", n("add", _row_mean(n, n("mul", x, x)), 1e-6))),
        "rms_norm",
    ),
    "softmax by reciprocal": (
        lambda n, x: n(
            "mul",
            n("exp", n("sub", x, n.reduce("max_reduce", x, 1))),
            n(
                "reciprocal",
                n.reduce("sum", n("exp", n("sub", x, n.reduce("max_reduce", x, 1))), 1),
            ),
        ),
        "softmax",
    ),
    "unbiased variance": (
        lambda n, x: _var_normalised(n, x, 1),
        "var mean sub add rsqrt mul",
    ),
    "layer norm, weight, bias": (
        lambda n, x: n("add", n("mul", n.parameter(6), _normalised(n, x)), n.parameter(1, 6)),
        "layer_norm",
    ),
    "layer norm, weight of other axes": (
        lambda n, x: n("mul", n.parameter(6, 1), _normalised(n, x)),
        "layer_norm mul",
    ),
    "rms norm": (_rms, "rms_norm"),
    "rms norm, weight": (lambda n, x: n("mul", n.parameter(6), _rms(n, x)), "rms_norm"),
    "rms norm, 1 + weight": (
        lambda n, x: n("mul", _rms(n, x), n("add", n.parameter(6), 1.0)),
        "rms_norm",
    ),
    "softmax": (_softmax, "softmax"),
    "log softmax": (
        lambda n, x: n("sub", x, n("logsumexp", x, axes=(1,), keepdims=True)),
        "log_softmax",
    ),
}


def _gelu(n: Any, x: Node, half: Callable[..., Node]) -> Node:
    return half(n, x, n("add", n("erf", n("mul", x, math.sqrt(0.5))), 1.0))


def _gelu_tanh(n: Any, x: Node, cube: Callable[[Any, Node], Node]) -> Node:
    inner = n("add", x, n("mul", cube(n, x), 0.044715))
    total = n("add", n("tanh", n("mul", inner, math.sqrt(2 / math.pi))), 1.0)
    return n("mul", n("mul", x, 0.5), total)


def _hard(n: Any, x: Node) -> Node:
    return n("clamp", n("add", x, 3.0), low=0.0, high=6.0)


ACTIVATIONS: dict[str, tuple[Make, str]] = {
    "silu": (lambda n, x: n("mul", x, n("sigmoid", x)), "silu"),
    "silu of another": (lambda n, x: n("mul", n("neg", x), n("sigmoid", x)), "neg sigmoid mul"),
    "silu by exp": (lambda n, x: n("div", x, n("add", n("exp", n("neg", x)), 1.0)), "silu"),
    "sigmoid by exp": (
        lambda n, x: n("div", 1.0, n("add", 1.0, n("exp", n("neg", x)))),
        "sigmoid",
    ),
    "gelu": (lambda n, x: _gelu(n, x, lambda n, x, e: n("mul", n("mul", x, 0.5), e)), "gelu"),
    "gelu, half last": (
        lambda n, x: _gelu(n, x, lambda n, x, e: n("div", n("mul", e, x), 2.0)),
        "gelu",
    ),
    "gelu, half inside": (
        lambda n, x: _gelu(n, x, lambda n, x, e: n("mul", x, n("mul", 0.5, e))),
        "gelu",
    ),
    "gelu of a product": (
        lambda n, x: _gelu(
            n, n("mul", x, n("exp", x)), lambda n, x, e: n("mul", n("mul", x, 0.5), e)
        ),
        "exp mul gelu",
    ),
    "not gelu": (
        lambda n, x: _gelu(n, x, lambda n, x, e: n("mul", n("mul", x, 0.25), e)),
        "mul erf add mul mul",
    ),
    "gelu with few digits": (
        lambda n, x: n("mul", n("mul", x, 0.5), n("add", n("erf", n("mul", x, 0.7071)), 1.0)),
        "mul mul erf add mul",
    ),
    "gelu by tanh, pow": (lambda n, x: _gelu_tanh(n, x, lambda n, x: n("pow", x, 3.0)), "gelu"),
    "gelu by tanh, products": (
        lambda n, x: _gelu_tanh(n, x, lambda n, x: n("mul", x, n("mul", x, x))),
        "gelu",
    ),
    "hardsigmoid": (lambda n, x: n("div", _hard(n, x), 6.0), "hardsigmoid"),
    "hardswish": (lambda n, x: n("mul", x, n("div", _hard(n, x), 6.0)), "hardswish"),
    "hardswish, divided last": (lambda n, x: n("div", n("mul", x, _hard(n, x)), 6.0), "hardswish"),
    "hardswish by hardsigmoid": (lambda n, x: n("mul", n("hardsigmoid", x), x), "hardswish"),
    "mish": (
        lambda n, x: n("mul", x, n("tanh", n("softplus", x, beta=1.0, threshold=20.0))),
        "mish",
    ),
    "softsign": (lambda n, x: n("div", x, n("add", n("abs", x), 1.0)), "softsign"),
    "tanhshrink": (lambda n, x: n("sub", x, n("tanh", x)), "tanhshrink"),
    "leaky relu": (
        lambda n, x: n("where", n("gt", x, 0.0), x, n("mul", x, 0.25)),
        "leaky_relu",
    ),
    "leaky relu by max": (lambda n, x: n("max", x, n("mul", x, 0.25)), "leaky_relu"),
    "max with a steeper line": (lambda n, x: n("max", x, n("mul", x, 1.25)), "mul max"),
}


CONTRACTIONS: dict[str, tuple[Make, str]] = {
    "linear": (lambda n, x: n("matmul", x, n.parameter(6, 5)), "linear"),
    "linear, bias": (
        lambda n, x: n("add", n.parameter(5), n("matmul", x, n.parameter(6, 5))),
        "linear",
    ),
    "linear, sum with more": (
        lambda n, x: n("add", n.parameter(6, 1), n("matmul", x, n.parameter(6, 5))),
        "linear add",
    ),
    "product of many": (lambda n, x: n("matmul", x, n.parameter(4, 6, 5)), "matmul"),
    "product with an expanded": (
        lambda n, x: n("matmul", x, n("expand", n.parameter(4, 6, 5), shape=(B, 4, 6, 5))),
        "matmul",
    ),
}

ROWS = {**MOVES, **SCALARS, **REDUCTIONS, **NORMS, **ACTIVATIONS, **CONTRACTIONS}


@pytest.mark.parametrize("name", ROWS)
def test_rule(name: str, net: Any, becomes: Any) -> None:
    make, expected = ROWS[name]
    x = net.images()
    # constants of models are close to those of the formula, not equal
    rtol = 1e-7 if name in ACTIVATIONS else 1e-10
    becomes(prepared, net.graph(make(net, x)), expected, rtol)


def test_booleans(net: Any, becomes: Any) -> None:
    x = net.input(B, 3, dtype=BOOL)
    becomes(prepared, net.graph(net("add", x, net("bitwise_not", x))), "logical_not logical_or")


@pytest.mark.parametrize(
    ("op", "opposite"), [("lt", "ge"), ("le", "gt"), ("gt", "le"), ("ge", "lt")]
)
def test_opposites_of_integers(op: str, opposite: str, net: Any, becomes: Any) -> None:
    x, y = net.input(B, 3, dtype=I64), net.input(3, dtype=I64, name="y")
    becomes(prepared, net.graph(net("logical_not", net(op, x, y))), opposite)


def test_a_reshape_by_a_symbolic_size(net: Any, becomes: Any) -> None:
    x = net.input(B, 6, 4)
    y = net("reshape", net("reshape", x, shape=(Dim(6), 4)), shape=(Dim(2), 3, 4))
    graph = becomes(prepared, net.graph(y), "reshape")
    assert graph[graph.outputs[0]].shape == (Dim(2), 3, 4)


def test_names_and_origins_stay(net: Any) -> None:
    x = net.images()
    y = net.builder.add("mul", x, net("sigmoid", x), name="act", origin="layer1.act")
    graph = canonical(net.graph(y))
    (out,) = graph.outputs
    assert (out, graph[out].op, graph[out].origin) == ("act", "silu", "layer1.act")


def test_a_weight_is_not_taken_from_a_norm_with_other_users(net: Any, becomes: Any) -> None:
    x = net.images()
    norm = _rms(net, x)
    graph = net.graph(net("mul", norm, net.parameter(6)), norm)
    becomes(prepared, graph, "rms_norm mul")
