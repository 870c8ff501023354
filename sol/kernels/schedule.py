"""How long cores take for the units of a step, as the runtime shares them out (runtime/run.c).

Units are cut into as many shares as there are cores, shares into chunks. A core takes the chunks of
its own share one after the other, then those that others have not begun yet. So units of different
sizes, or few of them, leave cores without work at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

_CHUNKS = 4  # of a share, as in run.c


def makespan(upto: Callable[[int], float], units: int, cores: int) -> float:
    """Until all cores are done. upto(n): what the first n units take."""
    shares = min(units, cores)
    chunks = []
    for k in range(shares):
        begin, end = units * k // shares, units * (k + 1) // shares
        size = -(-(end - begin) // _CHUNKS)
        ends = [upto(min(n, end)) for n in range(begin, end + size, size)]
        chunks.append([b - a for a, b in pairwise(ends)][::-1])
    free = [(0.0, core) for core in range(shares)]
    last = 0.0
    while free:
        now, core = heapq.heappop(free)
        left = next((c for k in range(shares) if (c := chunks[(core + k) % shares])), None)
        if left is not None:
            heapq.heappush(free, (now + left.pop(), core))
        last = max(last, now)
    return last


def of_units(units: Sequence[float], cores: int) -> float:
    """Until all cores are done with units that take so long."""
    ends = [0.0, *accumulate(units)]
    return makespan(ends.__getitem__, len(units), cores)


def of_grid(parts: int, part: Sequence[float], last: Sequence[float], cores: int) -> float:
    """The same for a grid: so many times the units of a part, one after the other, but other ones
    in the last part."""
    whole, end = [0.0, *accumulate(part)], [0.0, *accumulate(last)]

    def upto(n: int) -> float:
        number, rest = divmod(n, len(part))
        if number >= parts - 1:
            return (parts - 1) * whole[-1] + end[n - (parts - 1) * len(part)]
        return number * whole[-1] + whole[rest]

    return makespan(upto, parts * len(part), cores)
