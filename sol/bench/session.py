"""One comparison: every rival made ready in a process of its own, then measured in turn.

Rounds are interleaved: in each, every rival has one turn, in an order that moves on from round to
round, and all others sleep meanwhile. What slows the machine down for a while therefore
slows all of them down, and ratios hold where single times do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sol.bench import rivals
from sol.bench.client import Worker
from sol.bench.protocol import Command, Failed, Job, Message, Ready, Round
from sol.bench.results import Comparison, Measurement
from sol.bench.rivals import Rival
from sol.bench.training import gradient_errors
from sol.core.errors import SolError

# more than this is not another rounding, but another function: such a row has no times
_WRONG = 1e-2
_WRONG_GRADIENT = 0.3  # an activation that rounds to the other side of 0 changes a gradient a lot

Progress = Callable[[str, int, int], None]
"""Called with what happens next, steps done, and steps in all."""


@dataclass(frozen=True)
class Plan:
    """What to measure. `seconds` is the length of one turn; times out are in seconds, too.
    `tune` is seconds for Sol's tuning; `train`: steps of training; `memory`: what Sol may take."""

    rivals: tuple[str, ...]
    threads: int
    rounds: int = 10
    seconds: float = 0.2
    seed: int = 0
    setup_timeout_s: float = 900.0
    turn_timeout_s: float = 300.0
    tune: float = 0.0
    train: bool = False
    memory: str | None = None


class NoReference(SolError):
    """The network does not run in PyTorch in float64, so no error can be measured."""


def compare(spec: str, batch: int, plan: Plan, progress: Progress) -> Comparison:
    """Measure all rivals of the plan on one network. A rival that fails is a row with its reason.

    Raises NoReference if PyTorch itself cannot run the network.
    """
    with tempfile.TemporaryDirectory(prefix="sol-bench-") as folder, ExitStack() as stack:
        session = _Session(spec, batch, plan, Path(folder), stack, progress)
        return session.run()


