"""The rest of a network, after a step whose results have sizes that only data tells.

It is a network of its own: its inputs are the values that it reads, all their sizes open. The
batch of that network is the first of them, so the number of boxes that a detection network finds
leads to one program, not to one for each number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from sol.core.errors import UnsupportedError
from sol.onnx.model import Model, Port
from sol.onnx.sequences import Sequence
from sol.onnx.splice import Item
from sol.onnx.types import elem_of
from sol.onnx.values import Array, Value, is_symbolic


@dataclass(frozen=True)
class Rest:
    """Called with the values of `inputs`: the values of `results`."""

    model: Model
    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    known: Mapping[str, Value | Sequence]
    results: tuple[str, ...]
    networks: dict[Any, Any] = field(default_factory=dict)  # by ranks and types of the inputs
    _lock: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if any(isinstance(v, np.ndarray) and is_symbolic(v) for v in self.known.values()):
            raise UnsupportedError("the rest of the network", "sizes depend on the batch size B")

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The results for these arrays."""
        key = tuple((a.ndim, a.dtype.name) for a in arrays)
        with self._lock:
            if key not in self.networks:
                self.networks[key] = self._networks(arrays)
        found = self.networks[key](dict(zip(self.inputs, arrays)))
        return tuple(found[name] for name in self.results)

    def _networks(self, arrays: tuple[Array, ...]) -> Any:
        from sol.onnx.networks import Networks  # it reads with what reads this

        ports = tuple(
            Port(name, elem_of(a.dtype), (None,) * a.ndim) for name, a in zip(self.inputs, arrays)
        )
        model = replace(self.model, inputs=ports, name=f"the rest of {self.model.name}")
        return Networks(model, self.items, self.known, self.results)
