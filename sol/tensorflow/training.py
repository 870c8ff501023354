"""Training of models of Keras: programs for the forward and the backward computation.

A model is read for training once for each set of layers that train, and differentiated for each set
of tensors that want gradients. Variables are inputs of the operation, so gradients reach them and
assignments are seen; what batch normalisation keeps is assigned after the call, and generators of
random numbers move on as in Keras. A model is trained as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock
from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers as k
from tensorflow.python.eager import record

from sol.arrays.captured import pruned
from sol.arrays.explain import ProgramReport
from sol.arrays.program import Progress
from sol.core.dims import B
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Graph, Node, TensorType
from sol.ir.same import same
from sol.options import Options
from sol.report.explain import explain
from sol.report.text import WIDTH
from sol.runtime.threads import count
from sol.tensorflow.context import Reading, dtype_of
from sol.tensorflow.gradients import Connection, connected
from sol.tensorflow.models import as_nodes, graph_of, layers_of, packed, read_model
from sol.tensorflow.training_race import TrainingRace
from sol.tensorflow.variables import Variables
from sol.training import Pair
from sol.tune import recall

Types = tuple[TensorType, ...]
_MEMORY = "a memory budget does not count what training keeps"


@dataclass(frozen=True)
class Network:
    """A model, read for training.

    inputs: of the graph, the place among the tensors of a call, or the generator of a seed.
    results: of the model, their places among the graph's. updates: variables with the places of
    their new values. variables, constants: parameters by key. single: whether one image is computed
    by the same graph.
    """

    graph: Graph
    inputs: tuple[Any, ...]
    results: tuple[int, ...]
    updates: tuple[tuple[Any, int], ...]
    variables: dict[str, Any]
    constants: dict[str, Any]
    single: bool = True
    pairs: dict[frozenset[str], Pair] = field(default_factory=dict)

    @property
    def parameters(self) -> list[Node]:
        """The nodes of the variables, in their order."""
        by_key = {n["key"]: n for n in self.graph.parameters}
        return [by_key[key] for key in self.variables]

    def held(self, wanted: frozenset[str]) -> list[str]:
        """Keys of parameters that steps do not change: what no gradient is wanted for, frozen
        variables mostly, and constants. TensorFlow never writes into memory that somebody holds
        (variables.py)."""
        changed = {id(variable._value) for variable, _ in self.updates}
        names = {n["key"]: n.name for n in self.parameters}
        same = [
            key
            for key, v in self.variables.items()
            if names[key] not in wanted and id(v) not in changed
        ]
        return [*same, *self.constants]


class Trainer:
    """Calls of a model with a graph of layers, in training mode or under a tape."""

    def __init__(
        self, model: Any, variables: Variables, options: Options, progress: Progress | None
    ) -> None:
        self._model, self._variables = model, variables
        self._options, self._progress = options, progress
        self._networks: dict[Any, Network | str] = {}
        self._race = TrainingRace(model, options.never_slower)
        self._lock = RLock()

    def _check(self) -> None:
        if graph_of(self._model) is None:
            raise UnsupportedError(self._model.name, "it is more than a graph of layers")
        if self._options.memory is not None:
            raise UnsupportedError(self._model.name, _MEMORY)
        if tf.distribute.has_strategy():
            raise UnsupportedError(self._model.name, "several devices train it")

    def __call__(self, tensors: Sequence[Any], training: bool) -> Any:
        """The results for tensors in the order of the model's inputs. Raises UnsupportedError where
        Sol cannot train, or TensorFlow was measured to be faster."""
        self._check()
        network, batched = self._network(tensors, training)
        step = partial(self._step, network, batched)
        slower = self._race.why_not(tensors, training, step)
        if slower:
            raise UnsupportedError(self._model.name, slower)
        return step(tensors)

    def _step(self, network: Network, batched: Sequence[int], tensors: Sequence[Any]) -> Any:
        variables = list(network.variables.values())
        given = [tensors[i] if isinstance(i, int) else i.next() for i in network.inputs]
        given += [v.value() for v in variables]
        frozen = {id(v._value) for v in self._model.variables if not v.trainable}
        owners = [None] * (len(given) - len(variables)) + variables
        names = [n.name for n in (*network.graph.inputs, *network.parameters)]
        wanted = frozenset(
            n for n, t, v in zip(names, given, owners) if id(v) not in frozen and _wants(t)
        )
        call = self._connection(network, batched, wanted)
        made = connected(call, given)
        for variable, place in network.updates:
            variable.assign(made[place])
        results = [made[place] for place in network.results]
        return packed(graph_of(self._model)._outputs_struct, results)

    def forget(self) -> None:
        """Read the model anew."""
        with self._lock:
            self._networks.clear()
            self._race.forget()

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """What became of the networks, program by program."""
        for network in list(self._networks.values()):
            if isinstance(network, str):
                continue
            for pair in list(network.pairs.values()):
                types = ", ".join(str(n.type) for n in network.graph.inputs)
                for what, program in zip(("forward", "backward"), pair.programs):
                    parts = (explain(program),)
                    report = ProgramReport(types, 0, parts, what=f"{what} in training")
                    yield from report.lines(width)
        yield from self._race.judge.lines(width)

    # ---- programs

    def _connection(
        self, network: Network, batched: Sequence[int], wanted: frozenset[str]
    ) -> Connection:
        graph = network.graph
        nodes = (*graph.inputs, *network.parameters)
        real = frozenset(n.name for n in nodes if n.dtype.kind == "float")
        places = enumerate(network.inputs)
        return Connection(
            self._pair(network, wanted),
            len(graph.inputs),
            tuple(network.variables),
            network.constants,
            next((n for n, i in enumerate(network.inputs) if i in batched), -1),
            frozenset(n for n, i in places if not isinstance(i, int)),
            tuple(n.name for n in nodes),
            partial(count, self._options.threads),
            partial(self._connection, network, batched, real),
        )

    def _pair(self, network: Network, wanted: frozenset[str]) -> Pair:
        with self._lock:
            if wanted not in network.pairs:
                known = partial(recall, threads=count(self._options.threads))
                order = [n.name for n in network.graph if n.name in wanted]
                held = network.held(wanted)
                network.pairs[wanted] = Pair.of(
                    network.graph, order, self._options, self._progress, known, held
                )
            return network.pairs[wanted]

    def _network(self, tensors: Sequence[Any], training: bool) -> tuple[Network, list[int]]:
        """The network for a call, and which of its tensors have the batch as their first size."""
        specs = graph_of(self._model)._inputs
        batched = [n for n, s in enumerate(specs) if len(s.shape) and s.shape[0] is None]
        batches = {tensors[n].shape[0] for n in batched}
        if len(batches) > 1 or 0 in batches:
            raise UnsupportedError("the call", "inputs of different batches, or an empty one")
        batch = next(iter(batches), None)
        norms = tuple(
            x.trainable for x in layers_of(self._model) if isinstance(x, k.BatchNormalization)
        )
        with self._lock:
            make = partial(self._read, tensors, batched, training, norms)
            if batch == 1 or not batched:
                network = make(1)
            else:
                try:
                    network = make(None)
                except SolError:
                    if batch is None:
                        raise
                    network = make(batch)
            if batch is None and batched and not network.single:
                raise UnsupportedError(self._model.name, "one image is another network")
        return network, batched

    def _read(
        self, tensors: Sequence[Any], batched: Sequence[int], training: bool, norms: Any,
        batch: int | None,
    ) -> Network:  # fmt: skip
        types = tuple(
            _type(t, (B if batch is None else batch) if n in batched else None)
            for n, t in enumerate(tensors)
        )
        key = (training, norms, types)
        if key not in self._networks:
            try:
                self._networks[key] = self._made(types, training, batch is None)
            except SolError as error:
                self._networks[key] = getattr(error, "reason", "") or error.what
        found = self._networks[key]
        if isinstance(found, str):
            raise UnsupportedError(self._model.name, found)
        return found

    def _made(self, types: Types, training: bool, open: bool) -> Network:
        network = read_for_training(self._model, self._variables, types, training)
        if not open:
            return network
        ones = tuple(TensorType(tuple(1 if s == B else s for s in t.shape), t.dtype) for t in types)
        try:
            one = read_for_training(self._model, self._variables, ones, training).graph
            single = same(network.graph.at_batch(1), one)
        except SolError:
            single = False
        return replace(network, single=single)


def read_for_training(model: Any, variables: Variables, types: Types, training: bool) -> Network:
    """A model as one graph: its results, then new values of variables. Raises UnsupportedError."""
    reading = Reading(variables, training=training)
    names = [f"input {n}" for n in range(len(types))]
    inputs = [reading.builder.input(n, t) for n, t in zip(names, types)]
    results = as_nodes(reading, read_model(reading, model, inputs))
    if reading.hosted:
        left = reading.hosted[0]
        raise UnsupportedError(left.operator, f"{left.operator} ({left.origin}): {left.reason}")
    if any(n.op in ("input", "parameter", "constant") for n in results):
        raise UnsupportedError(model.name, "a result that nothing computes")
    new = [node for _, node in reading.updates]
    unique = {n.name: n for n in (*results, *new)}
    graph = pruned(reading.builder.finish(unique.values()))
    places = {name: place for place, name in enumerate(unique)}
    sources = dict(zip(names, range(len(names)))) | {name: g for g, name in reading.seeds}
    used = {n["key"]: reading.parameters[n["key"]] for n in graph.parameters}
    others = [o for o in used.values() if not isinstance(o, (tf.Variable, np.ndarray))]
    if others:
        raise UnsupportedError(model.name, "a variable of which only a handle is known")
    return Network(
        graph,
        tuple(sources[n.origin] for n in graph.inputs),
        tuple(places[n.name] for n in results),
        tuple((v, places[node.name]) for v, node in reading.updates),
        {key: owner for key, owner in used.items() if not isinstance(owner, np.ndarray)},
        {key: owner for key, owner in used.items() if isinstance(owner, np.ndarray)},
    )


def _type(tensor: Any, batch: Any) -> TensorType:
    """The type of a tensor; its first size is the batch, if one is given."""
    sizes = tensor.shape.as_list()
    shape = tuple(sizes if batch is None else [batch, *sizes[1:]])
    if None in shape:
        raise UnsupportedError("the call", "sizes of images that are not known before it runs")
    return TensorType(shape, dtype_of(tensor.dtype.name, "an input"))


def _wants(tensor: Any) -> bool:
    """Whether a gradient may be asked for: a tape watches the tensor, or a graph is made outside of
    any tape, which may be differentiated later."""
    if not tensor.dtype.is_floating:
        return False
    if record.should_record_backprop([tensor]):
        return True
    return not tf.executing_eagerly() and not record.could_possibly_record()
