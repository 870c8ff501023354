"""What Sol made of a module, as data that prints itself: programs, what stayed in PyTorch, calls
that ran there, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sol.accuracy import Accuracy
from sol.pytorch import connect
from sol.pytorch.steps import Left
from sol.race import Verdict
from sol.report.text import (
    WIDTH,
    Explanation,
    Outside,
    counted,
    legend,
    outside,
    size,
    summary,
    table,
    wrapped,
)

_MOST_LINES = 20


@dataclass(frozen=True)
class Measured:
    """What was measured for batches from `least` to `most`: who won, and by how much.

    Both are 0 if the program is for one batch size only.
    """

    least: int
    most: int
    verdict: Verdict

    def __str__(self) -> str:
        batch = str(self.least) if self.least == self.most else f"{self.least} to {self.most}"
        found = self.verdict.text("PyTorch")
        return f"batch {batch}: {found}" if self.most else found


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step of training with this batch: kept from the forward to the backward program,
    needed in all beside weights, gradients and results; contractions that are computed again, and
    their share of the operations of all in the forward program."""

    batch: int
    kept: int
    need: int
    again: int
    share: float

    def __str__(self) -> str:
        text = f"a step with batch {self.batch} keeps {size(self.kept)}, needs {size(self.need)}"
        again = f"; for the memory budget it computes {self.again} layers again"
        again += f", {100 * self.share:.0f} % of the forward operations"
        return text + again * (self.again > 0)


@dataclass(frozen=True)
class ProgramReport:
    """One program: its signature, the explanation of each part, what is left to PyTorch.

    `parts` are in the order of execution: explanations of compiled graphs, or lines about PyTorch.
    measured: Sol against PyTorch, by class of batches; accuracy: how far the results differ;
    training: memory of each step of Sol in training.
    """

    signature: str
    least_batch: int
    parts: tuple[Any, ...]
    left: tuple[Left, ...]
    why_fixed: str
    measured: tuple[Measured, ...] = ()
    accuracy: Accuracy | None = None
    training: tuple[StepMemory, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """The text, in lines of `width` columns."""
        head = f"program for {self.signature}"
        if "B" in self.signature and self.least_batch > 1:
            head += f", B of at least {self.least_batch}: one image is another network"
        yield from wrapped("", head, width)
        if self.why_fixed:
            yield from wrapped("  ", f"for this batch size only: {self.why_fixed}", width)
        for measured in self.measured:
            yield from wrapped("  ", str(measured), width)
        if self.accuracy is not None:
            yield from wrapped("  ", self.accuracy.text("PyTorch"), width)
        for step in self.training:
            yield from wrapped("  ", str(step), width)
        explained = [p for p in self.parts if isinstance(p, Explanation)]
        yield from connect.roofline_text(explained, width) or table(self.parts, width)
        if explained:
            yield from summary(explained, width)
        yield from outside([p for p in self.parts if isinstance(p, Outside)], width)


@dataclass(frozen=True)
class Report:
    """Everything about one optimised module.

    refused: (signature, reason) of calls that Sol has no program for; fallbacks: (reason, count)
    of calls that ran the original; parts: of a network that cannot be read whole, those that
    torch.compile has handed to Sol.
    """

    model: str
    programs: tuple[ProgramReport, ...]
    refused: tuple[tuple[str, str], ...]
    fallbacks: tuple[tuple[str, int], ...]
    parts: tuple[Report, ...]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """Everything, in lines of `width` columns."""
        return "\n".join(self._lines(width))

    def _lines(self, width: int) -> Iterator[str]:
        yield f"{self.model} by Sol: {counted(len(self.programs), 'program')}"
        yield from (line for p in self.programs for line in p.lines(width))
        yield from _refused(self, width)
        for number, part in enumerate(self.parts):
            yield f"part {number} of these calls, cut out by torch.compile:"
            yield from (line for p in part.programs for line in p.lines(width))
            yield from _refused(part, width)
        for reason, count in self.fallbacks[:_MOST_LINES]:
            calls = counted(count, "call")
            yield from wrapped("", f"{calls} ran the original: {reason}", width)
        programs = [*self.programs, *(p for part in self.parts for p in part.programs)]
        explained = [e for p in programs for e in p.parts if isinstance(e, Explanation)]
        yield from legend(explained, width)
        if not self.programs and not self.refused:
            yield "nothing was read yet: Sol reads the model at its first call"


def _refused(report: Report, width: int) -> Iterator[str]:
    for signature, reason in report.refused[:_MOST_LINES]:
        yield from wrapped("", f"in PyTorch, {signature}: {reason}", width)


@dataclass(frozen=True)
class Memory:
    """Bytes that Sol needs: of the arena of a call with this batch and threads, and of packed
    weights, which stay."""

    batch: int
    threads: int
    arena: int
    packed: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.arena + self.packed

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        call = f"a call with batch {self.batch} and {threads} needs {size(self.arena)}"
        return f"{call} for intermediate values; packed weights take {size(self.packed)}"
