"""Many small networks as one program: built once, run, and compared with the NumPy reference.

Compiling costs a process of the C compiler per translation unit, so tests join their networks to
one graph (`join`), whose kernels `build_joined` packs into few units. `Case` is one network with
the range of its inputs; `compare` says which cases are wrong, so that one failure hides no other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sol.ops  # noqa: F401  fills the table
from sol.backends.clike import print_kernel
from sol.backends.prelude import prelude
from sol.backends.toolchain import build
from sol.compiler import Compiled, Made, Options, images_at_once, lower, plan_layers, print_program
from sol.core.device import CpuDevice, detect
from sol.core.dims import concrete
from sol.core.dtypes import BOOL, F64, U8, DType
from sol.ir.graph import Graph, Node, TensorType
from sol.ir.loop import Kernel
from sol.ops.reference import evaluate
from sol.ops.registry import builder
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import Planned
from sol.runtime.cache import cache
from sol.runtime.program import Program

Array = NDArray[Any]
_KERNELS_PER_UNIT = 40
_AS_USUAL = Options()
# of the largest element: what summing in another order may cost
TOLERANCE = {"f32": 1e-5, "f64": 1e-12}


@dataclass(frozen=True)
class Case:
    """A network of a test, and the half-open range that the values of its inputs come from."""

    name: str
    graph: Graph
    low: float = -2.0
    high: float = 2.0
    tolerance: float = 1.0
    given: Mapping[str, Array] = field(default_factory=dict)

    def array(self, node: Node, batch: int, seed: int = 0) -> Array:
        """The value of an input or parameter, the same for the same name and seed."""
        if node.name in self.given:
            return self.given[node.name]
        rng = np.random.default_rng([seed, zlib.crc32(f"{self.name} {node.name}".encode())])
        shape = concrete(node.shape, batch)
        if node.dtype == BOOL:
            return np.asarray(rng.random(shape) < 0.5)
        if node.dtype.kind == "int":
            low = max(int(self.low), 0) if node.dtype == U8 else int(self.low)
            high = max(int(self.high), low + 1)
            return np.asarray(rng.integers(low, high, shape), node.dtype.numpy)
        low = 0.5 if "var" in node.name else self.low
        return np.asarray(rng.uniform(low, self.high, shape), node.dtype.numpy)


def join(cases: Sequence[Case]) -> Graph:
    """All networks as one graph; names (and keys of parameters) are those of the cases' nodes
    behind `number_`.
    """
    b = builder()
    outputs = []
    for number, case in enumerate(cases):
        for node in case.graph:
            attrs = node.attrs
            if node.op == "parameter":
                attrs = (("key", _joined(number, node["key"])),)
            inputs = tuple(_joined(number, i) for i in node.inputs)
            b.append(replace(node, name=_joined(number, node.name), inputs=inputs, attrs=attrs))
        outputs.extend(b[_joined(number, o)] for o in case.graph.outputs)
    return b.finish(outputs)


def _joined(number: int, name: str) -> str:
    return f"n{number}_{name}"


@dataclass
class Joined:
    """A program of many cases."""

    cases: tuple[Case, ...]
    compiled: Compiled

    def arrays(self, batch: int, seed: int = 0) -> tuple[list[Array], dict[str, Array]]:
        """Inputs in calling order, and parameters by key."""
        inputs: list[Array] = []
        parameters: dict[str, Array] = {}
        for number, case in enumerate(self.cases):
            inputs.extend(case.array(n, batch, seed) for n in case.graph.inputs)
            for n in case.graph.parameters:
                parameters[_joined(number, n["key"])] = case.array(n, batch, seed)
        return inputs, parameters

    def run(self, batch: int, threads: int = 1, seed: int = 0) -> list[list[Array]]:
        """The results of every case; memory for results is filled with NaN or 0x55 before."""
        inputs, parameters = self.arrays(batch, seed)
        self.compiled.prepare(parameters)
        graph = self.compiled.planned.plan.graph
        results = [_blank(graph[o].tensor, batch) for o in graph.outputs]
        self.compiled.run(
            [a.ctypes.data for a in inputs], [a.ctypes.data for a in results], batch, threads
        )
        return _shared_out(self.cases, results)


def _shared_out(cases: Sequence[Case], results: Sequence[Array]) -> list[list[Array]]:
    rest = iter(results)
    return [[next(rest) for _ in case.graph.outputs] for case in cases]


def _blank(type: TensorType, batch: int) -> Array:
    shape = concrete(type.shape, batch)
    if type.dtype.kind == "float":
        return np.full(shape, np.nan, type.dtype.numpy)
    return np.full(shape, 0x55 if type.dtype != BOOL else False, type.dtype.numpy)


def expected(case: Case, batch: int, seed: int = 0, dtype: DType | None = F64) -> list[Array]:
    """The reference, in float64 unless told otherwise."""
    inputs = {n.name: case.array(n, batch, seed) for n in case.graph.inputs}
    parameters = {n["key"]: case.array(n, batch, seed) for n in case.graph.parameters}
    return evaluate(case.graph, inputs, parameters, batch=batch, dtype=dtype)


def conditioned(case: Case, batch: int, seed: int = 0) -> tuple[list[Array], list[float]]:
    """The reference, and how far float32 may be from it: a multiple of what NumPy's float32 is.

    For networks that make small differences large.
    """
    double = expected(case, batch, seed)
    single = expected(case, batch, seed, None)
    slack = []
    for a, b in zip(single, double, strict=True):
        with np.errstate(invalid="ignore"):
            error = np.abs(a.astype(np.float64) - b)
        slack.append(30 * float(np.max(error[np.isfinite(error)], initial=0.0)))
    return double, slack


def wrong(
    case: Case, found: Sequence[Array], wanted: Sequence[Array], slack: Sequence[float] = ()
) -> str:
    """What differs more than rounding explains, or nothing."""
    for k, (a, b, name) in enumerate(zip(found, wanted, case.graph.outputs, strict=True)):
        dtype = case.graph[name].dtype
        if a.shape != b.shape:
            return f"{case.name}: result {k} is {a.shape}, not {b.shape}"
        if dtype.kind != "float":
            differs = a != b.astype(a.dtype)
        else:
            differs = _off(
                a.astype(np.float64),
                b,
                case.tolerance * TOLERANCE[dtype.name],
                slack[k] if slack else 0.0,
            )
        if np.any(differs):
            at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(differs)))
            values = f"{np.atleast_1d(a)[at]!r}, not {np.atleast_1d(b)[at]!r}"
            count = int(np.count_nonzero(differs))
            return f"{case.name}: result {k} has {count} wrong of {a.size}, at {at} {values}"
    return ""


def _off(a: Array, b: Array, tolerance: float, slack: float) -> Array:
    finite = np.abs(b[np.isfinite(b)])
    limit = tolerance * max(float(np.max(finite, initial=0.0)), 1e-2) + slack
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= limit
    return ~(near | (a == b) | (np.isnan(a) & np.isnan(b)))


def compare(joined: Joined, batch: int, threads: int = 1, seed: int = 0) -> None:
    """Assert that every case has its reference's results."""
    results = joined.run(batch, threads, seed)
    faults = [
        wrong(case, found, expected(case, batch, seed))
        for case, found in zip(joined.cases, results, strict=True)
    ]
    found = [f for f in faults if f]
    assert not found, f"{len(found)} wrong at batch {batch}:\n" + "\n".join(found)


