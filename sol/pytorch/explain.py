"""What Sol made of a module, as data that prints itself: programs, what stayed in PyTorch, calls
that ran there, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sol.pytorch.accuracy import Accuracy
from sol.pytorch.race import Verdict
from sol.pytorch.steps import Left

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
        return f"batch {batch}: {self.verdict}" if self.most else str(self.verdict)


@dataclass(frozen=True)
class ProgramReport:
    """One program: its signature, the explanation of each part, what is left to PyTorch.

    `parts` are in the order of execution: explanations of compiled graphs, or lines about PyTorch.
    measured: Sol against PyTorch, by class of batches; accuracy: how far the results differ.
    """

    signature: str
    least_batch: int
    parts: tuple[Any, ...]
    left: tuple[Left, ...]
    why_fixed: str
    measured: tuple[Measured, ...] = ()
    accuracy: Accuracy | None = None

    def __str__(self) -> str:
        head = f"program for {self.signature}"
        if "B" in self.signature and self.least_batch > 1:
            head += f", B of at least {self.least_batch}: one image is another network"
        if self.why_fixed:
            head += f"\n  for this batch size only: {self.why_fixed}"
        head += "".join(f"\n  {m}" for m in self.measured)
        if self.accuracy is not None:
            head += f"\n  {self.accuracy}"
        left = f"{len(self.left)} operators stay in PyTorch" if self.left else ""
        return "\n".join(filter(None, [head, *map(str, self.parts), left]))


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
        lines = [f"{self.model} by Sol: {len(self.programs)} programs"]
        lines += [str(p) for p in self.programs]
        lines += [f"in PyTorch, {s}: {reason}" for s, reason in self.refused[:_MOST_LINES]]
        for number, part in enumerate(self.parts):
            lines.append(f"part {number} of these calls, cut out by torch.compile:")
            lines += [str(p) for p in part.programs]
            lines += [f"in PyTorch, {s}: {reason}" for s, reason in part.refused]
        lines += [
            f"{count} calls ran the original: {r}" for r, count in self.fallbacks[:_MOST_LINES]
        ]
        if not self.programs and not self.refused:
            lines.append("nothing was read yet: Sol reads the model at its first call")
        return "\n".join(lines)


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
        call = f"a call with batch {self.batch} and {threads} needs {_bytes(self.arena)}"
        return f"{call} for intermediate values; packed weights take {_bytes(self.packed)}"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
