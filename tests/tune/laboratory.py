"""A small network to tune, with a clock and a stopwatch that are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.compiler import Compiled, Made, Options, compile_graph, other_methods
from sol.core.device import detect
from sol.core.dims import B, concrete
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.kernels.methods import name_of
from sol.ops.reference import evaluate
from sol.ops.registry import builder
from sol.runtime.cache import Entry, cache
from sol.tune import recall, tune

Array = NDArray[Any]
PLAIN: dict[str, Any] = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
TUNED = "; tuned: "
DEFAULT = Options()
_BATCH, _THREADS = 2, 2


def _conv(b: Builder, x: Node, name: str, outputs: int, taps: int) -> Node:
    weight = b.parameter(name, TensorType((outputs, x.shape[1], taps, taps), F32))
    around = ((taps // 2, taps // 2),) * 2
    return b.add("relu", b.add("conv", x, weight, padding=around, **PLAIN))


def network(last: int = 40) -> Graph:
    """A first layer (step 0), two equal layers of 3x3 (1, 2), one of 1x1 (3)."""
    b = builder()
    x = b.input("x", TensorType((B, 3, 14, 14), F32))
    y = _conv(b, _conv(b, _conv(b, x, "zero", 32, 3), "one", 32, 3), "two", 32, 3)
    return b.finish([_conv(b, y, "three", last, 1)])


def numbers(graph: Graph) -> tuple[list[Array], dict[str, Array]]:
    """Inputs and parameters."""
    rng = np.random.default_rng(0)

    def made(node: Node) -> Array:
        return rng.standard_normal(concrete(node.shape, _BATCH), np.float32)

    return [made(n) for n in graph.inputs], {n["key"]: made(n) for n in graph.parameters}


def error(compiled: Compiled, graph: Graph) -> float:
    """The largest difference from the reference, relative to the largest element."""
    inputs, parameters = numbers(graph)
    named = {n.name: a for n, a in zip(graph.inputs, inputs)}
    wanted = evaluate(graph, named, parameters, batch=_BATCH)[0]
    found = np.full(wanted.shape, np.nan, np.float32)
    compiled.run([a.ctypes.data for a in inputs], [found.ctypes.data], _BATCH, _THREADS)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


Speed = Callable[[Made], float]


@dataclass
class Stopwatch:
    """Stands for measuring: nanoseconds of a step follow from its method and, sometimes, noise.

    Time passes only here. `interrupt` is the number of the measurement that Ctrl-C is hit in.
    """

    speed: Speed
    noise: Iterator[float] | None = None
    interrupt: int = 0
    whole: Callable[[Compiled], float] = lambda compiled: 1.0
    now: float = 0.0
    measured: list[Compiled] = field(default_factory=list)

    def __call__(self, compiled: Compiled) -> Sequence[int]:
        self.measured.append(compiled)
        self.now += 0.1
        if len(self.measured) == self.interrupt:
            raise KeyboardInterrupt
        slower = self.whole(compiled)
        return [
            int(1000 * self.speed(made) * slower + (next(self.noise) if self.noise else 0))
            for made in compiled.steps
            for _ in made.calls
        ]

    def clock(self) -> float:
        """Seconds."""
        return self.now


def compiled(graph: Graph, options: Options = DEFAULT) -> Compiled:
    """As frontends compile, prepared."""

    def known(*given: Any) -> tuple[Made, ...]:
        return recall(*given, threads=_THREADS)

    made = compile_graph(graph, options, recall=known)
    made.prepare(numbers(graph)[1])
    return made


def tuned(
    graph: Graph,
    watch: Stopwatch,
    options: Options = DEFAULT,
    seconds: float = 30,
    batch: int = _BATCH,
    progress: Any = None,
) -> Compiled:
    """The network, compiled and tuned by this stopwatch."""
    inputs, parameters = numbers(graph)
    return tune(
        compiled(graph, options), parameters, inputs, batch, seconds, threads=_THREADS,
        progress=progress, measure=watch, clock=watch.clock,
    )  # fmt: skip


def alternatives(graph: Graph, cluster: int, options: Options = DEFAULT) -> list[str]:
    """Names of methods besides the default one."""
    made = compile_graph(graph, options)
    step = made.steps[cluster]
    found = other_methods(made.planned, step.cluster, detect(), options)
    return [name_of(m) for m in found if name_of(m) != step.method]


def preferring(names: Sequence[str] | Mapping[str, float]) -> Speed:
    """Everything takes as long, but for these methods: half as long, or as the mapping says."""
    times = dict.fromkeys(names, 0.5) if not isinstance(names, Mapping) else dict(names)
    return lambda made: times.get(made.method, 1.0)


def entries() -> list[Entry]:
    """What is stored of tuning."""
    return [e for e in cache.entries() if e.kind == "tuned"]
