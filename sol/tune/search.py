"""Tuning: whole programs with other methods for their layers, measured in turn.

Program 0 has the default method of every layer, program i the method number i of every kind of
layer. They run one after the other, again and again, on the same example with the same parameters,
and the times of their steps are compared: so a method is measured with the caches as its
neighbours leave them. A last program has all winners. It is compared with program 0 as a whole,
and the faster one stays. What was found is stored (store.py).
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.compiler import (
    Compiled,
    Made,
    Options,
    assemble,
    default_steps,
    lower_by,
    other_methods,
)
from sol.core.device import CpuDevice, detect
from sol.core.dims import concrete
from sol.core.errors import CompilerError, MemoryBudgetError
from sol.kernels.methods import Method, name_of
from sol.tune import store
from sol.tune.decide import FEWEST, gain, winner
from sol.tune.store import Record, batch_class

log = logging.getLogger(__name__)
Array = NDArray[Any]
Progress = Callable[[str, int, int], None]
Clock = Callable[[], float]
Measure = Callable[[Compiled], Sequence[int]]  # nanoseconds of each step

_MOST_METHODS = 6  # besides the default
_WORTH = 0.01  # of the time: what takes less is not tuned
_BUILDING, _MEASURING = 0.6, 0.85  # of the seconds, when these end
_MOST_ROUNDS = 100
_RUNS = 3  # of a program in its turn, after one that brings its weights into the caches


def tune(
    compiled: Compiled,
    parameters: Mapping[str, Array],
    inputs: Sequence[Array],
    batch: int,
    seconds: float,
    *,
    threads: int,
    progress: Progress | None = None,
    measure: Measure | None = None,
    clock: Clock = time.perf_counter,
    device: CpuDevice | None = None,
) -> Compiled:
    """A program that is at least as fast as `compiled` is, prepared; found within these seconds.

    parameters: as for `Compiled.prepare`; inputs: contiguous, of the types of the graph's inputs.
    Where all layers are known from before, nothing is measured. An interrupt leaves no trace.
    """
    run = _Runs(compiled, inputs, batch, threads)
    device = device or detect().for_threads(threads)
    tuning = _Tuning(
        compiled, parameters, batch, seconds, threads, device, progress, measure or run, clock,
        clock(),
    )  # fmt: skip
    return tuning.tuned()


class _Runs:
    """Measures programs of one network on an example."""

    def __init__(
        self, compiled: Compiled, inputs: Sequence[Array], batch: int, threads: int
    ) -> None:
        graph = compiled.planned.plan.graph
        self._inputs = list(inputs)
        self._outputs = [
            np.empty(concrete(graph[o].shape, batch), graph[o].dtype.numpy) for o in graph.outputs
        ]
        self._batch, self._threads = batch, threads

    def __call__(self, compiled: Compiled) -> Sequence[int]:
        addresses = [a.ctypes.data for a in self._inputs], [a.ctypes.data for a in self._outputs]
        compiled.profile(*addresses, self._batch, self._threads, rounds=1)
        return compiled.profile(*addresses, self._batch, self._threads, rounds=_RUNS)


@dataclass
class _Kind:
    """Clusters with equal kernels, and times by method: 0 is the default one."""

    key: str
    clusters: list[int]
    names: tuple[str, ...] = ("",)
    measured: int = 0  # methods besides the default
    times: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class _Candidate:
    """A program, and which method each kind of layer has in it."""

    compiled: Compiled
    methods: tuple[int, ...]


@dataclass
class _Tuning:
    """The work of `tune`."""

    compiled: Compiled
    parameters: Mapping[str, Array]
    batch: int
    seconds: float
    threads: int
    device: CpuDevice
    progress: Progress | None
    measure: Measure
    clock: Clock
    start: float
    default: tuple[Made, ...] = ()
    methods: dict[int, dict[str, Method]] = field(default_factory=dict)  # of a cluster
    told: int = -1  # seconds

    def tuned(self) -> Compiled:
        """The whole way."""
        self._tell()
        planned, options = self.compiled.planned, self.compiled.options
        self.default = default_steps(planned, self.device, options)
        kinds = self._kinds()
        if not kinds:
            return self.compiled
        unknown = {k for kind in kinds for k in kind.clusters}
        steps = (
            self.default[k] if k in unknown else made for k, made in enumerate(self._recalled())
        )
        base = self._program(tuple(steps))
        kinds, turn = self._worth(base, kinds)
        most = int((self.seconds * _MEASURING - self._spent) / max(turn * FEWEST, 1e-9))
        if most < 2 and kinds:
            log.warning(
                "tune=%g is too short: %d runs of each method take longer", self.seconds, FEWEST
            )
            return base
        candidates = self._candidates(base, kinds, min(most, _MOST_METHODS + 1))
        self._rounds(candidates, kinds)
        for kind in kinds:
            kind.measured = min(len(kind.names), len(candidates)) - 1
        return self._decided(base, kinds)

    # ---- what there is to measure

    @property
    def options(self) -> Options:
        """The user's."""
        return self.compiled.options

    def _recalled(self) -> tuple[Made, ...]:
        return store.recall(
            self.compiled.planned, self.default, self.device, self.options, threads=self.threads
        )

    def _kinds(self) -> list[_Kind]:
        """The kinds of layers that nothing is known of for batches of this class."""
        found: dict[str, _Kind] = {}
        for number, made in enumerate(self.default):
            if made.cluster.kind == "contraction":
                key = store.key_of(made, self.device, self.options, self.threads)
                found.setdefault(key, _Kind(key, [])).clusters.append(number)
        return [kind for kind in found.values() if not self._known(kind)]

    def _known(self, kind: _Kind) -> bool:
        """Whether all methods for a kind were measured before, on batches of this class."""
        record = store.find(kind.key)
        if record is None or record.batches != batch_class(self.batch):
            return False
        return record.methods >= len(self._methods(kind.clusters[0]))

    def _worth(self, base: Compiled, kinds: list[_Kind]) -> tuple[list[_Kind], float]:
        """The kinds that take some of the time and have other methods; seconds of a turn."""
        self.measure(base)
        began = self.clock()
        times = _by_cluster(base, self.measure(base))
        turn = self.clock() - began
        least = _WORTH * sum(times)
        worth = [kind for kind in kinds if sum(times[k] for k in kind.clusters) >= least]
        for kind in worth:
            kind.names = ("", *self._methods(kind.clusters[0]))
        return [kind for kind in worth if len(kind.names) > 1], turn

    def _methods(self, number: int) -> dict[str, Method]:
        """Other methods than the default one for a cluster, by name."""
        if number not in self.methods:
            default = self.default[number]
            planned, device = self.compiled.planned, self.device
            named = {
                name_of(m): m for m in other_methods(planned, default.cluster, device, self.options)
            }
            named.pop(default.method, None)
            self.methods[number] = dict(list(named.items())[:_MOST_METHODS])
        return self.methods[number]

    # ---- programs

    def _program(self, steps: tuple[Made, ...]) -> Compiled:
        """A program of these steps that has the parameters."""
        c = self.compiled
        made = assemble(c.graph, c.planned, steps, self.device, self.options)
        made.prepare(self.parameters)
        return made

    def _candidates(self, base: Compiled, kinds: Sequence[_Kind], most: int) -> list[_Candidate]:
        """Program 0 and others, as many as can be made in half of the time."""
        found = [_Candidate(base, (0,) * len(kinds))]
        longest = max((len(kind.names) for kind in kinds), default=1)
        for turn in range(1, min(longest, most)):
            if self._spent > _BUILDING * self.seconds:
                break
            self._tell()
            candidate = self._candidate(base, kinds, turn)
            found.extend([candidate] if candidate is not None else [])
        return found

    def _candidate(self, base: Compiled, kinds: Sequence[_Kind], turn: int) -> _Candidate | None:
        """The program whose layers have method number `turn`, modulo their number of methods."""
        steps = list(base.steps)
        for kind in kinds:
            name = kind.names[turn % len(kind.names)]
            for k in kind.clusters if name else ():
                steps[k] = self._by(k, name)
        try:
            made = self._program(tuple(steps))
        except (CompilerError, MemoryBudgetError) as error:
            log.warning("other methods cannot be measured: %s", error)
            return None
        chosen = []
        for kind in kinds:  # a memory budget may have changed some
            other = all(
                made.steps[k] is steps[k] and steps[k].calls != base.steps[k].calls
                for k in kind.clusters
            )
            chosen.append(turn % len(kind.names) if other else 0)
        return _Candidate(made, tuple(chosen))

    def _by(self, number: int, name: str) -> Made:
        method = self._methods(number).get(name)
        default = self.default[number]
        if method is None:
            return default
        return lower_by(self.compiled.planned, default.cluster, self.device, method)

    # ---- measuring

    def _rounds(self, candidates: Sequence[_Candidate], kinds: Sequence[_Kind]) -> None:
        """Fill the times of all kinds: each program has its turn in each round."""
        if len(candidates) < 2:
            return
        for done in range(_MOST_ROUNDS):
            if done >= FEWEST and self._spent > _MEASURING * self.seconds:
                return
            for candidate in candidates:
                self._tell()
                times = _by_cluster(candidate.compiled, self.measure(candidate.compiled))
                for kind, method in zip(kinds, candidate.methods):
                    kind.times[method].append(sum(times[k] for k in kind.clusters))

    def _decided(self, base: Compiled, kinds: Sequence[_Kind]) -> Compiled:
        """The program of the winners if it is faster as a whole, else the default one."""
        records: dict[str, Record] = {}
        for kind in kinds:
            if kind.times:
                method, times = winner(kind.times)
                records[kind.key] = self._record(kind, method, times)
                log.info("layers %s: %s", kind.clusters, records[kind.key])
        final = base
        if any(record.method for record in records.values()):
            final = self._program(self._marked(base, kinds, records))
            if not self._faster(final, base):
                final = base
        if final is base:
            records = {kind.key: self._record(kind, 0, 1.0) for kind in kinds if kind.times}
            base.steps = self._marked(base, kinds, records)
        for key, record in records.items():
            store.keep(key, record)
        return final

    def _record(self, kind: _Kind, method: int, times: float) -> Record:
        return Record(kind.names[method], times, kind.measured, batch_class(self.batch))

    def _marked(
        self, base: Compiled, kinds: Sequence[_Kind], records: Mapping[str, Record]
    ) -> tuple[Made, ...]:
        """The steps of these records, with reasons."""
        steps = list(base.steps)
        for kind in kinds:
            record = records.get(kind.key)
            for k in kind.clusters if record is not None else ():
                assert record is not None
                if record.method:
                    made = self._by(k, record.method)
                    steps[k] = replace(made, why=f"{made.why}; {record.why}")
                else:
                    steps[k] = replace(steps[k], why=f"{steps[k].why}; {record.why}")
        return tuple(steps)

    def _faster(self, final: Compiled, base: Compiled) -> bool:
        """Whether the program of the winners is faster than the default one, as a whole."""
        times: tuple[list[int], list[int]] = ([], [])
        for done in range(_MOST_ROUNDS):
            if done >= FEWEST and self._spent > self.seconds:
                break
            for program, own in zip((base, final), times):
                self._tell()
                own.append(sum(self.measure(program)))
        found = gain(*times)
        log.info("the winners together: %.3f times the default's speed", found)
        return found > 1.0

    @property
    def _spent(self) -> float:
        return self.clock() - self.start

    def _tell(self) -> None:
        total = math.ceil(self.seconds)
        done = min(int(self._spent), total)
        if self.progress is not None and done != self.told:
            self.told = done
            self.progress("tuning", done, total)


def _by_cluster(compiled: Compiled, times: Sequence[int]) -> list[int]:
    """Nanoseconds of each cluster, which may be several steps."""
    found, first = [], 0
    for made in compiled.steps:
        found.append(sum(times[first : first + len(made.calls)]))
        first += len(made.calls)
    return found
