"""Numbers to call a model with, where nobody gives any."""

from __future__ import annotations

from typing import Any

import numpy as np

from sol.arrays.captured import Array
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
        if given.dtype.kind == "float":
            found[given.name] = rng.standard_normal(shape).astype(given.dtype.numpy)
        else:
            found[given.name] = np.zeros(shape, given.dtype.numpy)
    return found
