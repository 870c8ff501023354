"""A network of MXNet by Sol, called with arrays: what `optimize` makes of files and symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.arrays.captured import Captured
from sol.arrays.explain import Report
from sol.arrays.judge import Judge
from sol.arrays.network import Network
from sol.arrays.program import Progress
from sol.arrays.signature import Input, Types, input_of
from sol.core.dims import B, Dim, Size, concrete
from sol.core.errors import InputError, SolError
from sol.ir.graph import TensorType
from sol.mxnet.framework import copied, handed_back, is_array, viewed
from sol.mxnet.original import Original
from sol.mxnet.symbol import SymbolGraph
from sol.mxnet.translate import inputs_of, read
from sol.options import DEFAULTS, Options

Array = NDArray[Any]


class Model:
    """A network of MXNet by Sol. Calls may come from many threads.

        y = model(x)                 # arrays in the order of `inputs`, or by name
        y, z = model(data=x)         # several results

    NumPy arrays give NumPy arrays, NDArrays give NDArrays. declared: the inputs whose shapes are
    known; the others are read off the first call. original: the network in MXNet, to measure.
    """

    def __init__(
        self,
        graph: SymbolGraph,
        parameters: Mapping[str, Array],
        declared: Mapping[str, Input],
        options: Options = DEFAULTS,
        name: str = "the network",
        progress: Progress | None = None,
        original: Original | None = None,
    ) -> None:
        self.inputs = tuple(n.name for n in inputs_of(graph, parameters))
        self.outputs = graph.outputs
        self._graph = graph
        self._parameters = dict(parameters)
        self._declared = dict(declared)
        self._make = partial(Network, options=options, name=name, progress=progress)
        self._original = original
        self.judge = Judge("MXNet")
        self._networks: dict[tuple[Input, ...], Network] = {}
        self._lock = Lock()

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The result, or a list of several. Raises InputError if arrays do not fit."""
        given = self._named(arrays, named)
        seen = {k: _numpy(v) for k, v in given.items()}
        if self._original is not None and self.judge.why_not(*_kind(seen)):
            results = self._original(seen)
        else:
            results = list(self._network(given)(seen).values())
        like = next((v for v in given.values() if is_array(v)), None)
        found = [handed_back(y, like) if like is not None else y for y in results]
        return found[0] if len(found) == 1 else found

    def prepare(self, *arrays: Any, **named: Any) -> None:
        """Make the program for calls like this one."""
        given = self._named(arrays, named)
        self._network(given).prepare({k: _numpy(v) for k, v in given.items()})

    def measure(self, *arrays: Any, **named: Any) -> None:
        """Time Sol and MXNet on a call, in turn; the faster one takes such calls from then on. It
        does nothing where the process has no MXNet."""
        original, given = self._original, self._named(arrays, named)
        if original is None:
            return
        seen = {k: _numpy(v) for k, v in given.items()}
        network = self._network(given)
        self.judge.measure(*_kind(seen), lambda: network(seen), lambda: original(seen))

    def check(self) -> None:
        """Read the network for its declared inputs, if these are all; raises what is wrong."""
        inputs = self._complete({})
        types = _types(inputs)
        if len(inputs) < len(self.inputs) or types is None:
            return
        try:
            self._read(inputs, types)
        except SolError:
            one = {k: TensorType(concrete(t.shape, 1), t.dtype) for k, t in types.items()}
            self._read(inputs, one)

    def update(self, parameters: Mapping[str, Any]) -> None:
        """Use these values of parameters from the next call on."""
        changed = {k: copied(v) for k, v in parameters.items() if k in self._parameters}
        with self._lock:
            self._parameters.update(changed)
            networks = list(self._networks.values())
        if self._original is not None:
            self._original.update(changed)
        for network in networks:
            network.update(changed)

    def explain(self, roofline: bool = False, width: int = 100) -> str:
        """Every cluster of every program: layers, how they are computed and why, time."""
        found = [n.explain(roofline, width) for n in self._networks.values()]
        found += self.judge.lines(width)
        return "\n".join(found) or "nothing was read yet: Sol reads the model at its first call"

    @property
    def reports(self) -> tuple[Report, ...]:
        """What `explain` says, as data and without times."""
        return tuple(n.report for n in self._networks.values())

    # ---- networks

    def _named(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if len(arrays) > len(self.inputs):
            raise InputError(
                f"{len(arrays)} arrays", expected=f"{len(self.inputs)}: {', '.join(self.inputs)}"
            )
        given = dict(zip(self.inputs, arrays))
        twice = [k for k in named if k in given]
        if twice:
            raise InputError(f"{twice[0]} is given by position and by name", expected="once")
        return given | dict(named)

    def _network(self, given: Mapping[str, Any]) -> Network:
        inputs = self._complete(given)
        with self._lock:
            if inputs not in self._networks:
                self._networks[inputs] = self._made(inputs)
            return self._networks[inputs]

    def _complete(self, given: Mapping[str, Any]) -> tuple[Input, ...]:
        """What is known of each input, or else read off an array: all its sizes may change."""
        found = []
        for name in self.inputs:
            if name in self._declared:
                found.append(self._declared[name])
            elif name in given:
                array = _numpy(given[name])
                found.append(input_of(name, array, (None,) * array.ndim))
        return tuple(found)

    def _made(self, inputs: tuple[Input, ...]) -> Network:
        return self._make(inputs, self.outputs, partial(self._read, inputs))

    def _read(self, inputs: tuple[Input, ...], types: Types) -> Captured:
        return read(self._graph, types, self._parameters, _open_size(inputs, types))


def _types(inputs: tuple[Input, ...]) -> Types | None:
    """The types of inputs with the batch open; None if another size stands open, too."""
    sizes = [size for i in inputs for size in i.shape if not isinstance(size, int)]
    leading = [i.shape[0] for i in inputs if i.shape and not isinstance(i.shape[0], int)]
    if len(sizes) > len(leading) and len(set(sizes)) > 1:
        return None
    if None in sizes and len(sizes) > len(leading):
        return None
    return {
        i.name: TensorType(tuple(s if isinstance(s, int) else B for s in i.shape), i.dtype)
        for i in inputs
    }


def _open_size(inputs: tuple[Input, ...], types: Types) -> Size | None:
    """The size that stands open first: the batch, or the number that it is in a call."""
    for wanted in inputs:
        for declared, size in zip(wanted.shape, types[wanted.name].shape):
            if not isinstance(declared, int) or isinstance(size, Dim):
                return size
    return None


def _kind(arrays: Mapping[str, Array]) -> tuple[Any, int]:
    """The kind of a call, and its batch."""
    kinds = tuple((k, v.dtype.str, v.shape[1:]) for k, v in arrays.items())
    return kinds, next((v.shape[0] for v in arrays.values() if v.ndim), 1)


def _numpy(value: Any) -> Array:
    return viewed(value) if is_array(value) else np.asarray(value)
