"""Never slower, and never off unnoticed: Sol's program is measured against PyTorch's own path, and
its results are compared, once for each network, batch class and machine.

A `Judge` belongs to a session. `optimize` lets it `measure` on the example; where a batch of
another class comes, it times the user's own calls, so that nothing is ever computed twice. A batch
class is all batches of as many binary digits. What was found is kept in the cache of captures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import torch

from sol import findings
from sol.accuracy import Accuracy
from sol.core.device import detect
from sol.core.keys import content_key
from sol.pytorch import connect
from sol.pytorch.accuracy import difference, own_error
from sol.pytorch.inputs import signature_of
from sol.pytorch.program import Compile, Program
from sol.pytorch.trace import describe
from sol.pytorch.tree import flatten
from sol.race import SECONDS, Clock, Trial, Verdict, race

if TYPE_CHECKING:
    from sol.pytorch.session import Entry, Session

log = logging.getLogger(__name__)
_OWN = "PyTorch"


class Judge:
    """stricter: compilers by precision, those that round less than what is asked for; options: of
    the user, as a text."""

    def __init__(
        self, stricter: Mapping[str, Compile], options: str = "", *,
        clock: Clock = time.perf_counter, seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self.clock = clock
        self._stricter, self._options, self._seconds = stricter, options, seconds

    # ---- on an example

    def measure(self, session: Session, entry: Entry, args: Any, kwargs: Any) -> None:
        """Compare and time both ways on arguments that are there for that."""
        if not measurable(entry):
            return
        batch = entry.guard.batch(signature_of(args, kwargs)[0])
        entry.accuracy = self._recalled_accuracy(session, entry)
        with torch.no_grad():
            if entry.accuracy is None:
                with session.forced("framework"):
                    own = session(args, kwargs)
                self.compare(session, entry, args, kwargs, own)
            elif entry.accuracy.precision in self._stricter:
                entry.program = self._again(session, entry, entry.accuracy.precision)
            known = self.recalled(entry, batch)
            if known is None and not entry.wrong:
                known = self._race(session, args, kwargs)
                self._keep(entry, batch, known)
        if known is not None:
            entry.decide(batch, known)
        connect.give_memory_back()

    def _race(self, session: Session, args: Any, kwargs: Any) -> Verdict:
        def sol() -> None:
            with session.forced("sol"):
                session(args, kwargs)

        def pytorch() -> None:
            with session.forced("framework"):
                session(args, kwargs)

        sol()
        pytorch()
        return race(sol, pytorch, clock=self.clock, seconds=self._seconds)

    # ---- results

    def compare(self, session: Session, entry: Entry, args: Any, kwargs: Any, own: Any) -> None:
        """Compare Sol's results with PyTorch's `own`; compile again if they differ too much."""
        if not measurable(entry):
            return
        expected = flatten(own)[0]
        tensors = signature_of(args, kwargs)[0]

        results = session.computed(entry, tensors)
        found = Accuracy(difference(results, expected))
        programs: dict[str, Program] = {"default": entry.program}

        def again(precision: str) -> Sequence[torch.Tensor]:
            programs[precision] = entry.program = self._again(session, entry, precision)
            return session.computed(entry, tensors)

        if found.suspect and self._stricter:
            plain = again("strict")
            own = own_error(results, expected, plain)
            found = Accuracy(found.error, difference(plain, expected), own)
            if found.precision == "strict" and "careful" in self._stricter:
                careful = again("careful")
                found = replace(
                    found,
                    careful=own_error(careful, expected, plain),
                    exact=own_error(plain, expected, careful),
                )
            entry.program = programs[found.precision]
        if found.far:
            log.warning("%s by Sol: %s", describe(entry.captured.signature), found.text(_OWN))
        entry.accuracy = found
        self._keep_accuracy(session, entry, programs["default"], found)

    def _again(self, session: Session, entry: Entry, precision: str) -> Program:
        return Program(entry.captured, self._stricter[precision], session.threads_wanted)

    # ---- a user's calls

    def trial(self, entry: Entry, batch: int) -> Trial | None:
        """The trial of a batch class; None if it is decided without one."""
        kind = batch_class(batch)
        trial = entry.trials.get(kind)
        if trial is not None:
            return trial
        known = self.recalled(entry, batch)
        if entry.wrong:
            entry.ways[kind] = "framework"
        elif known is not None:
            entry.decide(batch, known)
        elif not measurable(entry) or any(v.clear for v in entry.verdicts.values()):
            entry.ways[kind] = "sol"
        else:
            return entry.trials.setdefault(kind, Trial())
        return None

    def after(self, entry: Entry, batch: int, trial: Trial) -> None:
        """A call of a trial was timed: it may be decided."""
        verdict = trial.verdict
        if verdict is not None:
            entry.decide(batch, verdict)
            self._keep(entry, batch, verdict)

    # ---- what is remembered

    def recalled(self, entry: Entry, batch: int) -> Verdict | None:
        """What was measured before, by this process or another one."""
        found = findings.find(self._key(entry, batch))
        return None if found is None else Verdict(*found)

    def _keep(self, entry: Entry, batch: int, verdict: Verdict) -> None:
        findings.keep(self._key(entry, batch), astuple(verdict))

    def _key(self, entry: Entry, batch: int) -> str:
        """Names the network, its compiled kernels, the machine, threads and batch class."""
        if not entry.captured.key:
            return ""
        device = detect()
        machine = (device.name, device.identity, f"{entry.program.threads()} threads")
        parts = [*_kernels(entry.program), self._options, *machine, f"class {batch_class(batch)}"]
        return content_key("race", entry.captured.key, *parts)

    def _recalled_accuracy(self, session: Session, entry: Entry) -> Accuracy | None:
        found = findings.find(self._accuracy_key(session, entry, entry.program))
        return None if found is None else Accuracy(*found)

    def _keep_accuracy(
        self, session: Session, entry: Entry, first: Program, found: Accuracy
    ) -> None:
        findings.keep(self._accuracy_key(session, entry, first), astuple(found))

    def _accuracy_key(self, session: Session, entry: Entry, program: Program) -> str:
        """The same network with other weights may differ more."""
        if not entry.captured.key:
            return ""
        parts = [*_kernels(program), self._options, str(session.content())]
        return content_key("accuracy", entry.captured.key, *parts)


def batch_class(batch: int) -> int:
    """Batches of one class are treated alike: 1, 2 to 3, 4 to 7, 8 to 15, …"""
    return batch.bit_length()


def measurable(entry: Entry) -> bool:
    """Whether a network may run twice, and gives the same then."""
    return not entry.captured.mutations and not entry.captured.random


def _kernels(program: Program) -> list[str]:
    return [connect.identity(e) for e in program.executables]
