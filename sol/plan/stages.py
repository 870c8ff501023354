"""Stages: a pointwise convolution and the window operator behind it, run depth-first.

The result of the convolution, which in an inverted residual is the largest value of all, is never
a tensor: a unit of work computes the lines of it that a band of the window's results needs, for a
share of the channels, in scratch memory that stays in the L2 cache (B. Fuchs et al., "BrainSlug:
Transparent Acceleration of Deep Learning Through Depth-First Parallelism", 2018). Lines at the
edges of bands are computed twice, which pays where the value would not stay in a cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sol.ir.expr import Expr, bounds, free_axes, linear, walk
from sol.ir.graph import Graph, Node
from sol.plan.facts import Facts
from sol.plan.fuse import Choice, chain_between, root_index
from sol.plan.group import Group, readers
from sol.plan.inline import Inliner, axes_for

_SCRATCH = 416 << 10  # bytes of lines: they stay in an L2 cache with what else a unit touches
_FROM = 2 << 20  # bytes of a value that does not stay there from one step to the next
_CHEAP = 4  # arithmetic behind the convolution that may be done twice
_MOST_WASTE = 0.05  # of the convolution, done twice
_MOVED = 12.0  # bytes a cycle to and from beyond the L2 cache
_FEWEST = 4  # units that keep a few cores busy


@dataclass(frozen=True, slots=True)
class Stage:
    """hidden, sink: the values of the convolution and of the window operator.

    Line y of the sink reads lines y * step + low and the `reach` - 1 after it. A unit computes
    `band` lines of it for `share` channels.
    """

    hidden: str
    sink: str
    step: int
    low: int
    reach: int
    band: int
    share: int

    @property
    def lines(self) -> int:
        """Lines of the hidden value that a band needs."""
        return (self.band - 1) * self.step + self.reach


def find_stages(
    graph: Graph,
    facts: Facts,
    choice: Choice,
    orders: Mapping[str, tuple[int, ...]],
    groups: Mapping[str, Group],
    lanes: int,
) -> dict[str, Stage]:
    """All stages that pay, by sink."""
    found: dict[str, Stage] = {}
    for hidden, root in choice.roots.items():
        if not _is_pointwise(graph, choice, orders, hidden, graph[root]):
            continue
        if sum(facts.cost(n) for n in [*chain_between(graph, root, hidden)[1:], hidden]) > _CHEAP:
            continue
        sinks = readers(graph, facts, choice, hidden)
        if hidden in graph.outputs or len(sinks) != 1:
            continue
        (sink,) = sinks
        group = groups.get(sink)
        if group is None or group.members != (sink,) or orders[sink][-1] != 1:
            continue
        window = _window(graph, choice, hidden, graph[sink])
        if window is not None:
            stage = _best(graph, hidden, graph[root], graph[sink], window, lanes)
            if stage is not None:
                found[sink] = stage
    return found


def _is_pointwise(
    graph: Graph, choice: Choice, orders: Mapping[str, tuple[int, ...]], end: str, root: Node
) -> bool:
    """Whether a convolution reads stored pixels in place, and element-wise operators follow."""
    if root.op != "conv" or root["groups"] != 1 or len(root.shape) < 4:
        return False
    source, taps = root.inputs[0], graph[root.inputs[1]].shape[2:]
    if any(t != 1 for t in taps) or any(s != 1 for s in root["stride"]):
        return False
    if any(p != (0, 0) for p in root["padding"]):
        return False
    if source not in choice.stored or orders[source][-1] != 1 or orders[end][-1] != 1:
        return False
    chain = [*chain_between(graph, root.name, end), end]
    return root_index(graph, root, chain) == axes_for(graph[end])


def _window(graph: Graph, choice: Choice, hidden: str, sink: Node) -> tuple[int, int, int] | None:
    """(step, low, reach) of the lines that a line of the sink reads; None if channels or images
    mix, or lines are not neighbours."""
    axes = axes_for(sink)
    if len(axes) != len(graph[hidden].shape):
        return None
    value = Inliner(graph, choice.stored).meaning(sink.name, axes)
    reads = {p.args for p in walk(value) if p.op == "load" and p.value == hidden}
    found = {_lines(args, axes) for args in reads}
    if None in found or len({f[0] for f in found if f}) != 1:
        return None
    spans = [f for f in found if f is not None]
    low, high = min(f[1] for f in spans), max(f[2] for f in spans)
    return spans[0][0], low, high - low + 1


def _lines(args: tuple[Expr, ...], axes: tuple[Expr, ...]) -> tuple[int, int, int] | None:
    """(step, lowest, highest) offset of the line that is read."""
    if args[0] is not axes[0] or args[1] is not axes[1] or axes[2].op != "axis":
        return None
    if any(free_axes(i) & {axes[1], axes[2]} for i in args[3:]):
        return None
    _, terms = linear(args[2])
    step = terms.get(axes[2], 0)
    if not isinstance(step, int) or step < 1:
        return None
    low, high = bounds(args[2] - axes[2] * step)
    if low is None or high is None:
        return None
    if any(a in (axes[0], axes[1]) or a in axes[3:] for a in free_axes(args[2])):
        return None
    return step, low, high


def _best(
    graph: Graph, hidden: str, root: Node, sink: Node, window: tuple[int, int, int], lanes: int
) -> Stage | None:
    """The band and share with the fewest lines computed twice; None if storing is better."""
    step, low, reach = window
    sizes = (*graph[hidden].shape[1:], sink.shape[2], graph[root.inputs[1]].shape[1])
    known = [s for s in sizes if isinstance(s, int)]
    if len(known) < len(sizes):
        return None
    channels, height, *rest, results, depth = known
    width = math.prod(rest)
    size = 4 * channels * height * width
    if size < _FROM:
        return None
    ways = (
        Stage(hidden, sink.name, step, low, reach, band, share)
        for band in _divisors(results)
        for share in _divisors(channels)
        if share == channels or (share % lanes == 0 and share > lanes)
    )
    fitting = [w for w in ways if 4 * w.lines * width * w.share <= _SCRATCH]

    def waste(way: Stage) -> float:
        return way.lines * (results // way.band) / height - 1

    def cost(way: Stage) -> tuple[float, int]:
        units = results // way.band * (channels // way.share)
        return max(waste(way), 0.0) + (0.5 if units < _FEWEST else 0.0), -way.share

    best = min(fitting, key=cost, default=None)
    if best is None or waste(best) > _MOST_WASTE:
        return None
    again = waste(best) * height * width * channels / lanes * depth
    return best if 2 * size / _MOVED > 2 * again else None


def _divisors(count: int) -> Iterator[int]:
    return (d for d in range(1, count + 1) if count % d == 0)
