"""How much the default precision loses to rounding, and which precision a network gets.

The default precision adds sums up in ways (Winograd's and Strassen's algorithms) that lose a
little; on most networks nothing that anybody could see. Where it is seen, the network is compiled
with precision="strict", too, and if that is needed with "careful", which is in between. Frontends
that have the framework at hand compare results with its own (`Accuracy`), the others compare with
the strict program (`Rounding`). Called by them with arrays; nothing here knows what is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Precision = Literal["default", "careful", "strict"]

ROUNDING = 5e-5  # of the largest element: what the default precision may differ by unexamined
LARGEST = 8e-5  # what it may be off the exact result by estimate: 1e-4 on other inputs
FAR = 1e-3  # what the better precision may differ by before users are warned
_NO_WORSE = 1.2  # times the error of the strict program: estimates differ by more
_BESIDE_STRICT = 3e-5  # what it may differ by from the strict program: other inputs differ more


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Largest differences from the framework relative to the largest element of a result: as
    compiled by default, and with precision="strict" if that was tried.

    own, careful, exact: then, too, how far the default program and, if that was tried, the careful
    one and beside it the strict one are from exact results, by estimate (`own_error`). of: what
    differences are relative to.
    """

    error: float
    strict: float | None = None
    own: float = 0.0
    careful: float | None = None
    of: str = "the largest element"
    exact: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether the default precision differs by more than it should."""
        return not self.error <= ROUNDING

    @property
    def precision(self) -> Precision:
        """The better of both, but the default one, or else the careful one, where it is not off
        by more than it may be. Where small errors grow so much that all are, the careful one if
        it is hardly worse than the strict one."""
        if self.strict is None or self.strict >= self.error or self.own <= LARGEST:
            return "default"
        allowed = max(LARGEST, _NO_WORSE * (self.exact or 0.0))
        return "careful" if self.careful is not None and self.careful <= allowed else "strict"

    @property
    def best(self) -> float:
        """The difference of the chosen precision."""
        if self.precision == "careful" and self.careful is not None:
            return self.careful
        return self.error if self.precision == "default" or self.strict is None else self.strict

    @property
    def far(self) -> bool:
        """Whether it is more than rounding, whatever the precision."""
        return not self.best <= FAR

    @property
    def wrong(self) -> bool:
        """Whether Sol gives NaN or infinity where the framework gives a number."""
        return not math.isfinite(self.best)

    def text(self, framework: str) -> str:
        """One line; framework: its name."""
        text = f"largest difference from {framework}: {self.error:.1e} of {self.of}"
        if self.strict is not None:
            text += f', {self.strict:.1e} with precision="strict", '
            no_better = "no better" if self.strict >= self.error else "hardly better"
            text += "which is used" if self.precision == "strict" else f"which is {no_better}"
            if self.precision == "careful":
                text += (
                    f' than "careful", which is used: about {self.careful:.1e} off exact results'
                )
        if self.wrong:
            text += f"; {framework} runs, for Sol's results are no numbers where "
            return f"{text}{framework}'s are"
        if self.far:
            text += "; that is no rounding of one sum: either small errors grow in this network, "
            text += "and both results are as good, or one is wrong: .sol.check(…) compares both "
            text += "with float64"
        return text


@dataclass(frozen=True, slots=True)
class Rounding:
    """The largest difference of the default program, and of the careful one if that was tried,
    from the strict one, relative to the largest element of a result. As the default one rounds
    more, that is about its error on these inputs; where small errors grow, that on others may be
    three times as large. The careful one rounds about as much as the strict one, so its difference
    is the sum of two such errors."""

    difference: float
    careful: float | None = None

    @property
    def precision(self) -> Precision:
        """The first that cannot be off by more than it may."""
        if self.difference <= _BESIDE_STRICT:
            return "default"
        near = self.careful is not None and self.careful <= math.sqrt(2) * _BESIDE_STRICT
        return "careful" if near else "strict"

    def __str__(self) -> str:
        text = f'largest difference from precision="strict": {self.difference:.1e} of the largest '
        if self.precision == "careful":
            return f'{text}element, {self.careful:.1e} with "careful", which is used'
        return text + "element" + ", which is used" * (self.precision == "strict")


def difference(found: Sequence[Array], own: Sequence[Array]) -> float:
    """The largest difference of any float result, relative to its largest element.

    Where `own` is NaN or infinite nothing is compared; NaN where it is not is infinite.
    """
    return max((_difference(f, o) for f, o in zip(found, own)), default=0.0)


def own_error(found: Sequence[Array], one: Sequence[Array], other: Sequence[Array]) -> float:
    """How far results are from the exact ones, by estimate from two others that were rounded in
    other ways: the largest error of any, relative to its largest element.

    Where errors are independent, the mean squares of two errors add up to that of their difference,
    so three differences give three errors (the three-cornered hat: J. E. Gray and D. W. Allan, "A
    Method for Estimating the Frequency Stability of an Individual Oscillator", 1974). The largest
    error is to its mean as that of the difference is. At least half of the mean square of a
    difference is taken to be the error of `found`, which rounds no less than `one`.
    """
    return max((_own_error(*three) for three in zip(found, one, other)), default=0.0)


def _own_error(found: Array, one: Array, other: Array) -> float:
    largest = _difference(found, one)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    finite = np.isfinite(one)
    if not np.isfinite(other[finite]).all():
        return largest  # the third one tells nothing
    a, b, c = (x[finite].astype(np.float64) for x in (found, one, other))
    squares = [float(np.square(x - y).mean()) for x, y in ((a, b), (a, c), (b, c))]
    own = max((squares[0] + squares[1] - squares[2]) / 2, squares[0] / 2)
    return largest * math.sqrt(own / squares[0])


def _difference(found: Array, own: Array) -> float:
    if found.shape != own.shape or found.dtype != own.dtype:
        return math.inf
    if own.dtype.kind != "f" or not own.size:
        return 0.0
    finite = np.isfinite(own)
    if not finite.all():
        found, own = found[finite], own[finite]
    if not own.size:
        return 0.0
    worst = float(np.abs(found - own).max())
    if worst == 0.0:
        return 0.0
    largest = max(float(np.abs(own).max()), 1e-30)
    return worst / largest if math.isfinite(worst) else math.inf
