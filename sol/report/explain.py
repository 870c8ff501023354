"""What was made of a network and why: every cluster, its layers, its implementation, the bytes it
saves and its share of the time.

In: a `Compiled` network, and the nanoseconds of each step if it was profiled. Out: records, and a
table for people. Frontends add what stayed with the framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.compiler import Compiled, Made
from sol.core.dims import evaluate
from sol.ir.graph import Graph, types_of


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """One step:

    kind of cluster, layers (names in the user's model), operators, implementation with its reason,
    bytes per image that never reach memory, share of the time.
    """

    number: int
    kind: str
    layers: tuple[str, ...]
    operators: tuple[str, ...]
    implementation: str
    saved: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All clusters of a program, its memory in bytes, and notes (groups of images, what was not
    possible).
    """

    clusters: tuple[ClusterReport, ...]
    arena_per_image: int
    arena_fixed: int
    packed: int
    images_at_once: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = (
            f"{'#':>3}  {'kind':<12} {'time':>6} {'saved':>10}  layers: operators  [implementation]"
        )
        rows = [head, *(_row(c) for c in self.clusters)]
        group = f", {self.images_at_once} images at a time" if self.images_at_once else ""
        memory = f"intermediates {_bytes(self.arena_per_image)} per image{group}"
        memory += f" + {_bytes(self.arena_fixed)}; packed weights {_bytes(self.packed)}"
        rows.append(f"{len(self.clusters)} clusters; {memory}")
        return "\n".join([*rows, *self.notes])


def explain(compiled: Compiled, times: Sequence[int] | None = None) -> Explanation:
    """The explanation of a compiled network."""
    graph = compiled.planned.plan.graph
    total = sum(times) if times else 0
    clusters = []
    first = 0
    for number, made in enumerate(compiled.steps):  # a cluster may be several steps of the program
        last = first + len(made.calls)
        share = sum(times[first:last]) / total if times and total else None
        first = last
        clusters.append(_cluster(graph, compiled, made, number, share))
    arena = compiled.planned.arena
    notes = (
        ()
        if compiled.planned.plan.splittable
        else ("images are not independent in this network: a batch is computed as a whole",)
    )
    return Explanation(
        tuple(clusters),
        arena.per_image,
        arena.constant,
        compiled.packed_bytes,
        compiled.program.group if compiled.program.splittable else 0,
        notes,
    )


def _cluster(
    graph: Graph, compiled: Compiled, made: Made, number: int, share: float | None
) -> ClusterReport:
    names = [n for n in made.cluster.layers if n in graph and n not in graph.static]
    origins = tuple(dict.fromkeys(graph[n].origin or n for n in names))
    saved = 0
    for name in names:
        if name not in made.cluster.values or name in made.cluster.private:
            for kind in types_of(graph[name]):
                elements = 1
                for size in kind.shape:
                    elements *= evaluate(size, 1)
                saved += 2 * elements * kind.dtype.bytes
    return ClusterReport(
        number,
        made.cluster.kind,
        origins,
        tuple(graph[n].op for n in names),
        made.why,
        saved,
        share,
    )


def _row(c: ClusterReport) -> str:
    share = f"{100 * c.share:5.1f}%" if c.share is not None else ""
    layers = ", ".join(c.layers[:4]) + (f", … ({len(c.layers)})" if len(c.layers) > 4 else "")
    head = f"{c.number:>3}  {c.kind:<12} {share:>6} {_bytes(c.saved):>10}"
    return f"{head}  {layers}: {' '.join(c.operators)}  [{c.implementation}]"


def _bytes(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.2f} GiB"
