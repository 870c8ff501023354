"""Which of several methods is the fastest, from times with noise. Nothing here knows what is timed.

A method wins only if it is faster than the default by a margin in the least of its times *and* in
their median: the least alone is luck, the median alone is what else the machine does.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

_MARGIN = 1.03  # how much faster than the default a method must be
FEWEST = 3  # times of each that a decision takes


def gain(default: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast the other is: by the least or by the median, whichever says less.

    0 if there are too few times.
    """
    if min(len(default), len(other)) < FEWEST:
        return 0.0
    least = min(default) / max(min(other), 1e-9)
    return min(least, statistics.median(default) / max(statistics.median(other), 1e-9))


def winner(times: Mapping[int, Sequence[float]]) -> tuple[int, float]:
    """The fastest method and its gain; (0, 1.0) if that is the default, method 0."""
    default = times[0]
    gains = {method: gain(default, own) for method, own in times.items() if method != 0}
    best = max(gains, key=lambda method: gains[method], default=0)
    return (best, gains[best]) if gains.get(best, 0.0) >= _MARGIN else (0, 1.0)
