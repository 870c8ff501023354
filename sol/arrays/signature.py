"""The inputs of a model, and what a call gives for them: types with the batch open, and the batch.

The batch, B, is the size that stands open first, or, for models that cannot be read so, the one
behind it: sequences often have time in front. Sizes of the same name are the same size; other
inputs whose first size is open and happens to be the batch follow it, too. All other sizes of a
call are fixed in its types, so each of them leads to a program of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dims import B, Dim, Size, concrete
from sol.core.dtypes import DTYPES, DType
from sol.core.errors import InputError
from sol.ir.graph import TensorType

Array = NDArray[Any]
Types = Mapping[str, TensorType]
Open = int | str | None
"""A size of an input: a number, the name of an open size, or None for an open one without a name"""
Place = tuple["Input", int]
"""An axis of an input"""


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model. Equal names in shapes are equal sizes."""

    name: str
    dtype: DType
    shape: tuple[Open, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if s is None else str(s) for s in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Signature:
    """Types of the inputs of a call, in order; B stands for the batch where there is one."""

    types: tuple[tuple[str, TensorType], ...]

    @property
    def symbolic(self) -> bool:
        """Whether the batch is open."""
        return any(isinstance(size, Dim) for _, t in self.types for size in t.shape)

    def at(self, batch: int) -> Signature:
        """The same with the batch fixed."""
        fixed = ((name, TensorType(concrete(t.shape, batch), t.dtype)) for name, t in self.types)
        return Signature(tuple(fixed))

    def __str__(self) -> str:
        return ", ".join(f"{name}: {type}" for name, type in self.types)


def checked(inputs: Sequence[Input], arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a call by the name of the input: contiguous, of the types of the inputs.

    Raises InputError for names, element types, ranks and sizes that do not fit.
    """
    names = [i.name for i in inputs]
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"the inputs are a {type(arrays).__name__}",
            expected=f"a dict of arrays by name: {inputs_text(inputs)}",
        )
    missing = [n for n in names if n not in arrays]
    unknown = [n for n in arrays if n not in names]
    if missing or unknown:
        parts = [f"no array for {', '.join(missing)}"] if missing else []
        parts += [f"no input is called {', '.join(map(str, unknown))}"] if unknown else []
        raise InputError(
            "; ".join(parts),
            expected="; ".join(map(str, inputs)) or "no inputs",
            do="give an array for each input, by its name",
        )
    found = {i.name: _array(i, arrays[i.name]) for i in inputs}
    _check_names(inputs, found)
    return found


def _array(wanted: Input, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.name != wanted.dtype.numpy:
        raise InputError(
            f"{wanted.name} is an array of {array.dtype}",
            expected=str(wanted),
            do=f'convert it: array.astype("{wanted.dtype.numpy}")',
        )
    fits = array.ndim == len(wanted.shape)
    fits = fits and all(a == s for a, s in zip(array.shape, wanted.shape) if isinstance(s, int))
    if not fits:
        raise InputError(f"{wanted.name} has the shape {array.shape}", expected=str(wanted))
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.require(native, requirements=["C", "A"]).reshape(array.shape)


def _check_names(inputs: Sequence[Input], arrays: Mapping[str, Array]) -> None:
    """Sizes of one name are one number."""
    known: dict[str, tuple[int, str]] = {}
    for wanted in inputs:
        for name, size in zip(wanted.shape, arrays[wanted.name].shape):
            if not isinstance(name, str):
                continue
            first, where = known.setdefault(name, (size, wanted.name))
            if size != first:
                raise InputError(
                    f"the size {name} is {first} in {where}, and {size} in {wanted.name}",
                    expected=f"{inputs_text(inputs)}, with one number for {name}",
                )


def inputs_text(inputs: Sequence[Input]) -> str:
    """All inputs in one line."""
    return "; ".join(map(str, inputs))


def signature_of(
    inputs: Sequence[Input], arrays: Mapping[str, Array], place: Place | None = None
) -> tuple[Signature, int]:
    """The signature of checked arrays, and the batch; 1 if no size is open. place: where the batch
    stands, if not where it is likely."""
    place = place or next(iter(batch_places(inputs)), None)
    batch = arrays[place[0].name].shape[place[1]] if place else 1
    types = ((i.name, _type(i, arrays[i.name], place, batch)) for i in inputs)
    return Signature(tuple(types)), batch


def batch_places(inputs: Sequence[Input]) -> list[Place]:
    """Where the batch may stand, the likelier place first; none if all sizes are fixed."""
    for wanted in inputs:
        for axis, size in enumerate(wanted.shape):
            if isinstance(size, int):
                continue
            behind = wanted.shape[axis + 1 : axis + 2]
            second = [(wanted, 1) for s in behind if axis == 0 and not isinstance(s, int)]
            return [(wanted, axis), *(p for p in second if behind != (size,) or size is None)]
    return []


def _type(wanted: Input, array: Array, place: Place | None, batch: int) -> TensorType:
    def size(axis: int) -> Size:
        actual: int = array.shape[axis]
        known = wanted.shape[axis]
        if place is None or isinstance(known, int):
            return actual
        first = place[0].shape[place[1]]
        named = known is not None and known == first
        own = wanted is place[0]
        chosen = own and axis == place[1]
        leading = axis == 0 and actual == batch and not own
        return B if named or chosen or leading else actual

    return TensorType(tuple(map(size, range(array.ndim))), wanted.dtype)


def input_of(name: str, array: Array, shape: tuple[Open, ...] | None = None) -> Input:
    """The input that an array is an example of; all its sizes fixed, unless a shape is given."""
    known = next((t for t in DTYPES.values() if t.numpy == array.dtype.name), None)
    if known is None:
        raise InputError(
            f"{name} is an array of {array.dtype}",
            expected=", ".join(t.numpy for t in DTYPES.values()),
        )
    return Input(name, known, array.shape if shape is None else shape)
