"""A pair of programs within TensorFlow's gradients: called eagerly, or an operation of a graph.

`connected` runs the forward program; tapes call the backward program later. Between both, tensors
lie where Sol has written them: eagerly handed over through DLPack, in a graph by `numpy_function`,
neither of which copies what begins at a cache line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sol.core.dims import Dim
from sol.core.errors import InputError, UnsupportedError
from sol.ir.graph import Node
from sol.training import Pair

Array = NDArray[Any]
_LINE = 64  # bytes that TensorFlow wants memory to be aligned to
_TWICE = "Sol computes no gradients of gradients"
_STRIDE = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: calls start far from each other


@dataclass(frozen=True)
class Connection:
    """What both directions of a call need to know.

    inputs: how many tensors of a call are inputs; the others are parameters, by `keys`. constants:
    parameters that never change. batch_of: the input whose first size is the batch, -1 without one.
    seeds: the inputs that come from generators of random numbers. names: of tensors, as values.
    complete: the same, for gradients of all that is real, made when it is needed.
    """

    pair: Pair
    inputs: int
    keys: tuple[str, ...]
    constants: Mapping[str, Array]
    batch_of: int
    seeds: frozenset[int]
    names: tuple[str, ...]
    threads: Callable[[], int]
    complete: Callable[[], Connection]

    def forward(self, *given: Any) -> list[Array]:
        """Results and what is kept, for inputs and parameters."""
        results, kept = self.pair.forward(*self._sorted(given))
        return [*results, *kept]

    def backward(self, *given: Any) -> list[Array]:
        """Gradients of what wants them, for inputs, parameters, results, what is kept and gradients
        of real results."""
        made = len(self.pair.halves.forward.outputs)
        count = self.inputs + len(self.keys)
        inputs, parameters, batch, threads = self._sorted(given[:count])
        outputs = [np.asarray(a) for a in given[count : count + made]]
        gradients = self._by_result(given[count + made :])
        found = self.pair.backward([*inputs, *outputs], gradients, parameters, batch, threads)
        return [found[name] for name in self.wanted]

    def again(self, wanted: Sequence[int], *given: Any) -> list[Array]:
        """Gradients of some tensors of a call, for inputs, parameters and gradients of real
        results: everything is computed once more."""
        whole = self.complete()
        count = self.inputs + len(self.keys)
        inputs, parameters, batch, threads = whole._sorted(given[:count])
        results, kept = whole.pair.forward(inputs, parameters, batch, threads)
        known = [*inputs, *results, *kept]
        gradients = whole._by_result(given[count:])
        found = whole.pair.backward(known, gradients, parameters, batch, threads)
        return [found.get(self.names[n], np.zeros_like(given[n])) for n in wanted]

    def _by_result(self, gradients: Sequence[Any]) -> list[Array | None]:
        given = iter(gradients)
        return [np.asarray(next(given)) if _is_real(r) else None for r in self.results]

    @property
    def results(self) -> list[Node]:
        """The results of the forward program."""
        graph = self.pair.halves.forward
        return [graph[o] for o in graph.outputs[: self.pair.halves.results]]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The values that get gradients, in the order of `backward`."""
        halves = self.pair.halves
        return tuple(name for name, n in zip(halves.wanted, halves.gradients) if n >= 0)

    def _sorted(self, given: Sequence[Any]) -> tuple[list[Array], dict[str, Array], int, int]:
        arrays = [np.asarray(a) for a in given]
        inputs = [
            _as_seed(a) if n in self.seeds else a for n, a in enumerate(arrays[: self.inputs])
        ]
        parameters = {**self.constants, **dict(zip(self.keys, arrays[self.inputs :]))}
        batch = 1 if self.batch_of < 0 else len(inputs[self.batch_of])
        if batch == 0:
            raise InputError("a batch without images", expected="at least one")
        return inputs, parameters, batch, self.threads()


