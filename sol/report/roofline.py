"""Each cluster against what the machine can do: the roofline model (Williams, Waterman, Patterson,
2009).

    roof = max(operations / peak, bytes / bandwidth)        lost = time - roof

is the least time that a cluster can take and what it takes longer, so the cluster that has lost
most is the next one to look at. Operations and bytes come from work.py, the machine's figures from
machine.py. Operands and results move at the bandwidth of the smallest memory that holds them all,
weights at that of the smallest one that holds those of the whole network: from one call to the
next, they stay nowhere else. Called by frontends for `explain(roofline=True)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sol.compiler import Compiled, Made
from sol.kernels.packings import Fewer
from sol.report.explain import cluster_seconds, explain
from sol.report.machine import Memory, Peaks
from sol.report.text import (
    WIDTH,
    ClusterReport,
    Explanation,
    digits,
    duration,
    merged,
    shortened,
    wrapped,
)
from sol.report.work import Work, work

_NAMED = 3  # clusters that are named once more below the table


@dataclass(frozen=True, slots=True)
class Row:
    """One cluster, measured, and its roof.

    compute and moving: seconds that its operations and its bytes take at best; memory: the one
    where most of the latter pass. effective: fewer operations are done than counted (by
    Winograd's or Strassen's algorithm).
    """

    cluster: ClusterReport
    seconds: float
    work: Work
    compute: float
    moving: float
    memory: str
    effective: bool = False

    @property
    def roof(self) -> float:
        """The least time, in seconds."""
        return max(self.compute, self.moving)

    @property
    def lost(self) -> float:
        """Seconds above the roof."""
        return max(0.0, self.seconds - self.roof)

    @property
    def bound(self) -> str:
        """What the roof is made of: compute, or a memory."""
        return "compute" if self.compute >= self.moving else self.memory


@dataclass(frozen=True, slots=True)
class Roofline:
    """All clusters of a network, those that lose most first."""

    peaks: Peaks
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "\n".join(lines(self))


def explain_roofline(
    compiled: Compiled, times: Sequence[int], batch: int, peaks: Peaks
) -> Explanation:
    """The explanation of a network, with its roofline."""
    found = explain(compiled, times)
    return replace(found, roofline=roofline(compiled, times, batch, peaks))


def roofline(compiled: Compiled, times: Sequence[int], batch: int, peaks: Peaks) -> Roofline:
    """The clusters of a network that took these nanoseconds, step by step, for a batch."""
    plan = compiled.planned.plan
    group = compiled.program.group if compiled.program.splittable else 0
    made = [m.cluster for m in compiled.steps]
    whole = work(plan, made, batch)
    at_once = work(plan, made, group) if 0 < group < batch else whole
    resident = peaks.memory(sum(w.weights for w in at_once))
    clusters = explain(compiled, times).clusters
    seconds = cluster_seconds(compiled, times)
    rows = [
        _row(c, s, w, peaks, peaks.memory(now.read + now.written), resident, _shortcut(step))
        for c, s, w, now, step in zip(clusters, seconds, whole, at_once, compiled.steps)
    ]
    return ordered(peaks, rows)


def _row(
    cluster: ClusterReport,
    seconds: float,
    todo: Work,
    peaks: Peaks,
    near: Memory,
    resident: Memory,
    effective: bool,
) -> Row:
    values = (todo.read + todo.written) / near.rate
    weights = todo.weights / resident.rate
    memory = near.name if values >= weights else resident.name
    compute = todo.operations / peaks.flops
    return Row(cluster, seconds, todo, compute, values + weights, memory, effective)


def _shortcut(step: Made) -> bool:
    """Whether fewer operations are done than the layer has as written."""
    if step.use is not None:
        return "wino" in step.why.lower()
    return step.packed is not None and isinstance(step.packed[2], Fewer)


def ordered(peaks: Peaks, rows: Sequence[Row]) -> Roofline:
    """The rows, those that lose most time first."""
    return Roofline(peaks, tuple(sorted(rows, key=lambda r: (-r.lost, r.cluster.number))))


def joined(parts: Sequence[Roofline]) -> Roofline:
    """The parts of one network as one, their clusters numbered through."""
    rows: list[Row] = []
    for part in parts:
        first = len(rows)
        rows += [
            replace(r, cluster=replace(r.cluster, number=first + r.cluster.number))
            for r in part.rows
        ]
    return ordered(parts[0].peaks, rows)


# ---- text ----------------------------------------------------------------------------------------


def lines(found: Roofline, width: int = WIDTH) -> Iterator[str]:
    """The table, a line for the network, and what the columns mean."""
    yield f"peaks of {found.peaks}"
    yield (
        f"{'#':>5}  {'kind':<12} {'lost':>8} {'time':>8} {'of roof':>7} {'GFLOP/s':>8} {'GB/s':>6} "
        f"{'op/B':>6} {'bound':<7}  layers: operators"
    )
    for row in found.rows:
        layers = merged(row.cluster.layers, row.cluster.operators)
        head = _figures([row], f"{row.cluster.number:>5}", row.cluster.kind, row.bound)
        yield f"{head}  {shortened(layers, width - len(head) - 2)}"
    yield _figures(found.rows, "total", "", "").rstrip()
    slow = [r for r in found.rows if r.lost][:_NAMED]
    if slow:
        named = (f"#{r.cluster.number} {next(iter(r.cluster.layers), '')}" for r in slow)
        yield from wrapped("", f"most is lost in {', '.join(named)}", width)
    yield "of roof: least time / time; lost: time - least time; op/B: operations / bytes of traffic"
    if any(r.effective for r in found.rows):
        yield "* effective: operations of the direct kernel; Winograd and Strassen do fewer"


def _figures(rows: Sequence[Row], number: str, kind: str, bound: str) -> str:
    seconds, lost = sum(r.seconds for r in rows), sum(r.lost for r in rows)
    operations, moved = sum(r.work.operations for r in rows), sum(r.work.bytes for r in rows)
    share = f"{100 * sum(r.roof for r in rows) / seconds:.0f}%" if seconds else ""
    rates = [digits(n / seconds / 1e9) if n and seconds else "-" for n in (operations, moved)]
    star = "*" if any(r.effective for r in rows) else " "
    intensity = digits(operations / moved) if operations and moved else "-"
    return (
        f"{number}  {kind:<12} {duration(lost) if lost else '-':>8} {duration(seconds):>8} "
        f"{share:>7} {rates[0]:>7}{star} {rates[1]:>6} {intensity:>6} {bound:<7}"
    )
