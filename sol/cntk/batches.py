"""What a call of a CNTK model is given, as arrays of equal sequences; and results put together.

CNTK's users pass an array with the batch first, or a list of one array for each image; sequences of
different length are such a list. Here they are sorted by length: sequences of one length are
computed together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.cntk.model import Sizes, Variable
from sol.core.errors import InputError

Array = NDArray[Any]
Samples = list[Array]


@dataclass(frozen=True)
class Group:
    """Images with sequences of equal lengths: which they are in the call, and their arrays."""

    places: tuple[int, ...]
    arrays: Mapping[str, Array]


def groups(inputs: Sequence[tuple[str, Variable]], given: Mapping[str, Any]) -> list[Group]:
    """The images of a call, sorted by the lengths of their sequences. Raises InputError for what
    fits no input, or is given for another number of images than the rest."""
    samples = {name: images(name, v, given[name]) for name, v in inputs if v.axes}
    fixed = {name: _array(name, v, given[name]) for name, v in inputs if not v.axes}
    counts = {name: len(s) for name, s in samples.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            "inputs have different numbers of images: "
            + ", ".join(f"{name} {count}" for name, count in counts.items()),
            expected="one value of each input for each image",
        )
    if not samples:
        return [Group((), fixed)]
    count = next(iter(counts.values()))
    if count == 0:
        raise InputError("there are no images", expected="at least one")
    members: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place in range(count):
        key = tuple(s[place].shape for s in samples.values())
        members.setdefault(key, []).append(place)
    return [
        Group(tuple(p), fixed | {name: np.stack([s[k] for k in p]) for name, s in samples.items()})
        for p in members.values()
    ]


def images(name: str, variable: Variable, value: Any) -> Samples:
    """One array for each image: [static axes], or [steps, static axes] for a sequence."""
    rank = len(variable.shape) + variable.is_sequence
    if isinstance(value, (list, tuple)) and not all(map(_is_number, value)):
        parts = [_array(name, variable, v) for v in value]
        if parts and all(p.ndim == rank for p in parts):
            return [_checked(name, variable, p) for p in parts]
        if any(p.shape != parts[0].shape for p in parts):
            raise _wrong(name, variable, f"a list of {[p.shape for p in parts][:4]}")
        value = np.stack(parts) if parts else np.zeros((0, *(s or 0 for s in variable.shape)))
    array = _array(name, variable, value)
    steps = int(variable.is_sequence)
    whole = array
    if array.ndim == rank:  # one image, without the axis of images
        whole = array[None]
    elif array.ndim == rank + 2 and not steps and array.shape[1] == 1:
        whole = array[:, 0]  # sequences of one step
    if whole.ndim != rank + 1 or not _fits(variable, whole.shape[1 + steps :]):
        raise _wrong(name, variable, f"{array.dtype}{list(array.shape)}")
    return [_checked(name, variable, a) for a in whole]


def _fits(variable: Variable, sizes: tuple[int, ...]) -> bool:
    return all(wanted in (None, size) for wanted, size in zip(variable.shape, sizes))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _array(name: str, variable: Variable, value: Any) -> Array:
    """A value as numbers of the input's type; what SciPy calls a sparse matrix is filled up."""
    value = value.toarray() if hasattr(value, "toarray") else value
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"numbers of the type {array.dtype}")
        return array.astype(variable.dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise _wrong(name, variable, f"no array: {error}") from None


def _checked(name: str, variable: Variable, array: Array) -> Array:
    if not _fits(variable, array.shape[1:] if variable.is_sequence else array.shape):
        raise _wrong(name, variable, f"{array.dtype}{list(array.shape)}")
    if variable.is_sequence and array.shape[0] == 0:
        raise _wrong(name, variable, "a sequence without steps")
    return array


def _wrong(name: str, variable: Variable, came: str) -> InputError:
    return InputError(f"{name} is {came}", expected=expected(variable))


def expected(variable: Variable) -> str:
    """What an input takes, in words."""
    static = _sizes(variable.shape)
    if variable.is_sequence:
        return (
            f"a list of {variable.dtype} arrays [steps{static}], one for each image, or one array "
            f"[images, steps{static}]"
        )
    lead = "images" if variable.axes else ""
    return f"a {variable.dtype} array [{(lead + static).removeprefix(', ')}]"


def _sizes(shape: Sizes) -> str:
    return "".join(f", {'?' if s is None else s}" for s in shape)


def differ(
    found: Sequence[tuple[Group, Mapping[str, Array]]], name: str, axes: tuple[str, ...]
) -> bool:
    """Whether static sizes of a result differ from group to group."""
    return len({results[name].shape[len(axes) :] for _, results in found}) > 1


def together(
    found: Sequence[tuple[Group, Mapping[str, Array]]], name: str, axes: tuple[str, ...]
) -> Any:
    """A result of all groups: an array, or for sequences a list of one for each image, as CNTK
    hands them out."""
    if not axes:
        return found[0][1][name]
    if len(axes) == 1 and len(found) == 1:
        return found[0][1][name]
    count = sum(len(group.places) for group, _ in found)
    parts: list[Any] = [None] * count
    for group, results in found:
        for place, part in zip(group.places, results[name]):
            parts[place] = part
    if len(axes) == 2:
        return parts
    return np.stack(parts)
