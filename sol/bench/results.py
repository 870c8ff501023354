"""The records of a benchmark and their JSON: what was measured, on what, with which versions.

A `Measurement` is one rival on one network at one batch size; a `Comparison` is all of them; a
`Benchmark` is everything one command measured. Ratios are time of the rival over time of the
baseline: above 1, the baseline is faster.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One row. `reason` says why nothing was measured; all else is then empty.

    `error` is the largest absolute difference to the network in float64 over the largest absolute
    output; of steps of training, that of gradients (training.py). `setup_cold_s` is with empty
    caches on disk, `setup_warm_s` in a second process; it is None for a rival that keeps nothing on
    disk.
    """

    rival: str
    reason: str = ""
    times_ms: tuple[float, ...] = ()
    error: float | None = None
    call_bytes: int | None = None
    held_bytes: int | None = None
    setup_cold_s: float | None = None
    setup_warm_s: float | None = None
    note: str = ""

    @property
    def min_ms(self) -> float | None:
        """The fastest call: what the machine can do when nothing else disturbs it."""
        return min(self.times_ms, default=None)

    @property
    def median_ms(self) -> float | None:
        """The middle one: what a user sees."""
        return statistics.median(self.times_ms) if self.times_ms else None


@dataclass(frozen=True)
class Comparison:
    """All rivals on one network at one batch size; `train`: on steps of training."""

    network: str
    batch: int
    threads: int
    parameters: int
    measurements: tuple[Measurement, ...]
    train: bool = False

    def of(self, rival: str) -> Measurement | None:
        """The row of that rival."""
        return next((m for m in self.measurements if m.rival == rival), None)

    def ratio(self, rival: str, baseline: str) -> float | None:
        """Fastest call of `rival` over that of `baseline`; None if either did not run."""
        ours, theirs = self.of(baseline), self.of(rival)
        if ours is None or theirs is None or not ours.min_ms or theirs.min_ms is None:
            return None
        return theirs.min_ms / ours.min_ms


@dataclass(frozen=True)
class Benchmark:
    """Everything that one command measured."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    comparisons: tuple[Comparison, ...] = field(default=())

    def baseline(self) -> str:
        """Who the ratios refer to: the first rival that ran at all, Sol as a rule."""
        for rival in self.rivals():
            rows = (c.of(rival) for c in self.comparisons)
            if any(row is not None and row.times_ms for row in rows):
                return rival
        return ""

    def rivals(self) -> list[str]:
        """All names, in the order in which they were asked for."""
        return list(dict.fromkeys(m.rival for c in self.comparisons for m in c.measurements))

    def mean_ratio(self, rival: str, baseline: str) -> tuple[float | None, int]:
        """Geometric mean of the ratios, and over how many comparisons it is."""
        ratios = [c.ratio(rival, baseline) for c in self.comparisons]
        known = [r for r in ratios if r is not None]
        return geometric_mean(known), len(known)

    def as_json(self) -> dict[str, Any]:
        """A tree that `json` can write; derived figures are included for readers."""
        base = self.baseline()
        return {
            "machine": self.machine,
            "versions": self.versions,
            "settings": self.settings,
            "baseline": base,
            "comparisons": [_comparison_json(c, base) for c in self.comparisons],
            "mean_ratio": {
                rival: dict(zip(("ratio", "networks"), self.mean_ratio(rival, base)))
                for rival in self.rivals()
            },
        }


def geometric_mean(values: Iterable[float]) -> float | None:
    """exp(mean(log x)); None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else None


def _comparison_json(comparison: Comparison, baseline: str) -> dict[str, Any]:
    rows = [
        {
            **asdict(m),
            "error": m.error if m.error is not None and math.isfinite(m.error) else None,
            "min_ms": m.min_ms,
            "median_ms": m.median_ms,
            "ratio": comparison.ratio(m.rival, baseline),
        }
        for m in comparison.measurements
    ]
    return {**asdict(comparison), "measurements": rows}
