"""What the type rules of operators share: checks that explain themselves, broadcasting, windows.

Every check raises with the operator's name, what came and what was expected. Sizes may be symbolic
(`Dim`): rules compute with them, and what is not linear in the batch raises by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.dims import Dim, Shape, Size
from sol.core.dtypes import DType
from sol.core.errors import InputError, UnsupportedError
from sol.ir.expr import at_least
from sol.ir.graph import TensorType


def need(condition: bool, op: str, what: str, expected: str, do: str = "") -> None:
    """InputError unless the condition holds."""
    if not condition:
        raise InputError(f"{op}: {what}", expected=expected, do=do)


def need_axis(op: str, axis: int, rank: int) -> None:
    """An axis is a non-negative number below the rank."""
    need(
        isinstance(axis, int) and 0 <= axis < rank,
        op,
        f"axis {axis} of a value with {rank} axes",
        f"0 <= axis < {rank}",
        "count axes from the front: axis + rank for a negative one",
    )


def need_axes(op: str, axes: Sequence[int], rank: int) -> None:
    """Axes are distinct and within the rank."""
    for axis in axes:
        need_axis(op, axis, rank)
    need(len(set(axes)) == len(axes), op, f"axes {tuple(axes)}", "each axis at most once")


def need_rank(op: str, x: TensorType, *ranks: int) -> None:
    """The rank of x is one of these."""
    known = " or ".join(map(str, ranks))
    need(x.rank in ranks, op, f"an input {x} with {x.rank} axes", f"{known} axes")


def need_kind(op: str, x: TensorType, *kinds: str) -> None:
    """The element type of x is of one of these kinds: "float", "int", "bool"."""
    if x.dtype.kind not in kinds:
        raise UnsupportedError(op, f"an input of {x.dtype}", expected=f"{' or '.join(kinds)} input")


def need_length(op: str, name: str, values: Sequence[object], length: int) -> None:
    """A tuple attribute has as many entries as expected."""
    need(len(values) == length, op, f"{name}={tuple(values)}", f"{length} numbers")


def need_positive(op: str, name: str, values: Sequence[int]) -> None:
    """All entries of an attribute are at least 1."""
    need(all(v >= 1 for v in values), op, f"{name}={tuple(values)}", "numbers of at least 1")


def need_shape(op: str, name: str, x: TensorType, shape: Shape) -> None:
    """x has exactly this shape."""
    wanted = f"shape [{', '.join(map(str, shape))}]"
    need(x.shape == tuple(shape), op, f"{name} is {x}", wanted)


def need_number(op: str, name: str, size: Size) -> int:
    """A size as a number; UnsupportedError where it depends on the batch."""
    if isinstance(size, Dim):
        raise UnsupportedError(
            op, f"{name} is {size}, which depends on the batch size B",
            do="capture the network for one batch size",
        )  # fmt: skip
    return size


def numbers(op: str, name: str, sizes: Sequence[Size]) -> tuple[int, ...]:
    """Sizes as numbers; UnsupportedError where one depends on the batch."""
    return tuple(need_number(op, name, s) for s in sizes)


def broadcast(op: str, *shapes: Shape) -> Shape:
    """The shape that NumPy's broadcasting gives."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    result: list[Size] = []
    for sizes in zip(*padded):
        larger = {s for s in sizes if s != 1}
        if len(larger) > 1:
            what = f"shapes {' and '.join(map(show_shape, shapes))} do not broadcast"
            expected = "sizes that are equal or 1, aligned at the last axis"
            if any(isinstance(s, Dim) for s in larger):  # they may, for one batch size
                raise UnsupportedError(op, what, expected=expected)
            raise InputError(f"{op}: {what}", expected=expected)
        result.append(larger.pop() if larger else 1)
    return tuple(result)


def sliced(op: str, extent: Size, start: Size, stop: Size, step: int) -> Size:
    """How many elements start:stop:step has of an axis of `extent` elements."""
    need_positive(op, "step", (step,))
    fits = at_least(start, 0) and at_least(stop - start, 0) and at_least(extent - stop, 0)
    what = f"{start}:{stop}:{step} of an axis of size {extent}"
    need(fits, op, what, f"0 <= start <= stop <= {extent}")
    return stop - start if step == 1 else -(-need_number(op, "length", stop - start) // step)


def broadcasts_to(shape: Shape, target: Shape) -> bool:
    """Whether NumPy's broadcasting makes `target` of `shape`."""
    tail = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(s in (1, to) for s, to in zip(shape, tail))


def show_shape(shape: Shape) -> str:
    """A shape as text, [B, 3, 7]."""
    return f"[{', '.join(map(str, shape))}]"


def without(shape: Shape, axes: Sequence[int]) -> Shape:
    """A shape without some axes."""
    return tuple(s for k, s in enumerate(shape) if k not in axes)


def replaced(shape: Shape, axis: int, size: Size) -> Shape:
    """A shape with another size at one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def reduced(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """A shape after a reduction over axes."""
    if keepdims:
        return tuple(1 if k in axes else s for k, s in enumerate(shape))
    return without(shape, axes)


def of(x: TensorType, shape: Sequence[Size], dtype: DType | None = None) -> TensorType:
    """The type of x with another shape, and maybe another dtype."""
    return TensorType(tuple(shape), dtype or x.dtype)
