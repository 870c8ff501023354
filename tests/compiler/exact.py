"""A program whose every buffer is a tensor of the caller, exactly as large as planned.

`Exact` compiles it together with exact.c and the runtime under the compiler's sanitizers, and runs
it in a process of its own: an access outside of any buffer, intermediate or scratch ends it, and
memory that is read before it is written makes results wrong.
"""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sol.backends.c import Step, Table, TableBuffer, abi_header, table_unit
from sol.backends.compilers import Compiler, find_compiler
from sol.backends.toolchain import FLAGS, device_flags
from sol.compiler import Compiled, Made, Options, print_program
from sol.core.device import CpuDevice
from sol.core.dims import coefficients, evaluate
from sol.lower.cluster import Lowered
from sol.plan.planner import Planned
from sol.runtime.native import UNITS, source
from tests.compiler.programs import Case, Joined, join, merged_units, planned_steps

Array = NDArray[Any]
_CHECKS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1", "-O0", "-w")


@dataclass
class Exact:
    """Cases with kernels and the numbers of their tensors: inputs, results, weights, the rest."""

    joined: Joined
    planned: Planned
    calls: tuple[Lowered, ...]
    tensors: tuple[str, ...]
    functions: tuple[str, ...]

    @staticmethod
    def of(cases: Sequence[Case], device: CpuDevice, optimise: bool = False) -> Exact:
        """Everything but the compiled program."""
        graph = join(cases)
        planned, made = planned_steps(graph, device, optimise)
        external, printed = print_program(planned, made)
        calls = tuple(call for m in made for call in m.calls)
        rest = [b for call in calls for b in call.buffers if b not in external]
        compiled = _without_program(graph, planned, made, external, printed)
        tensors = (*external, *dict.fromkeys(rest))
        return Exact(Joined(tuple(cases), compiled), planned, calls, tensors, printed.functions)

    def units(self) -> list[str]:
        """C texts: kernels, the table, exact.c and the runtime."""
        kernels = dict(zip(self.functions, (c.kernel for c in self.calls)))
        arguments = dict.fromkeys(a for call in self.calls for a in call.arguments)
        rows = []
        for name, shift in arguments:
            coef, constant = coefficients(shift)
            rows.append(TableBuffer("external", self.tensors.index(name), coef, constant))
        scratch = max((c.kernel.scratch for c in self.calls), default=0)
        together = ((0, len(self.calls), False),)
        nothing = (0, 0)  # there is neither an arena nor memory of one image
        table = Table(
            tuple(rows), len(self.tensors), together, nothing, nothing, scratch, splittable=False
        )
        numbers = {a: k for k, a in enumerate(arguments)}
        steps = [Step(c.kernel, tuple(numbers[a] for a in c.arguments)) for c in self.calls]
        main = abi_header() + (Path(__file__).parent / "exact.c").read_text()
        runtime = [source(name) for name in UNITS]
        return [*merged_units(kernels), table_unit(steps, self.functions, table), main, *runtime]

    def content(self, batch: int) -> bytes:
        """The file that exact.c reads."""
        inputs, parameters = self.joined.arrays(batch)
        self.joined.compiled.prepare(parameters)
        weights = self.joined.compiled.weights
        known = dict(zip((n.name for n in self.planned.plan.graph.inputs), inputs))
        known |= dict(zip(self.tensors[self.joined.compiled._offset :], weights))
        parts = []
        for name in self.tensors:
            given = name in known
            size = known[name].nbytes if given else self._bytes(name, batch)
            parts.append(struct.pack("2q", size, given))
            parts.append(known[name].tobytes() if given else b"")
        parts.extend(struct.pack("q", call.kernel.scratch) for call in self.calls)
        return b"".join(parts)

    def _bytes(self, name: str, batch: int) -> int:
        buffer = self.planned.plan.buffers[name]
        return evaluate(buffer.size, batch) * buffer.dtype.bytes

    def results(self, content: bytes, batch: int) -> list[list[Array]]:
        """The results of every case from the tensors that exact.c writes."""
        graph, start, found = self.planned.plan.graph, 0, {}
        given = {n.name: n for n in graph.inputs}
        weights = dict(
            zip(self.tensors[self.joined.compiled._offset :], self.joined.compiled.weights)
        )
        for name in self.tensors:
            if name in weights:
                start += weights[name].nbytes
                continue
            node = given[name] if name in given else graph[name]
            size = self._bytes(name, batch)
            shape = tuple(evaluate(s, batch) for s in node.shape)
            if name in graph.outputs:
                part = np.frombuffer(content[start : start + size], node.dtype.numpy)
                found[name] = part.reshape(shape)
            start += size
        rest = iter(found[o] for o in graph.outputs)
        return [[next(rest) for _ in case.graph.outputs] for case in self.joined.cases]


def _without_program(
    graph: Any, planned: Planned, made: tuple[Made, ...], tensors: tuple[str, ...], printed: Any
) -> Compiled:
    """For its parameters only."""
    return Compiled(graph, planned, made, tensors, printed, None, Options())  # type: ignore[arg-type]


def link(units: Sequence[str], device: CpuDevice, folder: Path) -> Path:
    """The executable under sanitizers; skips the test where there are none."""
    reason = _without_sanitizers(find_compiler())
    if reason:
        pytest.skip(reason)
    flags = [*FLAGS, *device_flags(find_compiler(), device)]
    with ThreadPoolExecutor(device.cores) as pool:
        objects = list(
            pool.map(
                lambda number: _compile(units[number], flags, folder / f"{number}.c"),
                range(len(units)),
            )
        )
    return _link(objects, folder / "exact")


@functools.cache
def _without_sanitizers(compiler: Compiler) -> str:
    """Why programs cannot be made or run with this compiler's sanitizers, or nothing."""
    with tempfile.TemporaryDirectory() as name:
        unit = Path(name) / "unit.c"
        try:
            program = _link([_compile("int main(void) { return 0; }", [], unit)], Path(name) / "x")
            _run([str(program)])
        except AssertionError as error:
            return f"{compiler.describe()} has no sanitizers: {error}"
    return ""


def _compile(text: str, flags: Sequence[str], path: Path) -> Path:
    path.write_text(text)
    target = path.with_suffix(".o")
    _run([*find_compiler().command, *flags, *_CHECKS, "-c", str(path), "-o", str(target)])
    return target


def _link(objects: Sequence[Path], target: Path) -> Path:
    command = [*find_compiler().command, *_CHECKS, "-pthread", *map(str, objects)]
    _run([*command, "-o", str(target), "-lm"])
    return target


def _run(command: Sequence[str]) -> None:
    """Run a compiler or a program to its end; AssertionError with what it said if it fails."""
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # which not every container allows
        check=False,
    )
    assert run.returncode == 0, run.stderr[:4000]


def run_exact(
    exact: Exact, program: Path, batch: int, folder: Path
) -> tuple[list[list[Array]], list[list[Array]]]:
    """The results of the steps one by one, and of the runtime on two threads.

    AssertionError with the report if a sanitizer finds a fault.
    """
    (folder / "input").write_bytes(exact.content(batch))
    _run([str(program), str(folder / "input"), str(folder / "output"), str(batch)])
    content = (folder / "output").read_bytes()
    half = len(content) // 2
    return exact.results(content[:half], batch), exact.results(content[half:], batch)