def connected(call: Connection, tensors: Sequence[Any]) -> list[Any]:
    """The results of the forward program, with a gradient."""
    halves = call.pair.halves
    outputs = [halves.forward[o] for o in halves.forward.outputs]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*given: Any) -> Any:
        made = _applied(call.forward, given, outputs)
        results, kept = made[: halves.results], made[halves.results :]

        def gradient(*upstream: Any) -> Any:
            return _gradients(call, given, results, kept, upstream)

        return results, gradient

    return _listed(run(*tensors))


def _gradients(
    call: Connection,
    given: Sequence[Any],
    results: Sequence[Any],
    kept: Sequence[Any],
    upstream: Sequence[Any],
) -> list[Any]:
    """A gradient, or None, for each tensor of a call."""
    halves = call.pair.halves
    seeds = [
        tf.zeros_like(r) if g is None else tf.convert_to_tensor(g)
        for g, r, node in zip(upstream, results, call.results)
        if _is_real(node)
    ]
    nodes = [halves.backward[halves.backward.outputs[n]] for n in halves.gradients if n >= 0]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*known: Any) -> Any:
        made = _applied(call.backward, known, nodes)
        return made, lambda *_: [_never(k) for k in known]

    found = _listed(run(*given, *results, *kept, *seeds)) if nodes else []
    by_name = dict(zip(call.wanted, found)) | _unwatched(call, given, seeds)
    return [by_name.get(name) for name in call.names]


def _unwatched(call: Connection, given: Sequence[Any], seeds: Sequence[Any]) -> dict[str, Any]:
    """Gradients of what no tape watched when the network was called. In a graph somebody may ask
    for them from outside, so there is an operation for that; if nobody does, it does not run."""
    wanted = set(call.pair.halves.wanted)
    missing = [
        n
        for n, (name, t) in enumerate(zip(call.names, given))
        if t.dtype.is_floating and name not in wanted
    ]
    if tf.executing_eagerly() or not missing:
        return {}

    def again(*known: Any) -> list[Array]:
        return call.again(missing, *known)

    types = [given[n].dtype for n in missing]
    found = _listed(tf.numpy_function(again, [*given, *seeds], types, stateful=False))
    for tensor, n in zip(found, missing):
        tensor.set_shape(given[n].shape)
    return {call.names[n]: tensor for tensor, n in zip(found, missing)}


def _never(like: Any) -> Any:
    """A gradient of a gradient: in a graph an operation that fails if it runs."""
    error = UnsupportedError("the gradient", _TWICE, do="use the original: model.sol.original")
    if tf.executing_eagerly():
        raise error
    if not like.dtype.is_floating:
        return None

    def fail() -> Any:
        raise error

    made = tf.numpy_function(fail, [], like.dtype, stateful=False)
    made.set_shape(like.shape)
    return made


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _is_real(node: Node) -> bool:
    return node.dtype.kind == "float"


def _applied(
    function: Callable[..., list[Array]], tensors: Sequence[Any], nodes: Sequence[Node]
) -> list[Any]:
    """The results of a function of arrays for tensors, as tensors of the types of nodes."""
    if tf.executing_eagerly():
        return [as_tensor(a) for a in function(*map(as_array, tensors))]
    types = [n.dtype.numpy for n in nodes]
    found = _listed(tf.numpy_function(function, list(tensors), types))
    for tensor, node in zip(found, nodes, strict=True):
        tensor.set_shape([None if isinstance(s, Dim) else s for s in node.shape])
    return found


def as_array(tensor: Any) -> Array:
    """A tensor as an array on its memory."""
    return np.asarray(memoryview(tensor))


def as_tensor(array: Array) -> Any:
    """An array as a tensor, on its memory if TensorFlow can use that."""
    fits = array.size and array.ctypes.data % _LINE == 0 and array.flags.c_contiguous
    if not fits or not array.flags.writeable:
        return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _as_seed(pair: Array) -> Array:
    """What a generator of Keras gives, a seed and how often it was asked, as one number."""
    first, second = (int(n) for n in pair)
    mixed = (first + second * _STRIDE) % (1 << 64)
    return np.array([mixed], np.uint64).view(np.int64)
