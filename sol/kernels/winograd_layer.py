"""Which convolutions Winograd's algorithm can take, and how results of one are grouped in tiles.

Each spatial axis has a transform (taps that there are points for) or none; at most two have one.
In: the plan and a contraction cluster. Out: a `Layer`, or the reason why not. Used by
kernels/choice.py, which decides, and by kernels/winograd.py, which makes the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sol.ir.expr import Expr, axis, walk
from sol.ir.graph import Node
from sol.kernels.blocks import Run
from sol.kernels.operands import Spine, grouping, spine
from sol.kernels.transform import Transform
from sol.kernels.winograd_sum import Order, Position, Taps
from sol.lower.cluster import Memory
from sol.lower.vector import lane_cost
from sol.plan.facts import is_depthwise
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan

_FEWEST = 4  # input channels
_TRANSFORMED = 2  # axes at most: errors multiply


@dataclass(frozen=True, slots=True)
class Along(Taps):
    """One spatial axis: sizes of input and result, and how results read inputs along it.

    With a transform and stride 1, results `dilation` apart share a tile. Without one each result is
    a tile of its own.
    """

    size: int
    results: int
    padding: int
    dilation: int

    @property
    def step(self) -> int:
        """From input to input of a tile."""
        return self.dilation * self.stride  # one of them is 1 with a transform

    @property
    def residues(self) -> int:
        """Results between neighbours of a tile, plus one."""
        return min(self.dilation, self.results) if self.transform.n > 1 else 1

    @property
    def tiles(self) -> int:
        """Tiles that cover the results."""
        return self.residues * -(-self.results // (self.residues * self.transform.m))

    @property
    def even(self) -> bool:
        """Whether tiles cover the results exactly."""
        return self.results % (self.transform.m * self.residues) == 0

    def first(self, tile: Expr) -> Expr:
        """The first result of a tile."""
        if self.residues == 1:
            return tile * self.transform.m
        inside = self.transform.m * self.residues
        return tile // self.residues * inside + tile % self.residues

    @property
    def ahead(self) -> int:
        """From the first result of a tile to that of the next one."""
        return self.transform.m if self.residues == 1 else 1

    def begin(self, first: Expr, part: Expr) -> Expr:
        """The first input of a tile, for a part of the sum."""
        return first * self.stride + part * self.dilation - self.padding

    def plain(self) -> Along:
        """The same without a transform."""
        return replace(self, transform=Transform(1, 1))

    def with_results(self, m: int) -> Along:
        """The same with other tiles."""
        return replace(self, transform=Transform(m, self.transform.r))


@dataclass(frozen=True)
class Layer:
    """A convolution that the algorithm can take."""

    spine: Spine
    spatial: tuple[Along, ...]
    groups: int
    inputs: int  # channels of one group
    columns: int

    @property
    def tiles(self) -> int:
        """Of one image."""
        return math.prod(s.tiles for s in self.spatial)

    @property
    def order(self) -> Order:
        """Of products and of the parts of their sums."""
        return Order(self.spatial)

    @cached_property
    def places(self) -> list[Position]:
        """The place of each product in the tile of inputs."""
        return self.order.products()

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Products and the terms of each."""
        return self.order.runs(self.inputs)

    @property
    def products(self) -> int:
        """Of a tile."""
        return math.prod(s.transform.n for s in self.spatial)

    @property
    def depth(self) -> int:
        """Terms of a product at most: input channels of all parts."""
        return self.inputs * math.prod(s.parts for s in self.spatial)

    @cached_property
    def multiplications(self) -> int:
        """Per tile and output channel."""
        return sum((r.end - r.begin) * r.depth for r in self.runs)

    def with_results(self, m: Sequence[int]) -> Layer | None:
        """The same layer with other tiles along its transformed axes; None if there is no such
        transform."""
        wanted = iter(m)
        spatial = tuple(
            s.with_results(next(wanted)) if s.transform.n > 1 else s for s in self.spatial
        )
        if not all(s.transform.exists for s in spatial):
            return None
        return replace(self, spatial=spatial)


def layer_of(plan: Plan, cluster: Cluster, copied: int | None = None) -> Layer | str:
    """The layer of a contraction cluster, with 2 results per tile and axis; else the reason why
    the algorithm does not take it. copied: as if it read a copy with so many channels innermost."""
    root = plan.graph[cluster.root]
    if root.op != "conv" or is_depthwise(plan.graph, root):
        return "no convolution"
    spatial = _spatial(plan, root)
    if all(s.transform.n == 1 for s in spatial):
        return "no axis with taps that there is a transform for"
    found = spine(plan, cluster)
    places = found.index[2:]
    others = {p for i in found.index[:2] for p in walk(i)}
    if any(p.op not in ("axis", "const") or p in others for p in places):
        return "places are split or merged behind the layer"
    if any(p.op == "reduce" for p in walk(found.value)):
        return "a reduction in the epilogue"
    groups, columns = grouping(root)
    channels = plan.graph[root.inputs[0]].shape[1]
    assert isinstance(channels, int)
    if copied is not None:
        return Layer(found, spatial, groups, copied // groups, columns)
    if channels // groups < _FEWEST:
        return "too few channels for a vector"
    if not _along_memory(plan, root, channels):
        return "channels of the input are not innermost"
    return Layer(found, spatial, groups, channels // groups, columns)


def _along_memory(plan: Plan, root: Node, channels: int) -> bool:
    """Whether vectors of input channels are vectors in memory."""
    channel = axis("channel", channels)
    places = [axis(f"place{k}", s) for k, s in enumerate(root.shape[2:])]
    index = (axis("image", root.shape[0]), channel, *places)
    value = Inliner(plan.graph, plan.stored).element(root.inputs[0], index)
    return lane_cost([value], channel, Memory(plan).access()) == 0


def _spatial(plan: Plan, root: Node) -> tuple[Along, ...]:
    """All spatial axes, at most the last two that can be with a transform."""
    found: list[Along] = []
    for k in reversed(range(len(root.shape) - 2)):
        along = _along(plan, root, k)
        plain_step = along.stride == 1 or along.dilation == 1
        fits = along.transform.exists and along.transform.n > 1 and plain_step
        if not fits or sum(s.transform.n > 1 for s in found) == _TRANSFORMED:
            along = along.plain()
        found.insert(0, along)
    return tuple(found)


def _along(plan: Plan, root: Node, k: int) -> Along:
    taps = plan.graph[root.inputs[1]].shape[2 + k]
    size, results = plan.graph[root.inputs[0]].shape[2 + k], root.shape[2 + k]
    assert isinstance(taps, int)
    assert isinstance(size, int)
    assert isinstance(results, int)
    padding, dilation, stride = root["padding"][k][0], root["dilation"][k], root["stride"][k]
    r = -(-taps // stride)
    transform = Transform(2 if r > 1 else 1, r)
    return Along(transform, taps, stride, size, results, padding, dilation)
