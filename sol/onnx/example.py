"""Numbers to call a model with, where nobody gives any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sol.arrays.captured import Array
from sol.arrays.signature import Input, inputs_text
from sol.core.errors import InputError


def example(model: Any, batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """Numbers for `model.inputs` (of a Session or Networks): normal ones, and 0 where they may be
    indices. Raises InputError if a size that is not the batch is open."""
    rng = np.random.default_rng(seed)
    found = {}
    for given in model.inputs:
        sizes = [
            batch if k == 0 and not isinstance(s, int) else s for k, s in enumerate(given.shape)
        ]
        shape = tuple(s for s in sizes if isinstance(s, int))
        if len(shape) < len(sizes):
            raise InputError(
                f"the sizes of {given} are open",
                expected="a model in which only the batch is open",
                do="call it with arrays from Python",
            )
        found[given.name] = _numbers(given, shape, rng)
    return found


def example_of(inputs: Sequence[Input], examples: Sequence[Any]) -> dict[str, Any]:
    """What a user gave as examples, by name: arrays as they are, numbers for sizes. Raises
    InputError for too many."""
    if len(examples) == 1 and isinstance(examples[0], Mapping):
        given = dict(examples[0])
    elif len(examples) <= len(inputs):
        given = dict(zip((i.name for i in inputs), examples))
    else:
        raise InputError(
            f"{len(examples)} examples", expected=f"{len(inputs)}: {inputs_text(inputs)}"
        )
    rng = np.random.default_rng(0)
    by_name = {i.name: i for i in inputs}
    return {
        name: _numbers(by_name[name], tuple(value), rng)
        if name in by_name and _is_shape(value)
        else value
        for name, value in given.items()
    }


def _numbers(given: Input, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if given.dtype.kind == "float":
        return rng.standard_normal(shape).astype(given.dtype.numpy)
    return np.zeros(shape, given.dtype.numpy)


def _is_shape(value: Any) -> bool:
    sizes = isinstance(value, (tuple, list))
    return sizes and all(type(size) is int and size >= 0 for size in value)
