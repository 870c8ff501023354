"""A compiled network: takes the framework's parameters, packs what it needs of them, and runs."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.assembly import demand, way_of
from sol.backends.c import Source
from sol.core.dims import concrete, evaluate
from sol.core.errors import MemoryBudgetError
from sol.ir.graph import Graph
from sol.kernels.packings import Fewer, Looped
from sol.libraries.base import Packer
from sol.ops.reference import evaluate_nodes
from sol.options import Options
from sol.pieces import Piece, pieces_of
from sol.plan.memory import Arena
from sol.plan.planner import Planned
from sol.plan.records import Place
from sol.runtime import threads as thread_count
from sol.runtime.arena import Shelf, whole_pages
from sol.runtime.native import Look
from sol.runtime.pack import fits, pack
from sol.runtime.program import Program
from sol.steps import Made

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Addresses of all tensors, the weights among them, which live as long as this does, and their
    memory. running: has an element for each call that reads them. given: the parameters, if a run
    packs them, piece by piece; steady: numbers of the tensors that it finds packed.
    """

    pointers: array[int]
    weights: tuple[Array, ...]
    shelf: Shelf
    running: list[None]
    given: Mapping[str, Array] | None = None
    steady: frozenset[int] = frozenset()

    def call(self, inputs: Sequence[int], outputs: Sequence[int]) -> array[int]:
        """The addresses, with those of the tensors of a call."""
        pointers = array("Q", self.pointers)
        pointers[: len(inputs)] = array("Q", inputs)
        pointers[len(inputs) : len(inputs) + len(outputs)] = array("Q", outputs)
        return pointers


