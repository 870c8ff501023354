"""Calls of a module in training mode: by programs of forward and backward, or by the original.

A `Trainer` belongs to a session. It keeps a program for each signature and each set of modules in
training mode; what cannot be trained by Sol runs the original network, and the reason is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sol.accuracy import Accuracy
from sol.core import config
from sol.core.errors import SolError, UnsupportedError
from sol.pytorch.guard import Guard, shares_memory, unfit
from sol.pytorch.halves import Budget
from sol.pytorch.inputs import signature_of
from sol.pytorch.judge import batch_class
from sol.pytorch.steps import Captured
from sol.pytorch.trace import Signature, describe
from sol.pytorch.training import TrainingProgram
from sol.pytorch.training_race import TrainingJudge
from sol.pytorch.tree import Tree, flatten
from sol.pytorch.watch import Watch
from sol.race import Verdict, Way

if TYPE_CHECKING:
    from sol.pytorch.session import Session

log = logging.getLogger(__name__)

_MOST_PROGRAMS = 8  # kept at a time
_MOST_CAPTURES = 32
WITHOUT = "training mode without gradients (torch.no_grad): call eval()"

Modes = tuple[bool, ...]  # which modules are in training mode
Read = Callable[[Signature], Captured]


@dataclass
class TrainingEntry:
    """A signature in training with its program; by class of batches, the way that is taken, and
    what was measured."""

    tree: Tree
    modes: Modes
    guard: Guard
    program: TrainingProgram
    watch: Watch
    ways: dict[int, Way] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    accuracy: Accuracy | None = None

    @property
    def captured(self) -> Captured:
        """The network of this program."""
        return self.program.captured


class Trainer:
    """Calls of a session's module while it, or a part of it, is in training mode."""

    def __init__(
        self, session: Session, read: Read, judge: TrainingJudge | None, budget: Budget | None
    ) -> None:
        self.entries: list[TrainingEntry] = []
        self.refused: dict[Signature, str] = {}
        self.runs = 0
        self._session, self._read, self._judge, self._budget = session, read, judge, budget
        self._refused: set[tuple[Signature, Modes]] = set()
        self._captures = 0

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the network returns for these arguments, with a gradient history."""
        if not torch.is_grad_enabled():
            return self._session.by_original(WITHOUT, args, kwargs)
        try:
            tensors, tree = flatten((args, dict(sorted(kwargs.items()))))
        except UnsupportedError as error:
            return self._session.by_original(str(error), args, kwargs)
        reason = next(filter(None, map(unfit, tensors)), None)
        if reason is not None:
            return self._session.by_original(reason, args, kwargs)
        entry = self._entry(tensors, tree)
        if entry is None:
            entry, reason = self._made(args, kwargs, tensors)
        if entry is None:
            return self._session.by_original(reason or "", args, kwargs)
        return self._run(entry, tensors, args, kwargs)

    def forget(self) -> None:
        """Drop all programs."""
        self.entries, self.refused, self._refused = [], {}, set()

    def give_memory_back(self) -> None:
        """Keep no memory of finished steps."""
        for pair in (p for entry in self.entries for p in entry.program.pairs):
            pair.give_memory_back()

    # ---- running

    def _run(
        self, entry: TrainingEntry, tensors: Sequence[torch.Tensor], args: Any, kwargs: Any
    ) -> Any:
        batch = entry.guard.batch(tensors)
        if any(isinstance(t, int) for t, _ in entry.captured.mutations) and (
            shares_memory(tensors) or any(t.requires_grad or t.is_leaf for t in tensors)
        ):
            why = "arguments that a network in training writes into"
            return self._session.by_original(why, args, kwargs)
        entry.program.prepare(entry.watch.tensors, entry.watch.values())
        kind = batch_class(batch)
        if kind not in entry.ways:
            self._decide(entry, kind, tensors, batch)
        if entry.ways[kind] == "framework":
            return self._session.silently(args, kwargs)
        self.runs += 1
        given = [t.resolve_neg() if t.is_neg() else t for t in tensors]
        return entry.program.put_together(entry.program.run(given, batch))

    def _decide(
        self, entry: TrainingEntry, kind: int, tensors: Sequence[torch.Tensor], batch: int
    ) -> None:
        entry.ways[kind] = "sol"
        if self._judge is None or any(v.clear for v in entry.verdicts.values()):
            return
        try:
            found = self._judge.measure(self._session, entry, tensors, batch)
        except Exception as error:
            if config.CHECK.get():
                raise
            log.warning("training by Sol and by PyTorch could not be compared: %r", error)
            return
        entry.verdicts[kind] = found
        entry.ways[kind] = "framework" if entry.accuracy and entry.accuracy.wrong else found.winner

    # ---- programs

    def _entry(self, tensors: Sequence[torch.Tensor], tree: Tree) -> TrainingEntry | None:
        for entry in self.entries:
            if not (entry.watch.same_structure() and entry.watch.same_kinds()):
                self._session.forget()
                return None
            fits = entry.tree == tree and entry.modes == entry.watch.modes
            if fits and entry.guard.batch(tensors) > 0:
                return entry
        return None

    def _made(
        self, args: Any, kwargs: Any, tensors: Sequence[torch.Tensor]
    ) -> tuple[TrainingEntry | None, str]:
        """A new program, or the reason why there is none."""
        session = self._session
        signature = signature_of(args, kwargs)[1]
        modes = Watch(session.model, session.fingerprint).modes
        known = signature.of_any_batch()
        if (known, modes) in self._refused:
            return None, self.refused[known]
        try:
            if self._captures >= _MOST_CAPTURES:
                raise UnsupportedError("the call", f"more than {_MOST_CAPTURES} different shapes")
            self._captures += 1
            captured = self._read(signature)
            if Guard(captured.signature, captured.least_batch).batch(tensors) < 0:
                captured = self._read(signature.fixed())
            if not captured.graphs:
                left = "; ".join(f"{e.op}: {e.reason}" for e in captured.left[:3])
                raise UnsupportedError("the network", left or "it computes nothing")
            return self._add(captured, modes), ""
        except Exception as error:  # PyTorch can run it, and `explain` will say why it does
            if config.CHECK.get() and not isinstance(error, SolError):
                raise
            reason = str(error) if isinstance(error, SolError) else repr(error)
            log.info("%s is trained by PyTorch: %s", describe(signature), reason)
            self._refused.add((known, modes))
            self.refused[known] = f"training: {reason}"
            return None, self.refused[known]

    def _add(self, captured: Captured, modes: Modes) -> TrainingEntry:
        session = self._session
        threads = session.threads_wanted
        program = TrainingProgram(captured, session.compile, threads, self._budget)
        keys = [k for k in captured.keys if k not in captured.state]
        watch = Watch(session.model, session.fingerprint, keys, captured.state)
        guard = Guard(captured.signature, captured.least_batch)
        entry = TrainingEntry(captured.signature.tree, modes, guard, program, watch)
        self.entries = [entry, *self.entries][:_MOST_PROGRAMS]
        return entry
