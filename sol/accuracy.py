"""How much the default precision loses to rounding, and which precision a network gets.

The default precision adds sums up in ways (Winograd's algorithm) that lose a little; on most
networks nothing that anybody could see. Where it is seen, the network is compiled with
precision="strict", too. Frontends that have the framework at hand compare results with its own
(`Accuracy`), the others compare the default program with the strict one (`Rounding`). Called by
them with arrays; nothing here knows what is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Precision = Literal["default", "strict"]

ROUNDING = 5e-5  # of the largest element: what the default precision may differ by unexamined
LARGEST = 1e-4  # what it may be off the exact result
FAR = 1e-3  # what the better precision may differ by before users are warned
_BESIDE_STRICT = 3e-5  # what it may differ by from the strict program: other inputs differ more


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Largest differences from the framework relative to the largest element of a result: as
    compiled by default, and with precision="strict" if that was tried.

    How far the strict program is from the framework's results, which are rounded as often, tells
    how far these are from the exact ones; with it the error of the default precision is known.
    """

    error: float
    strict: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether the default precision differs by more than it should."""
        return not self.error <= ROUNDING

    @property
    def precision(self) -> Precision:
        """The better of both, but the default one where it cannot be off by more than it may:
        by what it differs from the framework, and by the framework's own error, which is about
        `strict`."""
        if self.strict is None or self.strict >= self.error:
            return "default"
        return "default" if self.error + self.strict <= LARGEST else "strict"

    @property
    def best(self) -> float:
        """The difference of the better precision."""
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
        text = f"largest difference from {framework}: {self.error:.1e} of the largest element"
        if self.strict is not None:
            text += f', {self.strict:.1e} with precision="strict", '
            no_better = "no better" if self.strict >= self.error else "hardly better"
            text += "which is used" if self.precision == "strict" else f"which is {no_better}"
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
    """The largest difference of the default program from the strict one, relative to the largest
    element of a result. As the default one rounds more, that is about its error on these inputs;
    where small errors grow, that on others may be three times as large."""

    difference: float

    @property
    def precision(self) -> Precision:
        """The default one where it cannot be off by more than it may."""
        return "default" if self.difference <= _BESIDE_STRICT else "strict"

    def __str__(self) -> str:
        text = f'largest difference from precision="strict": {self.difference:.1e} of the largest '
        return text + "element" + ", which is used" * (self.precision == "strict")


def difference(found: Sequence[Array], own: Sequence[Array]) -> float:
    """The largest difference of any float result, relative to its largest element.

    Where `own` is NaN or infinite nothing is compared; NaN where it is not is infinite.
    """
    return max((_difference(f, o) for f, o in zip(found, own)), default=0.0)


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
