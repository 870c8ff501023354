"""`model.sol`: what Sol made of a network, and how it can be asked.

`report` is everything as data, `explain()` as text; `check(…)` compares with the original in
float32 and float64; `memory` says what a call needs before it runs; `graphs` are what Sol read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sol.ir.graph import Graph
from sol.pytorch import connect
from sol.pytorch.check import Check, check
from sol.pytorch.explain import Measured, Memory, ProgramReport, Report, StepMemory
from sol.pytorch.steps import Captured, SolStep
from sol.pytorch.trace import describe
from sol.report.text import WIDTH, Outside

if TYPE_CHECKING:
    from sol.pytorch.pair import Pair
    from sol.pytorch.session import Entry, Session
    from sol.pytorch.trainer import TrainingEntry
    from sol.pytorch.training import TrainingProgram


class Handle:
    """Explanations, checks and numbers of one optimised module."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every cluster, its layers, how it is computed and why, its time; what stays in PyTorch
        and why; in lines of `width` columns. Runs the programs a few times on numbers of its own.

        roofline: clusters against what the machine can do, those that lose most time first.
        """
        return self._report(with_times=True, roofline=roofline).text(width)

    @property
    def report(self) -> Report:
        """What `explain` says, as data and without times."""
        return self._report(with_times=False)

    def check(self, *args: Any, **kwargs: Any) -> Check:
        """Compare Sol's result for these arguments with PyTorch's, and both with float64."""
        return check(self._session, args, kwargs)

    @property
    def memory(self) -> Memory:
        """Bytes beside weights, inputs and outputs, for the batch of the example."""
        entry = self._session.entries[0] if self._session.entries else None
        if entry is None:
            return Memory(0, torch.get_num_threads(), 0, 0)
        self._session.ready(entry)
        threads = entry.program.threads()
        executables, batch = entry.program.executables, _batch(entry)
        packed = sum(connect.packed_bytes(e) for e in executables)
        arenas = [
            connect.memory_bytes(e, batch, threads) - connect.packed_bytes(e) for e in executables
        ]
        return Memory(batch, threads, max(arenas, default=0), packed)

    @property
    def captured(self) -> Captured | None:
        """The network as it was read for the program that was made last."""
        return self._session.entries[0].captured if self._session.entries else None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs of that program: one if Sol takes the network whole."""
        return self.captured.graphs if self.captured is not None else ()

    def reset(self) -> None:
        """Forget all programs: for changes that Sol does not watch, in attributes of submodules."""
        self._session.forget()

    def give_memory_back(self) -> None:
        """Keep nothing between calls but programs: arenas, what steps of training kept, and in
        training packed weights go back to the system. The next call takes them anew."""
        self._session.trainer.give_memory_back()
        connect.give_memory_back()

    def _report(self, with_times: bool, roofline: bool = False) -> Report:
        session = self._session
        for entry in session.entries:
            session.ready(entry)
        trainer = session.trainer
        refusals = (*session.refused.items(), *trainer.refused.items())
        refused = {describe(s): reason for s, reason in refusals}
        return Report(
            type(session.model).__name__,
            tuple(_program(e, with_times, roofline) for e in session.entries)
            + tuple(_training(e, with_times, roofline) for e in trainer.entries),
            tuple(sorted(refused.items())),
            tuple(session.fallbacks.most_common()),
            tuple(s.handle._report(with_times, roofline) for s in session.part_sessions),
        )


def _batch(entry: Entry | TrainingEntry) -> int:
    """The batch of the example that a program was made for."""
    tensors = entry.captured.signature.tensors
    return next((t.shape[0] for t in tensors if t.batched), 1)


def _program(entry: Entry, with_times: bool, roofline: bool) -> ProgramReport:
    captured, batch = entry.captured, _batch(entry)
    parts: list[Any] = []
    executables = iter(entry.program.executables)
    for step in captured.steps:
        if isinstance(step, SolStep):
            executable = next(executables)
            threads = entry.program.threads() if with_times else 0
            parts.append(connect.explanation(executable, step.graph, batch, threads, roofline))
        elif not step.view:
            parts.append(Outside("PyTorch", step.target, step.origin, step.reason))
    return ProgramReport(
        describe(captured.signature), captured.least_batch, tuple(parts), captured.left,
        captured.why_fixed, _measured(entry), entry.accuracy,
    )  # fmt: skip


def _training(entry: TrainingEntry, with_times: bool, roofline: bool) -> ProgramReport:
    """Forward and backward programs of each step."""
    captured, program = entry.captured, entry.program
    threads, batch = program.threads(), _batch(entry)
    parts: list[Any] = []
    pairs = {id(pair.source): pair for pair in entry.program.pairs}
    for step in captured.steps:
        if isinstance(step, SolStep):
            pair = pairs.get(id(step.graph))
            if pair is not None:
                parts += _halves(program, pair, batch, threads if with_times else 0, roofline)
        elif not step.view:
            parts.append(Outside("PyTorch", step.target, step.origin, step.reason))
    return ProgramReport(
        f"{describe(captured.signature)} in training", captured.least_batch, tuple(parts),
        captured.left, captured.why_fixed, _measured(entry), entry.accuracy,
        tuple(
            StepMemory(
                batch, p.kept_bytes(batch), p.need(batch, threads), p.again, p.again_share
            )
            for p in program.pairs
        ),
    )  # fmt: skip


def _halves(
    program: TrainingProgram, pair: Pair, batch: int, threads: int, roofline: bool
) -> list[Any]:
    """Explanations of a step's two programs; with times if threads are given."""
    found = []
    for executable, graph in pair.parts:
        if threads:
            program.make_ready(pair, executable)
        found.append(connect.explanation(executable, graph, batch, threads, roofline))
    return found


def _measured(entry: Entry | TrainingEntry) -> tuple[Measured, ...]:
    found = sorted(entry.verdicts.items())
    if not entry.captured.signature.symbolic:
        return tuple(Measured(0, 0, verdict) for _, verdict in found)
    return tuple(Measured(1 << (kind - 1), (1 << kind) - 1, verdict) for kind, verdict in found)