class Compiled:
    """A compiled network: takes parameters with `prepare`, runs with `run`."""

    def __init__(
        self,
        graph: Graph,
        planned: Planned,
        made: tuple[Made, ...],
        tensors: tuple[str, ...],
        source: Source,
        program: Program,
        options: Options,
    ) -> None:
        self.graph = graph
        self.planned = planned
        self.steps = made
        self.tensors = tensors
        self.source = source
        self.program = program
        self.options = options
        plan = planned.plan.graph
        self._inputs = [n.name for n in plan.inputs]
        self._outputs = plan.outputs
        results = [o for o in dict.fromkeys(plan.outputs) if o in tensors]
        self._offset = len(self._inputs) + len(results)  # of weights among the tensors
        self._own = 0  # bytes of memory that weights keep beside parameters
        self._budget = options.budget
        self._prepared = _Prepared(array("Q", bytes(8 * len(tensors))), (), Shelf(), [])
        self._steady: dict[str, Array] = {}  # tensors that stay from run to run
        self._lock = threading.Lock()  # of what is prepared
        self._packing = threading.Lock()  # of a run that packs weights

    def prepare(self, parameters: Mapping[str, Array]) -> None:
        """Take the parameters (arrays that share the framework's memory, by key):

        evaluate what depends on them only, and pack weights. Calls that run meanwhile keep those
        with which they began.
        """
        with self._lock:
            self._prepare(parameters)

    def release(self) -> Shelf:
        """Forget what was prepared: it has to be prepared again before the next run. Its memory,
        which is other memory if a call still reads it."""
        with self._lock:
            before = self._prepared
            self._prepared = _Prepared(array("Q", bytes(8 * len(self.tensors))), (), Shelf(), [])
            self._own = 0
        return Shelf() if before.running else before.shelf

    def forget(self) -> None:
        """Forget what was prepared, and weights that stay from run to run."""
        self._steady = {}
        self.release()

    def steady_keys(self, frozen: Collection[str]) -> tuple[str, ...]:
        """Of these keys of parameters, those of which packed weights follow that need no others."""
        graph = self.planned.plan.graph
        alone = self._following({n.name for n in graph.parameters if n["key"] in frozen})
        stack = [m.packed[1] for m in self.steps if m.packed and m.packed[1] in alone]
        found: set[str] = set()
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(graph[name].inputs)
        return tuple(n["key"] for n in graph.parameters if n.name in found)

    def keep_packed(self, parameters: Mapping[str, Array]) -> None:
        """Pack the weights that follow from these parameters alone, once: `prepare_by_piece` and
        runs leave them out, until they are given anew or forgotten."""
        graph = self.planned.plan.graph
        given = {n.name: parameters[n["key"]] for n in graph.parameters if n["key"] in parameters}
        alone = self._following(given)
        names = [t for t in self.tensors[self._offset :] if self._source(t) in alone]
        self._steady = self._as_read(names, given, Shelf())

    def prepare_by_piece(
        self,
        parameters: Mapping[str, Array],
        other: Compiled | None = None,
        known: Mapping[str, Array] | None = None,
    ) -> None:
        """As `prepare`, but each run packs weights, piece by piece (sol/pieces.py), from what is in
        the parameters' memory then. other: a program whose weights' memory this one takes, and
        which forgets them. known: values that depend on parameters only, as `static_values` had
        them before."""
        shelf = other.release() if other else Shelf()
        with self._lock:
            if not self._prepared.shelf.bytes:
                if not shelf.bytes:  # as much as the larger one of both needs
                    shelf = Shelf(max(self._shelf_bytes, other._shelf_bytes if other else 0))
                self._prepared = replace(self._prepared, shelf=shelf)
            by_piece = not self.planned.plan.splittable
            self._prepare(parameters, by_piece, known or {}, self._steady)

    def static_values(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """What preparing computes of these parameters alone, by name."""
        graph = self.planned.plan.graph
        given = {n.name: parameters[n["key"]] for n in graph.parameters if n["key"] in parameters}
        alone = self._following(given)
        read = {i for n in graph if n.name not in alone for i in n.inputs}
        ends = [
            n.name
            for n in graph
            if n.name in (alone & read & graph.static) - given.keys()
            and not isinstance(n.type, tuple)
        ]
        return {k: np.asarray(v) for k, v in evaluate_nodes(graph, ends, given).items()}

    def _following(self, given: Collection[str]) -> set[str]:
        """Values that follow from these parameters alone."""
        alone = set(given)
        for n in self.planned.plan.graph:
            if n.op not in ("input", "parameter") and all(i in alone for i in n.inputs):
                alone.add(n.name)
        return alone

    def _prepare(
        self,
        parameters: Mapping[str, Array],
        by_piece: bool = False,
        known: Mapping[str, Array] | None = None,
        steady: Mapping[str, Array] | None = None,
    ) -> None:
        names = self.tensors[self._offset :]
        steady = steady or {}
        wanted = [t for t in names if not (t in steady or (by_piece and t in self._packings))]
        graph = self.planned.plan.graph
        given = {n.name: parameters[n["key"]] for n in graph.parameters} | dict(known or {})
        before = self._prepared
        shelf = Shelf() if before.running else before.shelf.emptied()
        weights = self._as_read(wanted, given, shelf) | dict(steady)
        pointers = array("Q", before.pointers)
        places = {name: k for k, name in enumerate(names, self._offset) if name in weights}
        for name, k in places.items():
            pointers[k] = weights[name].ctypes.data
        shared = {id(_root(v)) for v in given.values()}
        own = sum(w.nbytes for w in weights.values() if id(_root(w)) not in shared)
        own += sum(v.nbytes for v in (known or {}).values())
        own += max((p.bytes for p in self.pieces), default=0) if by_piece else 0
        kept = given if by_piece else None
        held = tuple(weights[name] for name in places)
        made = _Prepared(pointers, held, shelf, [], kept, frozenset(places[n] for n in steady))
        self._prepared, self._own = made, own

    @cached_property
    def _packings(self) -> dict[str, tuple[str, str, Packer]]:
        """The packings of weights, by tensor."""
        return {m.packed[0]: m.packed for m in self.steps if m.packed}

    def _source(self, tensor: str) -> str:
        """The value that a tensor of the program is made of."""
        return self._packings[tensor][1] if tensor in self._packings else tensor

    def _as_read(
        self, names: Sequence[str], given: Mapping[str, Array], shelf: Shelf
    ) -> dict[str, Array]:
        """Tensors of the program as kernels read them, on the shelf or in the parameters' memory.
        given: parameters, and what is known of others, by name."""
        sources = dict.fromkeys(map(self._source, names))
        values = evaluate_nodes(self.planned.plan.graph, list(sources), given)
        shared = {id(_root(v)) for v in given.values()}
        threads = thread_count.count(self.options.threads)
        found = {}
        for name in names:
            value = np.asarray(values[self._source(name)])
            if name in self._packings:
                found[name] = _packed(value, self._packings[name][2], shelf, threads)
                continue
            value = np.ascontiguousarray(value.transpose(self.planned.plan.orders[name]))
            found[name] = value if id(_root(value)) in shared else shelf.keep(value)
        return found

    def held_places(self, batch: int) -> dict[str, int]:
        """Where kept results and lent inputs lie in the memory of a call, in bytes from its begin;
        none if the program counts with no such memory."""
        plan, offsets = self.planned.plan, self.planned.arena.offsets
        names = [n.name for n in plan.graph.inputs] + list(plan.graph.outputs)
        return {n: offsets[n][0] * batch + offsets[n][1] for n in names if n in offsets}

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int,
        memory: int = 0,
    ) -> tuple[int, ...]:  # fmt: skip
        """Run on contiguous tensors at these addresses, of the types of the graph's inputs and
        outputs. Raises MemoryBudgetError if the batch is too large for a budget.

        memory: the address of the memory of this call, `program.arena_bytes` bytes at a multiple of
        4096, in which kept results and lent inputs (ir/graph.py) lie where `held_places` says.
        Without it these are tensors as all others. Lent inputs are gone afterwards either way.
        """
        if self._budget is not None:
            self._check_budget(batch, threads)
        prepared = self._begin()
        try:
            pointers = prepared.call(inputs, outputs)
            if prepared.given is not None:
                return self._run_by_piece(prepared, pointers, batch, threads, memory)
            if memory:
                self.program.run_in(pointers, batch, threads, memory, self.program.group)
                return ()
            return self.program.run(pointers, batch, threads)
        finally:
            prepared.running.pop()

    def again(self, batch: int, threads: int, look: Look) -> Callable[[bytes], bool] | None:
        """What makes a call of `run` once more, with the least that can be done for it: it takes
        the addresses of inputs and outputs in an array of C. It returns False, and has done
        nothing, if a word of the look has changed or the weights were prepared anew (and once in a
        while). None if runs do more than that.
        """
        prepared, lock = self._prepared, self._lock
        if prepared.given is not None or len(self._inputs) + len(self._outputs) != self._offset:
            return None
        run = self.program.again(prepared.pointers, self._offset, batch, threads, look)

        def call(tensors: bytes) -> bool:
            with lock:
                if self._prepared is not prepared:
                    return False
                prepared.running.append(None)
            try:
                return run(tensors)
            finally:
                prepared.running.pop()

        return call

    def _run_by_piece(
        self, prepared: _Prepared, pointers: array[int], batch: int, threads: int,
        memory: int = 0, profile: bool = False,
    ) -> tuple[int, ...]:  # fmt: skip
        """Run, and pack the weights of each piece before it."""
        given, shelf = prepared.given, prepared.shelf
        assert given is not None
        known = dict(given)
        graph = self.planned.plan.graph

        def packing(piece: Piece) -> None:
            weights = [w for w in piece.weights if w.tensor not in prepared.steady]
            sources = list(dict.fromkeys(w.source for w in weights))
            values = evaluate_nodes(graph, sources, known)
            shelf.cleared_to(mark)
            for weight in weights:
                source = np.asarray(values[weight.source])
                packed = _packed(source, weight.packer, shelf, threads)
                pointers[weight.tensor] = packed.ctypes.data

        parts = [(p.begin, p.end, partial(packing, p)) for p in self.pieces]
        with self._packing:
            mark = shelf.mark
            try:
                return self.program.run_in_parts(pointers, batch, threads, parts, memory, profile)
            finally:
                shelf.cleared_to(mark)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Of a program whose weights are packed by each run."""
        return pieces_of(self.planned, self.steps, self.tensors)

    def _begin(self) -> _Prepared:
        """What a call reads: it stays as it is until the call takes itself off `running`."""
        with self._lock:
            prepared = self._prepared
            prepared.running.append(None)
        return prepared

    def profile(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        batch: int,
        threads: int,
        rounds: int = 5,
    ) -> tuple[int, ...]:
        """Nanoseconds of each step: the least of some rounds."""
        prepared = self._begin()
        try:
            pointers = prepared.call(inputs, outputs)
            run = partial(self.program.run, pointers, batch, threads, profile=True)
            if prepared.given is not None:
                run = partial(self._run_by_piece, prepared, pointers, batch, threads, profile=True)
            times = [run() for _ in range(rounds)]
        finally:
            prepared.running.pop()
        return tuple(min(each) for each in zip(*times))

    @property
    def weights(self) -> tuple[Array, ...]:
        """What was prepared, in the order of the program's tensors behind inputs and outputs."""
        return self._prepared.weights

    @property
    def rounds_more(self) -> bool:
        """Whether it rounds more than with precision="strict": by fewer products."""
        return any(m.packed and isinstance(m.packed[2], Fewer) for m in self.steps)

    @property
    def identity(self) -> str:
        """A name that changes with the compiled kernels: that of their library in the cache."""
        return f"{self.program.path.name.split('.')[0]} groups of {self.program.group}"

    @property
    def packed_bytes(self) -> int:
        """Bytes of weights that Sol keeps beside the framework's: packed or computed from them."""
        return self._own

    @property
    def reserved(self) -> tuple[int, int]:
        """Bytes of packed weights and of the arena that calls with a budget count with, known
        before there are parameters."""
        threads = thread_count.count(self.options.threads)
        need = demand(self.planned, self.steps, threads)
        ways = [way_of(self.planned, m) for m in self.steps]
        kept = need.weights(ways)
        return kept, need.total(ways, max(1, self.program.group)) - kept

    @property
    def reserved_by_piece(self) -> int:
        """Bytes of weights that runs keep which pack them piece by piece."""
        need = demand(self.planned, self.steps, thread_count.count(self.options.threads))
        return need.kept + max((p.bytes for p in self.pieces), default=0)

    @property
    def _shelf_bytes(self) -> int:
        """Of a shelf for them, each of which begins at a cache line."""
        return whole_pages(self.reserved_by_piece + 64 * (len(self.tensors) - self._offset))

    def memory(self, batch: int, threads: int) -> int:
        """Bytes of the arena of one call, whole pages, and of packed weights."""
        return whole_pages(self.program.arena_bytes(batch, threads)) + self.packed_bytes

    def _check_budget(self, batch: int, threads: int) -> None:
        """A batch that cannot be cut, or more threads than there were, may need too much."""
        needed = self.memory(batch, threads)
        if self._budget is not None and needed > self._budget:
            raise MemoryBudgetError(
                f"a call with batch {batch} and {threads} threads needs {needed} bytes, and "
                f"memory={self.options.memory!r} allows {self._budget}",
                expected="images that are independent" if batch > 1 else "fewer threads",
                do="use a smaller batch, or allow more memory",
            )

    def values(self, inputs: Sequence[Array], batch: int, threads: int = 1) -> dict[str, Array]:
        """Every stored intermediate value of a run, by name, in the order of the steps.

        Needs a network compiled with `keep`.
        """
        plan, arena = self.planned.plan, self.planned.arena
        outputs = [
            np.empty(concrete(plan.graph[o].shape, batch), plan.graph[o].dtype.numpy)
            for o in self._outputs
        ]
        memory = np.zeros(self.program.arena_bytes(batch, threads) + 4096, np.uint8)
        start = -memory.ctypes.data % 4096
        prepared = self._begin()
        try:
            pointers = prepared.call(*([t.ctypes.data for t in ts] for ts in (inputs, outputs)))
            self.program.run_in(pointers, batch, threads, memory.ctypes.data + start)
        finally:
            prepared.running.pop()
        results = dict(zip(self._outputs, outputs))
        found: dict[str, Array] = {}
        for made in self.steps:
            for name in made.cluster.values:
                if name in results:
                    found[name] = results[name]
                elif name in plan.places and plan.places[name].buffer in arena.offsets:
                    found[name] = _at(memory, start, arena, plan.places[name], batch)
                elif name in plan.places and plan.places[name].buffer in results:
                    found[name] = _view(
                        results[plan.places[name].buffer].reshape(-1), plan.places[name], batch
                    )
        return found


def _packed(weight: Array, packer: Packer, shelf: Shelf, threads: int) -> Array:
    """A weight as a kernel reads it, on the shelf."""
    if isinstance(packer, Looped):
        recipe = packer.recipe(weight)
        if fits(weight, recipe):
            target = shelf.room(recipe.size, weight.dtype)
            pack(weight, recipe, target, threads)
            return target
    return shelf.keep(packer.apply(weight))


def _root(array: Array) -> Array:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _at(memory: Array, start: int, arena: Arena, place: Place, batch: int) -> Array:
    coef, constant = arena.offsets[place.buffer]
    return _view(memory[start + coef * batch + constant :].view(np.uint8), place, batch)


def _view(flat: Array, place: Place, batch: int) -> Array:
    """The value at a place, its buffer beginning at flat[0]."""
    size = place.dtype.bytes
    elements = (
        flat[: flat.nbytes // size * size].view(place.dtype.numpy)
        if flat.dtype == np.uint8 and place.dtype.name != "u8"
        else flat
    )
    strides = tuple(evaluate(s, batch) * size for s in place.strides)
    return np.lib.stride_tricks.as_strided(
        elements[evaluate(place.offset, batch) :], concrete(place.shape, batch), strides
    ).copy()
