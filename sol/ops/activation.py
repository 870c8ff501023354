"""Activation functions: element-wise operators with parameters, composed of the scalar table.

Each is written so that it is stable for large arguments and takes few scalar operations: the
expression is what the processor executes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import numpy as np

from sol.core.dtypes import promote
from sol.ir.expr import Expr, apply, where
from sol.ir.graph import Node, TensorType
from sol.ops.gradients import elementwise as gradient_of
from sol.ops.pointwise import NUMBERS, Scalar, pointwise
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import need, need_kind
from sol.ops.sampling import f32


def _leaky_relu(node: Node, x: Expr) -> Expr:
    return where(x > 0, x, x * node["slope"])


def _elu(node: Node, x: Expr) -> Expr:
    negative = apply("expm1", x * node["input_scale"]) * (node["alpha"] * node["scale"])
    return where(x > 0, x * node["scale"], negative)


def _gelu(node: Node, x: Expr) -> Expr:
    if node["approximate"] == "none":
        return x * apply("ndtr", x)
    # 0.5 (1 + tanh u) = sigmoid(2u)
    inner = x * (x * x * (0.044715 * 2 * sqrt(2 / pi)) + 2 * sqrt(2 / pi))
    return x * apply("sigmoid", inner)


def _silu(node: Node, x: Expr) -> Expr:
    return x * apply("sigmoid", x)


def _clipped(x: Expr, low: float, high: float) -> Expr:
    return apply("min", apply("max", x, low), high)


def _hardswish(node: Node, x: Expr) -> Expr:
    return x * _clipped(x + 3.0, 0.0, 6.0) / 6.0


def _hardsigmoid(node: Node, x: Expr) -> Expr:
    return _clipped(x + 3.0, 0.0, 6.0) / 6.0


def _mish(node: Node, x: Expr) -> Expr:
    """x tanh(ln(1 + e)) = x n / (n + 2) with e = exp(x), n = e (e + 2); from 20 on it is x."""
    e = apply("exp", apply("min", x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def _softplus(node: Node, x: Expr) -> Expr:
    beta = node["beta"]
    scaled = x * beta
    return where(scaled > node["threshold"], x, apply("log1p", apply("exp", scaled)) * (1 / beta))


def _softsign(node: Node, x: Expr) -> Expr:
    return x / (apply("abs", x) + 1.0)


def _softshrink(node: Node, x: Expr) -> Expr:
    lambd = node["lambd"]
    kept = where(x < -lambd, x + lambd, x * 0.0)  # x * 0, so that NaN stays NaN
    return where(x > lambd, x - lambd, kept)


def _hardshrink(node: Node, x: Expr) -> Expr:
    return where(apply("abs", x) <= node["lambd"], 0.0, x)


def _threshold(node: Node, x: Expr) -> Expr:
    return where(x <= node["threshold"], node["value"], x)


def _log_sigmoid(node: Node, x: Expr) -> Expr:
    return apply("min", x, 0.0) - apply("log1p", apply("exp", -apply("abs", x)))


def _tanhshrink(node: Node, x: Expr) -> Expr:
    return x - apply("tanh", x)


def _logit(node: Node, x: Expr) -> Expr:
    eps = node["eps"]
    if eps is not None:
        x = _clipped(x, eps, 1 - eps)
    return apply("log", x / (1.0 - x))


_Row = tuple[str, str, Scalar, Sequence[dict[str, Any]], tuple[float, float]]
_WIDE = (-6.0, 6.0)

# name, formula, meaning, attributes of the samples, range of the samples
_ACTIVATIONS: tuple[_Row, ...] = (
    ("leaky_relu", "y = x where x > 0, else slope * x", _leaky_relu,
     [{"slope": 0.01}, {"slope": 0.0}, {"slope": 1.5}], _WIDE),
    ("elu", "y = scale * x where x > 0, else alpha * scale * (e^(x * input_scale) - 1)", _elu,
     [{"alpha": 1.0, "scale": 1.0, "input_scale": 1.0},
      {"alpha": 1.6732632, "scale": 1.0507010, "input_scale": 1.0},
      {"alpha": 0.7, "scale": 1.0, "input_scale": 1 / 0.7}], _WIDE),
    ("gelu", 'y = x/2 * (1 + erf(x/√2)); approximate="tanh": '
     "x/2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))", _gelu,
     [{"approximate": "none"}, {"approximate": "tanh"}], _WIDE),
    ("silu", "y = x / (1 + e^-x)", _silu, [{}], _WIDE),
    ("hardswish", "y = x * min(max(x + 3, 0), 6) / 6", _hardswish, [{}], _WIDE),
    ("hardsigmoid", "y = min(max(x + 3, 0), 6) / 6", _hardsigmoid, [{}], _WIDE),
    ("mish", "y = x * tanh(ln(1 + e^x))", _mish, [{}], (-6.0, 30.0)),
    ("softplus", "y = ln(1 + e^(beta x)) / beta; x where beta x > threshold", _softplus,
     [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 3.0}], (-6.0, 30.0)),
    ("softsign", "y = x / (1 + |x|)", _softsign, [{}], _WIDE),
    ("softshrink", "y = x - lambd where x > lambd, x + lambd where x < -lambd, else 0", _softshrink,
     [{"lambd": 0.5}, {"lambd": 0.0}], _WIDE),
    ("hardshrink", "y = 0 where |x| <= lambd, else x", _hardshrink,
     [{"lambd": 0.5}, {"lambd": 0.0}], _WIDE),
    ("threshold", "y = value where x <= threshold, else x", _threshold,
     [{"threshold": 0.1, "value": 20.0}, {"threshold": 0.0, "value": 0.0}], _WIDE),
    ("log_sigmoid", "y = -ln(1 + e^-x)", _log_sigmoid, [{}], (-30.0, 30.0)),
    ("tanhshrink", "y = x - tanh x", _tanhshrink, [{}], _WIDE),
    ("logit", "y = ln(x / (1 - x)), x first clipped to [eps, 1 - eps] unless eps is None", _logit,
     [{"eps": None}, {"eps": 0.3}], (0.05, 0.95)),
)  # fmt: skip

_SHAPES = ((2, 3, 7), (33,), (), (1, 17, 1), (2, 3, 5, 7))

for _name, _doc, _scalar, _attrs, _range in _ACTIVATIONS:
    _samples = [Sample((f32(*s),), _attrs[n % len(_attrs)], *_range) for n, s in enumerate(_SHAPES)]
    pointwise(_name, f"`{_doc}`", _scalar, _samples, attrs=tuple(_attrs[0]), kinds=("float",))


# ---- prelu: the slope belongs to a channel, axis 1, and does not broadcast as NumPy does ---------


def _infer_prelu(x: TensorType, slope: TensorType) -> TensorType:
    need_kind("prelu", x, *NUMBERS)
    channels = x.shape[1] if x.rank > 1 else 1
    need(
        slope.shape in ((), (1,), (channels,)),
        "prelu",
        f"a slope {slope} for an input {x}",
        f"shape [] or [{channels}], one slope or one for each channel",
    )
    return TensorType(x.shape, promote(x.dtype, slope.dtype))


def _prelu(x: Expr, slope: Expr) -> Expr:
    return where(x > 0, x, x * slope)


def _compute_prelu(node: Node, index: Index, x: Read, slope: Read) -> Expr:
    channel = [] if slope.type.rank == 0 else [0 if slope.shape == (1,) else index[1]]
    return _prelu(x(*index), slope(*channel))


def _reference_prelu(node: Node, x: Any, slope: Any) -> Any:
    if slope.ndim == 1 and slope.size != 1:
        slope = slope.reshape((-1,) + (1,) * (x.ndim - 2))
    return np.where(x > 0, x, x * slope)


register(
    OpDef(
        "prelu",
        "elementwise",
        _infer_prelu,
        "`y = x where x > 0, else slope * x`, with one slope, or one for each channel (axis 1).",
        samples=(
            Sample((f32(2, 3, 5, 7), f32(3))),
            Sample((f32(2, 24, 3), f32())),
            Sample((f32(2, 5), f32(1))),
            Sample((f32(7), f32(1))),
        ),
        compute=_compute_prelu,
        reference=_reference_prelu,
        gradient=gradient_of.prelu,
    )
)
