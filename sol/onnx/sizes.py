"""Arithmetic of shapes: what exporters write between Shape and Reshape, with the batch as B.

Known integers are folded like all constants. These are the operators on arrays in which some
element is a `Dim`; what cannot be said for every batch raises UnsupportedError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx

from sol.core.dims import Dim, Size, product
from sol.core.errors import UnsupportedError
from sol.ir.expr import at_least
from sol.onnx.values import Array, Call, Tensor, sizes_array

_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)


def shape(c: Call) -> Array:
    """Shape: the sizes of any value."""
    found = c.shape(0)
    start, stop = c.attr("start", 0), c.attr("end", len(found))
    return sizes_array(found[start:stop])


def size(c: Call) -> Array:
    """Size: the number of elements."""
    return _object(product(c.shape(0)))


def _object(value: Any) -> Array:
    array = np.empty((), object)
    array[()] = value
    return array


def _arrays(c: Call) -> list[Any]:
    found = []
    for value in c.inputs:
        if isinstance(value, Tensor):
            raise UnsupportedError(c.op, "it computes with sizes that depend on the batch size B")
        found.append(value)
    return found


def _binary(function: Callable[[Size, Size], Any]) -> Callable[[Call], Array]:
    def rule(c: Call) -> Array:
        a, b = (np.asarray(v, object) for v in _arrays(c))
        return np.asarray(np.frompyfunc(function, 2, 1)(a, b), object)

    return rule


def _divided(a: Size, b: Size) -> Size:
    if isinstance(a, Dim) or isinstance(b, Dim):
        found: Size = a // b  # type: ignore[operator]
        return found
    return math.trunc(a / b) if b else 0


def _equal(a: Size, b: Size) -> bool:
    """Equal for every batch, or for none."""
    difference = a - b
    if difference == 0:
        return True
    if at_least(difference, 1) or at_least(-difference, 1):
        return False
    raise UnsupportedError("Equal", f"whether {a} is {b} depends on the batch size B")


def _larger(a: Size, b: Size) -> Size:
    if at_least(a - b, 0):
        return a
    if at_least(b - a, 0):
        return b
    raise UnsupportedError("Max", f"whether {a} or {b} is larger depends on the batch size B")


def _compared(least: int, turn: int) -> Callable[[Size, Size], bool]:
    """a > b is a - b >= 1, and so on."""

    def rule(a: Size, b: Size) -> bool:
        difference = (a - b) * turn
        if at_least(difference, least):
            return True
        if at_least(-difference, 1 - least):
            return False
        raise UnsupportedError("Less", f"whether {a} is less than {b} depends on the batch size B")

    return rule


def _where(c: Call) -> Array:
    condition, yes, no = _arrays(c)
    return np.asarray(np.where(condition.astype(bool), yes.astype(object), no.astype(object)))


def _gather(c: Call) -> Array:
    x, index = _arrays(c)
    return np.asarray(np.take(x, index.astype(np.int64), axis=c.attr("axis", 0)), object)


def _slice(c: Call) -> Array:
    (x, *_) = _arrays(c)
    if c.version < 10:
        starts, ends = c.needed("starts"), c.needed("ends")
        axes, steps = c.attr("axes", range(len(starts))), (1,) * len(starts)
    else:
        starts, ends = c.integers(1), c.integers(2)
        axes = c.integers(3) if c.has(3) else range(len(starts))
        steps = c.integers(4) if c.has(4) else (1,) * len(starts)
    cut = [slice(None)] * x.ndim
    for axis, *bounds in zip(axes, starts, ends, steps):
        cut[axis] = slice(*bounds)
    return np.asarray(x[tuple(cut)], object)


def _concat(c: Call) -> Array:
    return np.concatenate([np.asarray(a, object) for a in _arrays(c)], axis=c.attr("axis", 0))


def _split(c: Call) -> tuple[Array, ...]:
    (x, *_) = _arrays(c)
    lengths = c.listed("split", 1)
    cuts = np.cumsum(lengths)[:-1] if lengths else c.results
    return tuple(np.split(x, cuts, axis=c.attr("axis", 0)))


def _unsqueeze(c: Call) -> Array:
    axes = c.listed("axes", 1) or ()
    return np.expand_dims(np.asarray(c.inputs[0], object), axes)


def _squeeze(c: Call) -> Array:
    x = np.asarray(c.inputs[0], object)
    axes = c.listed("axes", 1)
    found = x.reshape(tuple(s for s in x.shape if s != 1)) if axes is None else x.squeeze(axes)
    return np.asarray(found, object)


def _reshape(c: Call) -> Array:
    return np.asarray(c.inputs[0], object).reshape(c.integers(1))


def _expand(c: Call) -> Array:
    x = np.asarray(c.inputs[0], object)
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, c.integers(1)))


def _cast(c: Call) -> Array:
    if c.attr("to") not in _INTEGERS:
        raise UnsupportedError(c.op, "a size that depends on the batch size B as another type")
    return np.asarray(c.inputs[0], object)


def _same(c: Call) -> Array:
    return np.asarray(c.inputs[0], object)


def _reduced(function: Callable[[Size, Size], Size]) -> Callable[[Call], Array]:
    def rule(c: Call) -> Array:
        x = np.asarray(c.inputs[0], object)
        if x.ndim != 1 or c.listed("axes", 1) not in (None, (0,), (-1,)):
            raise UnsupportedError(c.op, "sizes that depend on the batch size B in many axes")
        total = _object(reduce(function, x.tolist()))
        return total.reshape(1) if c.attr("keepdims", 1) else total

    return rule


def _add(a: Any, b: Any) -> Any:
    return a + b


def _multiply(a: Any, b: Any) -> Any:
    return a * b


OF_ANY: dict[str, Callable[[Call], Any]] = {"Shape": shape, "Size": size}
OF_SIZES: dict[str, Callable[[Call], Any]] = {
    "Add": _binary(_add),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(_multiply),
    "Div": _binary(_divided),
    "Max": _binary(_larger),
    "Min": _binary(lambda a, b: -_larger(-a, -b)),
    "Equal": _binary(_equal),
    "Greater": _binary(_compared(1, 1)),
    "Less": _binary(_compared(1, -1)),
    "GreaterOrEqual": _binary(_compared(0, 1)),
    "LessOrEqual": _binary(_compared(0, -1)),
    "Where": _where,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Expand": _expand,
    "Cast": _cast,
    "Identity": _same,
    "ReduceProd": _reduced(_multiply),
    "ReduceSum": _reduced(_add),
}
