"""Generated kernel or library: measured on this machine, once for each layer's shape.

All layers of a network that a library takes form one small program, in which each generated kernel
and each call of a library is a step, run in turn for some rounds. The result is kept in the cache
by the content of both kernels, so a network that was compiled before is not measured again. A
library whose numbers differ from the generated kernel's is not used, however fast.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sol.backends.c import Step, Table, TableBuffer, generate, kernel_unit
from sol.backends.toolchain import Progress, build
from sol.core.device import CpuDevice
from sol.core.dims import concrete, evaluate
from sol.core.keys import content_key
from sol.libraries.base import Array, Packed, Use, link_flags, open_program, units
from sol.lower.cluster import Lowered
from sol.plan.records import Plan
from sol.runtime.cache import cache
from sol.runtime.program import Program

_FASTER = 1.03  # how much faster a library must be: less is noise, and it costs memory and a link
_TOLERANCE = 1e-4  # of the largest element of the result
_SECONDS = 0.4  # of measuring, at least _LEAST_ROUNDS
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 40
_MADE_NUMBERS = 1 << 16  # random numbers, repeated where more are needed


@dataclass(frozen=True, slots=True)
class Contest:
    """A layer that both can compute; `end` is its result."""

    end: str
    generated: Lowered
    packed: Packed
    use: Use

    def key(self, device: CpuDevice, threads: int) -> str:
        """Equal layers have equal keys: their kernels have equal texts. The library's version and
        place are part of its kernel's text.
        """
        kernels = (
            kernel_unit(self.generated.kernel)[0],
            kernel_unit(self.use.call.lowered.kernel)[0],
        )
        machine = (device.name, device.identity, f"{threads} threads")
        return content_key("measured", *kernels, *machine)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, in nanoseconds, and the largest difference of the results relative to the
    largest element.
    """

    generated: int
    library: int
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether both compute the same."""
        return self.difference <= _TOLERANCE  # False for NaN

    @property
    def wins(self) -> bool:
        """Whether the library is to be used."""
        return self.agrees and self.library * _FASTER < self.generated

    def describe(self, contest: Contest) -> str:
        """A line for `explain`."""
        use = contest.use
        name = f"{use.library.title} {use.found.version} {use.call.implementation}"
        times = f"{name}: {self.library / 1e6:.3f} ms, generated: {self.generated / 1e6:.3f} ms"
        if not self.agrees:
            return f"{times}, but the results differ by {self.difference:.1e} -> generated"
        return f"{times} -> {use.library.title if self.wins else 'generated'}"


def decide(
    plan: Plan,
    contests: Sequence[Contest],
    device: CpuDevice,
    threads: int,
    progress: Progress | None = None,
) -> tuple[Verdict, ...]:
    """The verdict on each contest: from the cache, or measured now."""
    keys = [contest.key(device, threads) for contest in contests]
    known = {key: _recall(key) for key in keys}
    missing = {k: c for k, c in zip(keys, contests) if known[k] is None}
    if missing:
        measured = measure(plan, tuple(missing.values()), device, threads, progress)
        for key, verdict in zip(missing, measured):
            known[key] = verdict
            cache.put(key, json.dumps(_fields(verdict)).encode())
    return tuple(v for v in (known[key] for key in keys) if v is not None)


def _fields(verdict: Verdict) -> tuple[int, int, float]:
    return verdict.generated, verdict.library, verdict.difference


def _recall(key: str) -> Verdict | None:
    data = cache.get(key)
    return None if data is None else Verdict(*json.loads(data))


# ---- measuring ---------------------------------------------------------------------------------


@dataclass
class _Bench:
    """The tensors of a measuring program, in the order in which it is called with them."""

    plan: Plan
    arrays: list[Array] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=partial(np.random.default_rng, 0))

    def add(self, array: Array) -> int:
        """Take a tensor and return its number."""
        self.arrays.append(array)
        return len(self.arrays) - 1

    def numbers(self, count: int) -> Array:
        """Some random numbers."""
        made = self.random.standard_normal(min(count, _MADE_NUMBERS), np.float32)
        return np.resize(made, count)

    def contest(self, contest: Contest) -> tuple[Array, Array]:
        """Add the two steps of a layer and return their results."""
        plan = self.plan
        shape = concrete(plan.graph[contest.packed[1]].shape, 1)
        weight = self.numbers(math.prod(shape)).reshape(shape) / math.sqrt(math.prod(shape[1:]))
        target = plan.places[contest.end].buffer
        shared: dict[str, int] = {}
        results = []
        call = contest.use.call
        sides = ((contest.generated, contest.packed), (call.lowered, call.packed))
        for lowered, packed in sides:
            own = {packed[0]: self.add(packed[2].apply(weight))}
            own[target] = self.add(np.zeros(self._count(target), np.float32))
            results.append(self.arrays[own[target]])
            for name in lowered.buffers:
                if name not in own and name not in shared:
                    shared[name] = self.add(self.numbers(self._count(name)))
            numbers = tuple((own | shared)[name] for name in lowered.buffers)
            self.steps.append(Step(lowered.kernel, numbers))
        return results[0], results[1]

    def _count(self, buffer: str) -> int:
        return evaluate(self.plan.buffers[buffer].size, 1)

    def table(self) -> Table:
        """Every tensor is the caller's: nothing is in the arena but scratch memory."""
        rows = tuple(TableBuffer("external", number) for number in range(len(self.arrays)))
        scratch = max(step.kernel.scratch for step in self.steps)
        whole = ((0, len(self.steps), False),)
        return Table(rows, len(rows), whole, (0, 0), (0, 0), scratch, False)


def measure(
    plan: Plan,
    contests: Sequence[Contest],
    device: CpuDevice,
    threads: int,
    progress: Progress | None = None,
) -> tuple[Verdict, ...]:
    """Run the layers by both, in turn, on one image of random numbers. Raises LibraryError,
    CompilerError.
    """
    bench = _Bench(plan)
    results = [bench.contest(contest) for contest in contests]
    uses = [contest.use for contest in contests]
    source = generate(bench.steps, bench.table(), units(uses))
    path = build(source.units, device, cache, progress=progress, link=link_flags(uses))
    program = Program(path)
    open_program(path, uses)
    times = _times(program, bench.arrays, threads)
    pairs = zip(times[::2], times[1::2], results)
    return tuple(Verdict(a, b, _difference(*both)) for a, b, both in pairs)


def _times(program: Program, arrays: Sequence[Array], threads: int) -> list[int]:
    """Nanoseconds of each step: the least of some rounds over all of them."""
    pointers = [a.ctypes.data for a in arrays]

    def one_round() -> Any:
        return np.array(program.run(pointers, 1, threads, profile=True))

    one_round()  # pages, primitives, clocks
    best = one_round()
    rounds = int(_SECONDS * 1e9 / max(1, best.sum()))
    for _ in range(min(max(rounds, _LEAST_ROUNDS), _MOST_ROUNDS)):
        best = np.minimum(best, one_round())
    return [int(t) for t in best]


def _difference(one: Array, other: Array) -> float:
    """The largest difference, relative to the largest element; NaN if there is one."""
    largest = float(np.abs(one).max(initial=0.0)) or 1.0
    return float(np.abs(one - other).max(initial=0.0)) / largest
