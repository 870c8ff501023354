"""Which of two ways is faster: Sol's program or the framework's own path.

`race` runs both in turn (A B A B …) within some time, with pauses in between; a `Trial` takes the
times of a user's own calls, each of which runs one of the two. Both give a `Verdict`. The framework
wins only by a clear margin in the minimum *and* the median, so noise changes nothing. Nothing here
knows what is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["sol", "framework"]
Clock = Callable[[], float]

SECONDS = 1.0  # of a race
_MARGIN = 1.05  # how much longer Sol must take to lose
_CLEAR = 1.25  # how much faster Sol must be to need no more rounds, nor another race
_CLEAR_SECONDS = 0.3  # that a victory must last to be clear
_ROUNDS = 3  # that a defeat takes
_MOST_ROUNDS = 25
_PAUSE = 0.004  # seconds before a sample: threads of the other way spin for about so long
_SAMPLE = 0.002  # seconds of one sample: shorter calls are repeated
_MOST_REPEATS = 1000
_TRIAL_SECONDS = 0.02  # of a user's calls by each way, or _TRIAL_CALLS of them
_TRIAL_CALLS = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Seconds of a call by both ways: least and median of some rounds."""

    sol: float
    framework: float
    sol_median: float
    framework_median: float
    rounds: int

    @property
    def winner(self) -> Way:
        """The framework only if it is faster by more than noise."""
        lost = self.sol > _MARGIN * self.framework
        lost = lost and self.sol_median > _MARGIN * self.framework_median
        return "framework" if lost and self.rounds >= _ROUNDS else "sol"

    @property
    def clear(self) -> bool:
        """Whether Sol is so much faster that batches of another size need no measuring."""
        return (
            self.framework > _CLEAR * self.sol and self.framework_median > _CLEAR * self.sol_median
        )

    def text(self, framework: str) -> str:
        """One line; framework: its name."""
        both = f"Sol {_time(self.sol)}, {framework} {_time(self.framework)}, least of {self.rounds}"
        if self.winner == "framework":
            slower = self.sol / self.framework
            return f"{both}: {framework} runs, Sol takes {slower:.2f} times as long"
        return f"{both}: Sol runs, {self.framework / self.sol:.2f} times as fast"


def verdict_of(sol: Sequence[float], framework: Sequence[float]) -> Verdict:
    """From seconds of calls."""
    rounds = min(len(sol), len(framework))
    return Verdict(
        max(min(sol), 1e-9), max(min(framework), 1e-9),
        statistics.median(sol), statistics.median(framework), rounds,
    )  # fmt: skip


def race(
    sol: Callable[[], object],
    framework: Callable[[], object],
    *,
    clock: Clock = time.perf_counter,
    pause: Callable[[float], object] = time.sleep,
    seconds: float = SECONDS,
) -> Verdict:
    """Time both in turn. They have run before.

    pause: waits for some seconds, until the threads of the other way no longer take the cores.

    It ends when the time is over, but a defeat of Sol takes three rounds; or earlier if Sol is
    faster beyond doubt.
    """
    start = clock()
    repeats = [_repeats(_timed(way, 1, clock)) for way in (sol, framework)]
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < _MOST_ROUNDS:
        for way, count, found in zip((sol, framework), repeats, times):
            pause(_PAUSE)
            found.append(_timed(way, count, clock))
        if _decided(verdict_of(*times), clock() - start, seconds):
            break
    return verdict_of(*times)


def _decided(so_far: Verdict, spent: float, seconds: float) -> bool:
    if so_far.clear and so_far.rounds >= 2 and spent > _CLEAR_SECONDS:
        return True
    ahead = so_far.sol <= so_far.framework
    return spent > seconds and (so_far.rounds >= _ROUNDS or ahead)


def _timed(way: Callable[[], object], count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        way()
    return (clock() - start) / count


def _repeats(seconds: float) -> int:
    return max(1, min(_MOST_REPEATS, int(_SAMPLE / max(seconds, 1e-9))))


@dataclass
class Trial:
    """Times of a user's calls, each by one of the ways; the first of each way does not count."""

    times: dict[Way, list[float]] = field(default_factory=lambda: {"sol": [], "framework": []})

    def next(self) -> Way:
        """The way of the next call."""
        return "sol" if len(self.times["sol"]) <= len(self.times["framework"]) else "framework"

    def add(self, way: Way, seconds: float) -> None:
        """What the call took."""
        self.times[way].append(seconds)

    @property
    def verdict(self) -> Verdict | None:
        """None until there are enough calls."""
        sol, framework = (list(self.times[way][1:]) for way in ("sol", "framework"))
        if min(len(sol), len(framework)) < _ROUNDS:
            return None
        long = min(sum(sol), sum(framework)) >= _TRIAL_SECONDS
        enough = long or min(len(sol), len(framework)) >= _TRIAL_CALLS
        return verdict_of(sol, framework) if enough else None


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"
