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

    @property
    def last(self) -> int:
        """The product at infinity, which is that of the last tap."""
        return self.transform.n - 1

    @property
    def last_is_short(self) -> bool:
        """Whether some phases have nothing to add to it."""
        return self.transform.n > 1 and self.whole < self.parts

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
        """The place of each product in the tile of inputs: those with equal sums side by side, the
        longest first."""
        return list(self._needed())

    def runs(self, channels: int) -> tuple[Run, ...]:
        """Products with the terms that they need, each part being a sum over channels."""
        found, begin = [], 0
        for length, run in itertools.groupby(self._needed().values(), key=len):
            firsts = [needed.start * channels for needed in run]
            changes = (k for k in range(1, len(firsts)) if firsts[k] != firsts[k - 1])
            later = tuple((begin + k, firsts[k]) for k in changes)
            end = begin + len(firsts)
            found.append(Run(begin, end, length * channels, firsts[0], later))
            begin = end
        return tuple(found)

    def _needed(self) -> dict[Position, range]:
        """The products in their order, each with the parts that have anything to add to it: where
        it is at infinity along two axes, those that count for the first."""
        parts = self.parts()
        whole = range(len(parts))
        found = {}
        for x in itertools.product(*(range(a.transform.n) for a in self.axes)):
            short = (k for k, a in enumerate(self.axes) if a.last_is_short and x[k] == a.last)
            k = next(short, None)
            found[x] = whole if k is None else self._with_all_taps(parts, k)
        order = sorted(found, key=lambda x: (-len(found[x]), found[x].start))
        return {x: found[x] for x in order}

    def _with_all_taps(self, parts: Sequence[Position], k: int) -> range:
        """The parts with all taps along an axis, and what lies between them."""
        needed = [n for n, part in enumerate(parts) if part[k] < self.axes[k].whole]
        return range(needed[0], needed[-1] + 1)

    @property
    def signature(self) -> str:
        """Equal for equal orders."""
        return "x".join(
            f"{a.transform.m},{a.transform.r}"
            + f"s{a.stride}" * (a.transform.n > 1 and a.stride > 1)
            for a in self.axes
        )
