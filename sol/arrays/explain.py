"""What Sol made of a model that is called with arrays, as data that prints itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.accuracy import Rounding
from sol.arrays.captured import Host
from sol.arrays.program import Program
from sol.compiler import Compiled
from sol.core.device import detect
from sol.core.dims import concrete
from sol.ir.graph import Node
from sol.report.explain import explain
from sol.report.machine import peaks
from sol.report.roofline import explain_roofline, joined, lines
from sol.report.text import (
    WIDTH,
    Explanation,
    Outside,
    counted,
    legend,
    outside,
    summary,
    table,
    wrapped,
)
from sol.runtime.threads import count


@dataclass(frozen=True)
class ProgramReport:
    """One program: its signature, the explanation of each part, what is computed elsewhere.

    `parts` are in the order of execution. least: the smallest batch it takes, 0 if the batch is not
    open, for `why_fixed`. rounding: of parts that were compared with strict ones. what: of the
    model it computes, if not its results.
    """

    signature: str
    least: int
    parts: tuple[Any, ...]
    why_fixed: str = ""
    rounding: tuple[Rounding, ...] = ()
    what: str = ""

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """The text, in lines of `width` columns."""
        head = f"program for ({self.signature})" + f", {self.what}" * bool(self.what)
        if self.least > 1:
            head += f", B of at least {self.least}: one image is another network"
        yield from wrapped("", head, width)
        if self.why_fixed:
            yield from wrapped("  ", f"for this batch size only: {self.why_fixed}", width)
        for rounding in dict.fromkeys(map(str, self.rounding)):
            yield from wrapped("  ", rounding, width)
        explained = [p for p in self.parts if isinstance(p, Explanation)]
        rooflines = [p.roofline for p in explained if p.roofline is not None]
        if rooflines:
            yield from lines(joined(rooflines), width)
        else:
            yield from table(self.parts, width)
        if explained:
            yield from summary(explained, width)
        yield from outside([p for p in self.parts if isinstance(p, Outside)], width)


@dataclass(frozen=True)
class Report:
    """All programs of a model."""

    model: str
    programs: tuple[ProgramReport, ...]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """Everything, in lines of `width` columns."""
        return "\n".join(self._lines(width))

    def _lines(self, width: int) -> Iterator[str]:
        yield f"{self.model} by Sol: {counted(len(self.programs), 'program')}"
        yield from (line for p in self.programs for line in p.lines(width))
        explained = [e for p in self.programs for e in p.parts if isinstance(e, Explanation)]
        yield from legend(explained, width)
        if not self.programs:
            yield "nothing was read yet: Sol reads the model at its first call"


def explanation(
    signature: str,
    program: Program,
    least: int,
    batch: int,
    why_fixed: str,
    with_times: bool,
    roofline: bool,
) -> ProgramReport:
    """The report of a program; with times of calls with this batch, if these are asked for."""
    parts: list[Any] = []
    executables = iter(program.executables)
    threads = count(program.options.threads)
    for step in program.captured.steps:
        if isinstance(step, Host):
            parts.append(step.outside)
            continue
        executable = next(executables)
        if not isinstance(executable, Compiled):
            parts.append(Outside("NumPy", "a part", "", "it has values without elements"))
        elif not with_times:
            parts.append(explain(executable))
        else:
            parts.append(_timed(executable, batch, threads, roofline))
    rounding = tuple(r for r in program.rounding if r is not None)
    return ProgramReport(signature, least, tuple(parts), why_fixed, rounding)


def _timed(executable: Compiled, batch: int, threads: int, roofline: bool) -> Explanation:
    graph = executable.graph
    inputs = [_numbers(n, batch) for n in graph.inputs]
    outputs = [_numbers(graph[o], batch) for o in graph.outputs]
    addresses = _addresses(inputs), _addresses(outputs)
    times = executable.profile(*addresses, batch, threads)
    if roofline:
        return explain_roofline(executable, times, batch, peaks(detect(), threads))
    return explain(executable, times)


def _addresses(arrays: Sequence[NDArray[Any]]) -> list[int]:
    return [a.ctypes.data for a in arrays]


def _numbers(node: Node, batch: int) -> NDArray[Any]:
    """An array for a value: small numbers, and 0 where they may be indices."""
    shape = concrete(node.shape, batch)
    if node.dtype.kind != "float":
        return np.zeros(shape, node.dtype.numpy)
    return np.random.default_rng(0).standard_normal(shape).astype(node.dtype.numpy)
