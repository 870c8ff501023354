"""Runs expressions in NumPy: the meaning of ir/expr.py in the simplest form.

`interpret` evaluates one expression over broadcast index arrays, `tabulate` an expression over a
whole grid of indices, in pieces of bounded memory. A load under a false condition may be out of
range, because generated code does not execute it; any other load out of range is a bug and fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import evaluate
from sol.core.dtypes import DTYPES, DType
from sol.ir.expr import SCALAR_OPS, Expr, walk

Array = NDArray[Any]
Path = tuple[tuple[Expr, bool], ...]  # the conditions that hold where a part is evaluated

_PIECE = 1 << 22  # elements of the largest temporary array

_REDUCTIONS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}


@dataclass(frozen=True)
class Scope:
    """What names stand for: tensors by name, index variables as arrays that broadcast together.

    `rank` is the number of axes of these arrays; a reduction puts its own axes in front of them.
    """

    tensors: Mapping[str, Array]
    axes: Mapping[Expr, Array] = field(default_factory=dict)
    rank: int = 0
    batch: int = 1
    memo: dict[tuple[Expr, Path], Array] = field(default_factory=dict)


def dtype_of(array: Array) -> DType:
    """Sol's dtype of an array."""
    return next(t for t in DTYPES.values() if t.numpy == array.dtype.name)


def interpret(x: Expr, scope: Scope) -> Array:
    """The value of x for all values of the scope's axes, broadcast as far as x depends on them.

    A load without indices is the whole tensor.
    """
    with np.errstate(all="ignore"):
        return _value(x, scope, ())


def tabulate(x: Expr, axes: Sequence[Expr], tensors: Mapping[str, Array], batch: int = 1) -> Array:
    """The array of x at every index: result[i, j, …] is x with axes = (i, j, …)."""
    shape = [evaluate(a.value[1], batch) for a in axes]
    result = np.empty(shape, x.dtype.numpy)
    inner = _reduction_volume(x, batch)
    pieces = [tuple((0, n) for n in shape)] if 0 not in shape else []
    while pieces:
        piece = pieces.pop()
        lengths = [stop - start for start, stop in piece]
        if prod(lengths) * inner > _PIECE and max(lengths, default=1) > 1:
            pieces.extend(_halves(piece, lengths.index(max(lengths))))
            continue
        scope = Scope(tensors, _index_arrays(axes, piece), len(axes), batch)
        result[tuple(slice(*p) for p in piece)] = interpret(x, scope)
    return result


def _halves(piece: tuple[tuple[int, int], ...], k: int) -> list[tuple[tuple[int, int], ...]]:
    start, stop = piece[k]
    middle = (start + stop) // 2
    return [(*piece[:k], half, *piece[k + 1 :]) for half in ((start, middle), (middle, stop))]


def _index_arrays(axes: Sequence[Expr], piece: Sequence[tuple[int, int]]) -> dict[Expr, Array]:
    rank = len(axes)
    return {
        a: np.arange(*p).reshape([-1 if n == k else 1 for n in range(rank)])
        for k, (a, p) in enumerate(zip(axes, piece))
    }


def _reduction_volume(x: Expr, batch: int) -> int:
    bound = {a for r in walk(x) if r.op == "reduce" for a in r.args[1:]}
    return max(1, prod(evaluate(a.value[1], batch) for a in bound))


def _value(x: Expr, scope: Scope, path: Path) -> Array:
    key = (x, path)
    found = scope.memo.get(key)
    if found is None:
        found = scope.memo[key] = _evaluate(x, scope, path).astype(x.dtype.numpy, copy=False)
    return found


def _evaluate(x: Expr, scope: Scope, path: Path) -> Array:
    match x.op:
        case "const":
            return np.asarray(x.value, x.dtype.numpy)
        case "axis":
            return scope.axes[x]
        case "load":
            return _load(x, scope, path)
        case "reduce":
            return _reduce(x, scope, path)
        case "linear":
            return _linear(x, scope, path)
        case "cast":
            return _value(x.args[0], scope, path)
        case "where":
            return _where(x, scope, path)
    values = [_value(a, scope, path) for a in x.args]
    return np.asarray(SCALAR_OPS[x.op].numpy(*values))


def _where(x: Expr, scope: Scope, path: Path) -> Array:
    condition, yes, no = x.args
    return np.where(
        _value(condition, scope, path),
        _value(yes, scope, (*path, (condition, True))),
        _value(no, scope, (*path, (condition, False))),
    )


def _linear(x: Expr, scope: Scope, path: Path) -> Array:
    constant, coefficients = x.value
    total = np.asarray(evaluate(constant, scope.batch), np.int64)
    for part, coefficient in zip(x.args, coefficients):
        total = total + evaluate(coefficient, scope.batch) * _value(part, scope, path)
    return total


def _load(x: Expr, scope: Scope, path: Path) -> Array:
    tensor = scope.tensors[x.value]
    if not x.args:
        return tensor
    assert len(x.args) == tensor.ndim, f"{x} reads a tensor of shape {tensor.shape}"
    index = [_value(a, scope, path) for a in x.args]
    outside = np.asarray(False)
    for i, n in zip(index, tensor.shape):
        outside = outside | (i < 0) | (i >= n)
    if outside.any():
        assert not (outside & _reached(path, scope)).any(), f"{x} is out of range"
        if tensor.size == 0:
            shape = np.broadcast_shapes(*(i.shape for i in index))
            return np.zeros(shape, tensor.dtype)
        index = [np.clip(i, 0, n - 1) for i, n in zip(index, tensor.shape)]
    return np.asarray(tensor[tuple(index)])


def _reached(path: Path, scope: Scope) -> Array:
    """Where all conditions of the path hold."""
    reached = np.asarray(True)
    for n, (condition, holds) in enumerate(path):
        value = _value(condition, scope, path[:n])
        reached = reached & (value if holds else ~value)
    return reached


def _reduce(x: Expr, scope: Scope, path: Path) -> Array:
    body, axes = x.args[0], x.args[1:]
    extents = tuple(evaluate(a.value[1], scope.batch) for a in axes)
    rank = scope.rank + len(axes)
    bound = {
        a: np.arange(n).reshape([-1 if d == k else 1 for d in range(rank)])
        for k, (a, n) in enumerate(zip(axes, extents))
    }
    inner = replace(scope, axes={**scope.axes, **bound}, rank=rank, memo={})
    value = _value(body, inner, path)
    full = np.broadcast_shapes(value.shape, extents + (1,) * scope.rank)
    initial = _initial(x.value, body)
    reduction = _REDUCTIONS[x.value]
    return np.asarray(
        reduction.reduce(
            np.broadcast_to(value, full),
            axis=tuple(range(len(axes))),
            dtype=body.dtype.numpy,
            initial=initial,
        )
    )


def _initial(kind: str, body: Expr) -> Any:
    """The neutral element of a reduction."""
    match kind:
        case "max" | "min":
            sign = -1 if kind == "max" else 1
            if body.dtype.kind == "float":
                return sign * np.inf
            if body.dtype.kind == "bool":
                return kind == "min"
            limits = np.iinfo(body.dtype.numpy)
            return limits.min if kind == "max" else limits.max
        case "sum" | "any":
            return 0
        case _:
            return 1
