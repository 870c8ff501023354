"""Networks of one model: one for each value of the inputs that decide about sizes.

The shape that a Reshape gets, the axes of a reduction, the number of a TopK: where such a value is
an input of the model, it belongs to what a program is made for. Which inputs these are turns out
while the model is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from threading import RLock
from typing import Any

import numpy as np

from sol.arrays.captured import Captured
from sol.arrays.network import Entry, Network
from sol.arrays.program import Progress
from sol.arrays.signature import Input, Types, checked
from sol.onnx.model import Model, sound
from sol.onnx.read import Reader
from sol.onnx.sequences import Sequence
from sol.onnx.splice import Item, items_of
from sol.onnx.values import Array, NeedsValueError, Value
from sol.options import DEFAULTS, Options
from sol.report.text import WIDTH

_MOST_NETWORKS = 16
Key = tuple[tuple[str, tuple[int, ...], bytes], ...]


class Networks:
    """The nodes of a model, called with arrays for its inputs; thread-safe.

    known: values that other nodes of the model have left. results: names of values to return.
    """

    def __init__(
        self,
        model: Model,
        items: tuple[Item, ...] | None = None,
        known: Mapping[str, Value | Sequence] | None = None,
        results: Iterable[str] | None = None,
        options: Options = DEFAULTS,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.inputs: tuple[Input, ...] = model.network_inputs
        self.outputs = tuple(p.name for p in model.outputs) if results is None else tuple(results)
        self.options = options
        self._items = items
        self._known = dict(known or {})
        self._progress = progress
        self._deciding: tuple[str, ...] = ()
        self._networks: OrderedDict[Key, Network] = OrderedDict()
        self._lock = RLock()

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Array]:
        """The results by name."""
        given = checked(self.inputs, arrays)
        while True:
            network, rest = self._network(given)
            try:
                return network(rest)
            except NeedsValueError as error:
                self._decides(error)

    def prepare(self, arrays: Mapping[str, Any]) -> Entry:
        """Make the program for calls like this one."""
        given = checked(self.inputs, arrays)
        while True:
            network, rest = self._network(given)
            try:
                return network.prepare(rest)
            except NeedsValueError as error:
                self._decides(error)

    @property
    def networks(self) -> tuple[Network, ...]:
        """What there is, the one used last at the end."""
        with self._lock:
            return tuple(self._networks.values())

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every program of every network."""
        if not self.networks:
            return f"{self.model.name}: nothing was read yet: Sol reads the model at its first call"
        return "\n".join(n.explain(roofline, width) for n in reversed(self.networks))

    def _decides(self, error: NeedsValueError) -> None:
        with self._lock:
            names = [i.name for i in self.inputs]
            if error.value not in names:
                raise error
            if error.value not in self._deciding:
                self._deciding = (*self._deciding, error.value)
                self._networks.clear()

    def _network(self, given: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
        """The network for the values of deciding inputs, and the other inputs."""
        with self._lock:
            deciding = {name: given[name] for name in self._deciding}
            key: Key = tuple((n, a.shape, a.tobytes()) for n, a in deciding.items())
            if key not in self._networks:
                self._networks[key] = self._made({n: a.copy() for n, a in deciding.items()})
            self._networks.move_to_end(key)
            while len(self._networks) > _MOST_NETWORKS:
                self._networks.popitem(last=False)
            rest = {name: a for name, a in given.items() if name not in deciding}
            return self._networks[key], rest

    def _made(self, deciding: dict[str, Array]) -> Network:
        ports = tuple(p for p in self.model.inputs if p.name not in deciding)
        model = replace(self.model, inputs=ports, weights={**self.model.weights, **deciding})

        def read(types: Types) -> Captured:
            reader = Reader(model, types)
            for name, value in self._known.items():
                if name not in model.weights:
                    reader.put(name, value)
            with sound(model.name):
                own = items_of(model.graph.node, model.opsets) if self._items is None else ()
            return reader.captured(self._items or own, self.outputs)

        name = self.model.name
        if deciding:
            shown = (f"{n}={np.array2string(a, threshold=8)}" for n, a in deciding.items())
            name += f" with {', '.join(shown)}"
        return Network(model.network_inputs, self.outputs, read, self.options, name, self._progress)
