"""Gathers whose indices are arithmetic: slices, reshapes and permutations.

Exporters write a strided view as a gather at `offset + Σ step * place`. Rules of the pass
`canonical`; each is `before -> after` in the docstring of its function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import Size, product
from sol.core.errors import UnsupportedError
from sol.ir.expr import at_least
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter

_DEEPEST = 16  # operators between an index and what it is made of


@dataclass(frozen=True, slots=True)
class Affine:
    """A value that is `offset + Σ_k steps[k] * i_k` at the place i; steps of axes of one are 0."""

    offset: int
    steps: tuple[int, ...]


def affine(rw: Rewriter, node: Node, depth: int = _DEEPEST) -> Affine | None:
    """A whole-numbered value in this form, None if it has none that is seen."""
    if node.dtype.kind != "int" or not depth:
        return None
    number = rw.number(node)
    if number is not None:
        return Affine(int(number), (0,) * node.tensor.rank)
    match node.op:
        case "iota":
            return _still(0, (int(k == node["axis"]) for k in range(node.tensor.rank)), node)
        case "constant":
            return _of_array(node["value"].array)
    forms = [affine(rw, i, depth - 1) for i in rw.inputs_of(node)]
    inputs = [(f, i.shape) for f, i in zip(forms, rw.inputs_of(node)) if f is not None]
    if not inputs or len(inputs) < len(forms):
        return None
    (form, shape), rank = inputs[0], node.tensor.rank
    match node.op:
        case "add" | "sub" | "mul":
            return _combined(node, *(Affine(f.offset, _spread(f, rank)) for f, _ in inputs))
        case "expand":
            return Affine(form.offset, _spread(form, rank))
        case "permute":
            return Affine(form.offset, tuple(form.steps[a] for a in node["axes"]))
        case "cast" if node.dtype.bytes >= 4:
            return form
        case "reshape" if [s for s in shape if s != 1] == [s for s in node.shape if s != 1]:
            moving = iter(step for step, size in zip(form.steps, shape) if size != 1)
            return _still(form.offset, (next(moving) if s != 1 else 0 for s in node.shape), node)
    return None


def _still(offset: int, steps: Iterable[int], node: Node) -> Affine:
    return Affine(offset, tuple(s if n != 1 else 0 for s, n in zip(steps, node.shape)))


def _spread(form: Affine, rank: int) -> tuple[int, ...]:
    """Steps among values of a higher rank; an axis that is broadcast has none anyway."""
    return (0,) * (rank - len(form.steps)) + form.steps


def _combined(node: Node, a: Affine, b: Affine) -> Affine | None:
    if node.op == "mul":
        factor, form = (b, a) if not any(b.steps) else (a, b)
        if any(factor.steps):
            return None
        n = factor.offset
        return Affine(form.offset * n, tuple(s * n for s in form.steps))
    sign = 1 if node.op == "add" else -1
    steps = tuple(s + sign * t for s, t in zip(a.steps, b.steps))
    return Affine(a.offset + sign * b.offset, steps)


def _of_array(array: NDArray[Any]) -> Affine | None:
    if not array.size:
        return None
    first = int(array.flat[0])
    steps = tuple(
        int(array[tuple(int(k == axis) for k in range(array.ndim))]) - first if size > 1 else 0
        for axis, size in enumerate(array.shape)
    )
    expected: NDArray[Any] = np.array(first)
    places: tuple[NDArray[Any], ...] = np.indices(array.shape, sparse=True)
    for step, place in zip(steps, places):
        expected = expected + step * place
    return Affine(first, steps) if np.array_equal(np.asarray(array), expected) else None


def _strided(rw: Rewriter, m: Match) -> Node | None:
    """`take(x, a + Σ s * place)` -> `permute(reshape(slice(x, a : a + n)))`, where the steps are
    those of n elements that lie one after the other, in any order of axes"""
    x, axis, shape = m["x"], m.root["axis"], m["i"].shape
    form = affine(rw, m["i"])
    if form is None or form.offset < 0 or 0 in shape:
        return None
    order = sorted((k for k, s in enumerate(shape) if s != 1), key=lambda k: -form.steps[k])
    step = form.steps[order[-1]] if order else 1
    count = _count([shape[k] for k in order], [form.steps[k] for k in order])
    if count is None:
        return None
    length = (count - 1) * step + 1
    if not at_least(x.shape[axis] - form.offset - length, 0):
        return None
    stop = form.offset + length
    y = rw.add("slice", x, axis=axis, start=form.offset, stop=stop, step=step)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    y = rw.add("reshape", y, shape=(*before, *(shape[k] for k in order), *after))
    turned = [axis + order.index(k) for k in sorted(order)]
    behind = range(axis + len(order), y.tensor.rank)
    y = rw.add("permute", y, axes=(*range(axis), *turned, *behind))
    return rw.add("reshape", y, shape=m.root.shape)


def _count(sizes: Sequence[Size], steps: Sequence[int]) -> Size | None:
    """How many elements axes of these sizes and falling steps have; None where there are gaps."""
    try:
        count: Size = 1
        for size, step in zip(reversed(sizes), reversed(steps)):
            if step < 1 or step != steps[-1] * count:
                return None
            count = product((size, count))
    except UnsupportedError:  # not linear in the batch
        return None
    return count if not steps or steps[-1] == 1 or isinstance(count, int) else None


RULES: tuple[Rule, ...] = (rule("take(x, i)", _strided),)
