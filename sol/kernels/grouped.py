"""Convolutions in narrow groups (ResNeXt, RegNet): lanes run over the output channels of several
groups, the inputs of a lane are picked from one vector.

    y[g O + o, p] = sum over i, k of x[g I + i, p stride + k dilation - padding] * w[g O + o, i, k]

A block is `together` groups whose inputs fill a vector, and so do their outputs. For input i of
each group, lane g O + o takes number g I + i of the vector of inputs: a constant permutation, which
the taps of neighbouring results share. A group never meets another one's numbers, so NaN stays in
its group. Here is which layers the kernel takes, how they are cut and the order of their weights;
grouped_kernel.py has the loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.device import CpuDevice
from sol.ir.expr import walk
from sol.kernels.operands import Spine, spine
from sol.plan.records import Cluster, Plan

Array = NDArray[Any]

_SHARED_TAPS = 7  # innermost taps up to this number are unrolled and share permuted inputs
_MOST_RESULTS = 16  # of a tile
_LATENCY = 8  # results that must be under way to keep the units busy
_SHUFFLE = 0.4  # cycles of a load with its permutation, beside the multiply-adds
_BAND_BYTES = 40 * 1024  # of packed inputs of one block
_PANEL_BYTES = 160 * 1024  # of all packed inputs of a unit
_LARGEST_BAND = 512 * 1024  # of the smallest band, where dilation is large
_UNITS_PER_CORE = 4


@dataclass(frozen=True, slots=True)
class Along:
    """One spatial axis of the convolution."""

    size: int
    results: int
    taps: int
    stride: int
    dilation: int
    padding: int

    def reach(self, results: int) -> int:
        """Inputs that so many neighbouring results read."""
        return (results - 1) * self.stride + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True)
class GroupedLayer:
    """A convolution that the kernel takes; inputs and outputs are those of one group."""

    spine: Spine
    spatial: tuple[Along, ...]
    groups: int
    inputs: int
    outputs: int
    lanes: int

    @property
    def together(self) -> int:
        """Groups of one block."""
        return self.lanes // max(self.inputs, self.outputs)

    @property
    def blocks(self) -> int:
        """Blocks of groups."""
        return -(-self.groups // self.together)

    @property
    def shared(self) -> bool:
        """Whether the taps of the innermost axis are unrolled."""
        return self.spatial[-1].taps <= _SHARED_TAPS

    @property
    def depth(self) -> int:
        """Products that are added up for one result."""
        return self.inputs * math.prod(s.taps for s in self.spatial)


@dataclass(frozen=True, slots=True)
class GroupedTile:
    """How a layer is cut: `results` per register tile, a band of results along each spatial axis,
    and blocks of groups per unit."""

    results: int
    band: tuple[int, ...]
    share: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """A layer that the kernel takes, and how it is cut."""

    layer: GroupedLayer
    tile: GroupedTile

    @property
    def why(self) -> str:
        """For `explain`."""
        cut, together = self.tile, self.layer.together
        bands = "x".join(map(str, cut.band))
        tile = f"tile {cut.results}x{together * self.layer.outputs}"
        return f"{tile}, {cut.share} blocks of {bands} results, groups side by side"


@dataclass(frozen=True, slots=True)
class GroupedPacking:
    """[block][outer taps][input][innermost taps][lane]; lanes without an output are zero."""

    together: int
    outputs: int
    lanes: int
    shared: bool

    def apply(self, weight: Array) -> Array:
        """The packed weight, float32, of one of shape (O, I/groups, taps…)."""
        inputs, last = weight.shape[1], weight.shape[-1] if self.shared else 1
        columns = self.together * self.outputs
        blocks = -(-weight.shape[0] // columns)
        dense = np.zeros((blocks * columns, *weight.shape[1:]), np.float32)
        dense[: weight.shape[0]] = weight
        split = dense.reshape(blocks, columns, inputs, -1, last)
        packed = np.zeros((blocks, split.shape[3], inputs, last, self.lanes), np.float32)
        packed[..., :columns] = split.transpose(0, 3, 2, 4, 1)
        return packed.ravel()

    @property
    def signature(self) -> str:
        """Equal for equal packings."""
        return f"groups{self.together}x{self.outputs}x{self.lanes}{'s' * self.shared}"


def choose_grouped(plan: Plan, cluster: Cluster, device: CpuDevice) -> Grouped | None:
    """How the kernel takes a contraction cluster; None if it does not."""
    layer = _layer_of(plan, cluster, device.vector_lanes(4))
    return Grouped(layer, _choose_tile(layer, device)) if layer is not None else None


def _layer_of(plan: Plan, cluster: Cluster, lanes: int) -> GroupedLayer | None:
    """The layer of a contraction cluster; None if several of its groups do not fit a vector, or if
    its results are not written along the axes of the convolution."""
    root = plan.graph[cluster.root]
    if root.op != "conv" or root["groups"] == 1:
        return None
    x, weight = plan.graph[root.inputs[0]], plan.graph[root.inputs[1]]
    groups = root["groups"]
    outputs, inputs = _number(weight.shape[0]) // groups, _number(weight.shape[1])
    if 2 * max(inputs, outputs) > lanes:
        return None
    found = spine(plan, cluster)
    places = found.index[2:]
    others = {p for i in found.index[:2] for p in walk(i)}
    if any(p.op not in ("axis", "const") or p in others for p in places):
        return None
    spatial = tuple(
        Along(
            _number(x.shape[2 + k]),
            _number(root.shape[2 + k]),
            _number(weight.shape[2 + k]),
            root["stride"][k],
            root["dilation"][k],
            root["padding"][k][0],
        )
        for k in range(len(places))
    )
    layer = GroupedLayer(found, spatial, groups, inputs, outputs, lanes)
    smallest = _panel_bytes(layer, (1,) * (len(spatial) - 1) + (_MOST_RESULTS,))
    return layer if smallest <= _LARGEST_BAND else None


def _number(size: object) -> int:
    assert isinstance(size, int)
    return size


# ---- how it is cut -------------------------------------------------------------------------------


def _panel_bytes(layer: GroupedLayer, band: Sequence[int]) -> int:
    """Packed inputs of one block for a band of results."""
    places = math.prod(s.reach(min(b, s.results)) for s, b in zip(layer.spatial, band))
    return 4 * layer.lanes * places


def _choose_tile(layer: GroupedLayer, device: CpuDevice) -> GroupedTile:
    """The tile: results with the least waste, bands that fit the L1 cache, shares that fit the L2
    cache and leave work for all cores."""
    *outer, inner = layer.spatial
    taps = inner.taps if layer.shared else 1
    most = min(_MOST_RESULTS, device.vector_registers - taps - 3, inner.results)
    results = min(range(1, max(1, most) + 1), key=lambda p: (_cycles(inner.results, p, taps), -p))
    band = [1] * len(outer) + [results]
    for k in (len(outer), len(outer) - 1) if outer else (0,):
        step = band[k]
        while band[k] < layer.spatial[k].results:
            longer = [*band[:k], band[k] + step, *band[k + 1 :]]
            if _panel_bytes(layer, longer) > _BAND_BYTES:
                break
            band = longer
        band[k] = min(_even(layer.spatial[k].results, band[k], step), layer.spatial[k].results)
    bands = math.prod(-(-s.results // b) for s, b in zip(layer.spatial, band))
    share = min(layer.blocks, max(1, _PANEL_BYTES // _panel_bytes(layer, band)))
    while share > 1 and bands * -(-layer.blocks // share) < _UNITS_PER_CORE * device.cores:
        share = -(-share // 2)
    return GroupedTile(results, tuple(band), _even(layer.blocks, share, 1))


def _even(total: int, most: int, step: int) -> int:
    """Parts of equal length, a multiple of `step`, no longer than `most` (a multiple of it)."""
    part = -(-total // -(-total // most))
    return min(most, -(-part // step) * step)


def _cycles(total: int, results: int, taps: int) -> float:
    """Estimated cycles of a row of results in tiles, whole ones and a remainder."""
    whole, rest = divmod(total, results)

    def tile(p: int) -> float:
        return max(p, _LATENCY) * taps + _SHUFFLE * (p + 2 * taps) + 1 if p else 0.0

    return whole * tile(results) + tile(rest)