def same_bits(a: Iterable[Sequence[Array]], b: Iterable[Sequence[Array]]) -> bool:
    """Whether two runs have equal results, bit for bit."""
    return all(
        x.tobytes() == y.tobytes() for one, two in zip(a, b) for x, y in zip(one, two, strict=True)
    )


def planned_steps(
    graph: Graph,
    device: CpuDevice,
    optimise: bool,
    keep: bool = False,
    options: Options = _AS_USUAL,
) -> tuple[Planned, tuple[Made, ...]]:
    """A graph up to kernels; without passes if not `optimise`, so that operators stay as given."""
    graph = run_passes(graph) if optimise else graph
    planned = plan_layers(graph, device, options, keep)
    return planned, lower(planned, device, options)


def build_joined(
    cases: Sequence[Case],
    device: CpuDevice | None = None,
    optimise: bool = False,
    keep: bool = False,
    flags: Sequence[str] = (),
    group: int | None = None,
    options: Options = _AS_USUAL,
) -> Joined:
    """The program of all cases; `flags` for the compiler after the usual ones, `group` images at
    once where images are independent.
    """
    device = device or detect()
    graph = join(cases)
    planned, made = planned_steps(graph, device, optimise, keep, options)
    tensors, source = print_program(planned, made)
    kernels = {
        name: call.kernel
        for name, call in zip(source.functions, (c for m in made for c in m.calls))
    }
    units = (*merged_units(kernels), source.units[-1])
    group = images_at_once(planned) if group is None else group
    program = Program(build(units, device, cache, extra=flags), group=group)
    compiled = Compiled(graph, planned, made, tensors, source, program, options)
    return Joined(tuple(cases), compiled)


def merged_units(kernels: Mapping[str, Kernel]) -> tuple[str, ...]:
    """C texts with many kernels each."""
    printed = [print_kernel(kernel, name) for name, kernel in kernels.items()]
    units = []
    for k in range(0, len(printed), _KERNELS_PER_UNIT):
        part = printed[k : k + _KERNELS_PER_UNIT]
        calls = {c for _, own in part for c in own}
        calls |= {("set", width) for _, width in calls if width > 1}
        units.append("\n".join([prelude(calls), *(text for text, _ in part)]))
    return tuple(units)


def network(make: Callable[..., Any], **options: Any) -> Graph:
    """The graph that `make(builder, **options)` builds; it returns its result or results."""
    b = builder()
    results = make(b, **options)
    return b.finish([results] if isinstance(results, Node) else results)