class _Session:
    """State of one `compare`: the workers that are alive and the rows so far."""

    def __init__(
        self,
        spec: str,
        batch: int,
        plan: Plan,
        folder: Path,
        stack: ExitStack,
        progress: Progress,
    ) -> None:
        self.spec, self.batch, self.plan = spec, batch, plan
        self.folder, self.stack, self.progress = folder, stack, progress
        self.steps = 1 + len(plan.rivals) + plan.rounds
        self.done = 0
        self.reference: list[rivals.Array] = []
        self.parameters = 0
        self.rows: dict[str, Measurement] = {}
        self.workers: dict[str, Worker] = {}

    def run(self) -> Comparison:
        self._step("float64 reference")
        self._make_reference()
        for name in self.plan.rivals:
            self._step(f"{name} gets ready")
            self.rows[name] = self._make_ready(rivals.find(name))
        for number in range(self.plan.rounds):
            self._step(f"round {number + 1} of {self.plan.rounds}")
            self._round(number)
        self.progress("done", self.steps, self.steps)
        rows = tuple(self.rows.values())
        train = self.plan.train
        return Comparison(self.spec, self.batch, self.plan.threads, self.parameters, rows, train)

    def _step(self, text: str) -> None:
        self.progress(text, self.done, self.steps)
        self.done += 1

    def _make_reference(self) -> None:
        worker, answer = self._start(rivals.REFERENCE, "reference")
        worker.end(now=True)
        if not isinstance(answer, Ready):
            raise NoReference(
                f"{self.spec} does not run in PyTorch in float64: {_reason(answer)}",
                do="check the name, and that the model runs by itself",
            )
        self.reference = _outputs(self.folder / "reference")
        self.parameters = answer.parameters

    def _make_ready(self, rival: Rival) -> Measurement:
        """Set a rival up, twice if it has a cache on disk, and leave its worker asleep."""
        missing = rival.missing()
        if missing:
            what = "is" if len(missing) == 1 else "are"
            return Measurement(rival.name, f"{', '.join(missing)} {what} not installed")
        worker, answer = self._start(rival, f"{rival.name}-cold")
        cold = answer
        if rival.caches and isinstance(cold, Ready):
            worker.end()
            worker, answer = self._start(rival, f"{rival.name}-warm")
        if not isinstance(answer, Ready) or not isinstance(cold, Ready):
            worker.end(now=True)
            return Measurement(rival.name, _reason(answer))
        found, train = _outputs(Path(worker.job.folder)), self.plan.train
        off = _error_of_gradients if train else _error
        error = off(found, self.reference)
        if not error <= (_WRONG_GRADIENT if train else _WRONG):  # a NaN is wrong, too
            worker.end(now=True)
            return Measurement(rival.name, f"wrong result: error {error:.1e}", error=error)
        worker.sleep()
        self.workers[rival.name] = self.stack.enter_context(worker)
        return Measurement(
            rival.name,
            error=error,
            call_bytes=answer.call_bytes,
            held_bytes=answer.held_bytes,
            setup_cold_s=cold.setup_s,
            setup_warm_s=answer.setup_s if rival.caches else None,
            note=answer.note,
        )

    def _start(self, rival: Rival, name: str) -> tuple[Worker, Message]:
        folder = self.folder / name
        folder.mkdir()
        environment = {}
        for variable in rival.caches:
            cache = self.folder / f"{rival.name}-{variable}"
            cache.mkdir(mode=0o700, exist_ok=True)
            environment[variable] = str(cache)
        plan = self.plan
        names = (self.spec, self.batch, rival.name)
        asked = (plan.tune, plan.train, plan.memory)
        job = Job(*names, plan.threads, plan.seed, str(folder), *asked)
        worker = Worker(job, environment)
        try:
            return worker, worker.answer(plan.setup_timeout_s)
        except BaseException:
            worker.end(now=True)
            raise

    def _round(self, number: int) -> None:
        """One turn for everybody; who begins changes from round to round."""
        for name in _rotated(list(self.workers), number):
            worker = self.workers[name]
            worker.wake()
            answer = worker.ask(Command("round", self.plan.seconds), self.plan.turn_timeout_s)
            if isinstance(answer, Round):
                worker.sleep()
                times = self.rows[name].times_ms + answer.times_ms
                self.rows[name] = replace(self.rows[name], times_ms=times)
            else:
                del self.workers[name]
                self.rows[name] = Measurement(name, _reason(answer))


def _rotated(names: Sequence[str], by: int) -> list[str]:
    """[a, b, c] by 1 -> [b, c, a]."""
    first = by % len(names) if names else 0
    return [*names[first:], *names[:first]]


def _reason(answer: Message) -> str:
    return answer.reason if isinstance(answer, Failed) else f"unexpected answer {answer!r}"


def _outputs(folder: Path) -> list[rivals.Array]:
    """Outputs that a worker saved; the file goes, since some are large."""
    path = folder / "output.npz"
    with np.load(path) as saved:
        arrays = [saved[f"arr_{k}"] for k in range(len(saved.files))]
    path.unlink()
    return arrays


def _error(found: list[rivals.Array], expected: list[rivals.Array]) -> float:
    """max |found - expected| / max |expected| over the worst output; infinite if shapes differ."""
    if [a.size for a in found] != [e.size for e in expected]:
        return float("inf")
    worst = 0.0
    for a, e in zip(found, expected):
        scale = float(np.abs(e).max(initial=0.0)) or 1.0
        difference = np.abs(a.reshape(e.shape).astype(np.float64) - e).max(initial=0.0)
        worst = float(np.maximum(worst, difference / scale))  # keeps a NaN
    return worst


def _error_of_gradients(found: list[rivals.Array], expected: list[rivals.Array]) -> float:
    """That of the worst one (training.py)."""
    return float(np.max(gradient_errors(found, expected)))
