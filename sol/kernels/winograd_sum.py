"""What Winograd's algorithm adds up in each of its products, and in which order.

Along an axis with stride s, result q reads the inputs q * s + p + j * s of each phase p < s with
the taps p + j * s: a sum over phases of convolutions with stride 1, which have a transform each (J.
Yepez and S.-B. Ko, "Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks", IEEE
TVLSI 2020). All phases share the transform of the results, so that they are parts of one sum, as
channels are. A phase may have a tap less than others. The product at infinity, which is that of the
last tap, has nothing to add for it: F(4 x 4, 3 x 3) with stride 2 takes 81 multiplications for 16
results, not 4 * 25, and the sum as written 144.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sol.ir.expr import Expr
from sol.kernels.blocks import Run
from sol.kernels.transform import Transform

Index = TypeVar("Index", int, Expr)
Position = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of one axis of a window: window of them, which are transformed or not."""

    transform: Transform
    window: int
    stride: int

    @property
    def parts(self) -> int:
        """Of the sum: taps without a transform, phases of the stride with one."""
        return self.window if self.transform.n == 1 else self.stride

    @property
    def whole(self) -> int:
        """Phases, the first ones, with as many taps as the transform."""
        return self.window - (self.transform.r - 1) * self.stride

    def tap(self, part: int, k: int) -> int | None:
        """The k-th tap that a part transforms, if it has so many."""
        tap = part + k * self.stride
        return tap if tap < self.window else None


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a layer's products and of the parts of their sums.

    Parts are nested loops over axes, those with phases outside. Each second time the last of these
    goes through its phases the other way: so the phases that a product needs follow each other.
    """

    axes: tuple[Taps, ...]

    @property
    def loops(self) -> tuple[int, ...]:
        """Axes with several parts, outer to inner."""
        several = [k for k, a in enumerate(self.axes) if a.parts > 1]
        return tuple(sorted(several, key=lambda k: self.axes[k].transform.n == 1))

    def taps(self, counters: Sequence[Index], zero: Index) -> list[Index]:
        """The part of each axis, given counters of the loops."""
        found = [zero] * len(self.axes)
        phased = [k for k in self.loops if self.axes[k].transform.n > 1]
        for k, counter in zip(self.loops, counters):
            if len(phased) == 2 and k == phased[1]:
                forth = found[phased[0]] % 2
                last = self.axes[k].parts - 1
                counter = counter * (forth * 2 - 1) + (forth * -1 + 1) * last
            found[k] = counter
        return found

    def parts(self) -> list[Position]:
        """The part of each axis, for all parts of the sum."""
        counts = itertools.product(*(range(self.axes[k].parts) for k in self.loops))
        return [tuple(self.taps(c, 0)) for c in counts]

    def products(self) -> list[Position]:
        """The place of each product in the tile of inputs: those with equal sums side by side."""
        extents = [range(a.transform.n) for a in self.axes]
        return sorted(itertools.product(*extents), key=self._needed)

    def runs(self, channels: int) -> tuple[Run, ...]:
        """Products with the terms that they need, each part being a sum over channels."""
        found, begin = [], 0
        for (_, first, last), run in itertools.groupby(self.products(), self._needed):
            end = begin + len(list(run))
            found.append(Run(begin, end, first * channels, last * channels))
            begin = end
        return tuple(found)

    def _needed(self, product: Position) -> tuple[int, int, int]:
        """The parts that have anything to add to a product, with their number, negative, in front:
        with two infinite places those of the first."""
        parts = self.parts()
        short = [
            k for k, (a, x) in enumerate(zip(self.axes, product))
            if a.whole < a.parts and a.transform.n > 1 and x == a.transform.n - 1
        ][:1]  # fmt: skip
        needed = [
            n for n, part in enumerate(parts) if all(part[k] < self.axes[k].whole for k in short)
        ]
        return needed[0] - needed[-1], needed[0], needed[-1] + 1

    @property
    def signature(self) -> str:
        """Equal for equal orders."""
        return "x".join(
            f"{a.transform.m},{a.transform.r}"
            + f"s{a.stride}" * (a.transform.n > 1 and a.stride > 1)
            for a in self.axes
        )


def multiplications(runs: Sequence[Run]) -> int:
    """Terms of all products."""
    return sum((r.end - r.begin) * r.depth for r in runs)


def count(axes: Sequence[Taps]) -> int:
    """Products of a tile."""
    return math.prod(a.transform.n for a in axes)
