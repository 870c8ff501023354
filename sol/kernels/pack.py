"""Weights of contractions in the order in which micro-kernels read them, made once per change of
parameters (NumPy).

`[group][column block][k][vectors * lanes]`, columns beyond N are zero, k runs over taps and input
channels in the kernel's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A packing of one array as loops over its elements (runtime/pack.py).

    Steps are in elements of the array. taps: steps of the taps that `transform` [part, products,
    taps] makes products of, for each part of the sum that k counts (one tap, without a transform);
    rows: k of the first channel, for the same; row_step: from channel to channel in k. width:
    columns of a block; share: columns after which blocks begin anew, 0 if they never do.
    """

    groups: int
    outputs: int
    channels: int
    group_step: int
    output_step: int
    channel_step: int
    taps: Array
    rows: Array
    row_step: int
    transform: Array | None
    width: int
    lanes: int
    share: int = 0

    @property
    def columns(self) -> int:
        """Of a group, with those beyond the last output."""
        return -(-self.outputs // self.lanes) * self.lanes

    @property
    def size(self) -> int:
        """Elements of the packed weight."""
        products = 1 if self.transform is None else self.transform.shape[1]
        return self.groups * products * len(self.rows) * self.channels * self.columns


@dataclass(frozen=True, slots=True)
class Packing:
    """How a weight becomes packed columns.

    kind: "conv" (O, I/groups, taps…), "deconv" (I, O/groups, taps…) or "linear" (O, I). k_order:
    axes of k, as positions in (I, taps…), outermost first.
    """

    kind: str
    groups: int
    k_order: tuple[int, ...]
    vectors: int
    lanes: int

    def apply(self, weight: Array) -> Array:
        """The packed weight, float32."""
        dense = self._by_group(weight)  # (G, O, I, taps…)
        order = tuple(2 + k for k in self.k_order)
        matrix = dense.transpose(0, *order, 1).reshape(dense.shape[0], -1, dense.shape[1])
        return np.concatenate(
            [columns_in_blocks(m, self.vectors * self.lanes, self.lanes) for m in matrix]
        )

    def recipe(self, weight: Array) -> Recipe:
        """The same as loops."""
        steps = [s // weight.itemsize for s in weight.strides]
        turned = self.kind == "deconv"
        first, second, *window = weight.shape
        of_first, of_second, *of_window = steps
        extents = [(second if not turned else first // self.groups), *window]
        k_steps = dict(zip(self.k_order, _steps([extents[k] for k in self.k_order])))
        outputs = second if turned else first // self.groups
        return Recipe(
            self.groups,
            outputs,
            extents[0],
            (extents[0] if turned else outputs) * of_first,
            *((of_second, of_first) if turned else (of_first, of_second)),
            positions(window, of_window)[:, None],
            positions(window, [k_steps[1 + n] for n in range(len(window))]),
            k_steps[0],
            None,
            self.vectors * self.lanes,
            self.lanes,
        )

    def size(self, shape: tuple[int, ...]) -> int:
        """Elements of the packed weight for a weight of this shape."""
        outputs = shape[1] if self.kind == "deconv" else shape[0] // self.groups
        inputs = shape[0] // self.groups if self.kind == "deconv" else shape[1]
        depth = inputs * int(np.prod(shape[2:], dtype=np.int64))
        return self.groups * depth * -(-outputs // self.lanes) * self.lanes

    def _by_group(self, weight: Array) -> Array:
        if self.kind == "deconv":  # (I, O/g, taps…) -> (g, O/g, I/g, taps…)
            split = weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:])
            return split.swapaxes(1, 2)
        return weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:])


@dataclass(frozen=True, slots=True)
class GatesPacking:
    """How a recurrent weight (gates * H, K), gate by gate, becomes columns in blocks of `units`
    hidden units with their gates side by side (`packed_gates`, plan/scan.py): a gate is like a tap
    of a window."""

    gates: int
    units: int

    def apply(self, weight: Array) -> Array:
        """The packed weight, float32."""
        return self._packing.apply(self._windows(weight))

    def recipe(self, weight: Array) -> Recipe:
        """The same as loops."""
        return self._packing.recipe(self._windows(weight))

    def size(self, shape: tuple[int, ...]) -> int:
        """Elements of the packed weight for a weight of this shape."""
        return self._packing.size((shape[0] // self.gates, shape[1], self.gates))

    @property
    def _packing(self) -> Packing:
        return Packing("conv", 1, (0, 1), 1, self.units)

    def _windows(self, weight: Array) -> Array:
        return weight.reshape(self.gates, -1, weight.shape[1]).transpose(1, 2, 0)


def _steps(extents: Sequence[int]) -> list[int]:
    """Of row-major axes."""
    return [math.prod(extents[k + 1 :]) for k in range(len(extents))]


def positions(extents: Sequence[int], steps: Sequence[int]) -> Array:
    """Where all elements of some axes are, in row-major order."""
    found = np.zeros(1, np.int64)
    for extent, step in zip(extents, steps):
        found = np.add.outer(found, np.arange(extent) * step).ravel()
    return found


def columns_in_blocks(matrix: Array, block: int, lanes: int) -> Array:
    """(K, N) as consecutive blocks [K][block], the last one only as wide as whole vectors need."""
    depth, columns = matrix.shape
    whole = columns // block * block
    parts = [matrix[:, :whole].reshape(depth, -1, block).transpose(1, 0, 2).ravel()]
    if columns > whole:
        width = -(-(columns - whole) // lanes) * lanes
        tail = np.zeros((depth, width), np.float32)
        tail[:, : columns - whole] = matrix[:, whole:]
        parts.append(tail.ravel())
    return np.concatenate(parts).astype(np.float32, copy=False)
