"""How far Sol's results are from PyTorch's own, and whether that is rounding.

The default precision adds sums up in ways (Winograd's algorithm) that lose a little; on most
networks nothing that anybody could see. Where it is seen, the network is compiled with
precision="strict", too. How far that is from PyTorch's results, which are rounded as often, tells
how far these are from the exact ones; with it the error of the default precision is known, and if
that is too large the strict program is used. Where even that is far off, the user is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

ROUNDING = 5e-5  # of the largest element: what the default precision may differ by unexamined
LARGEST = 1e-4  # what it may be off the exact result
FAR = 1e-3  # what the better precision may differ by before users are warned


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Largest differences from PyTorch relative to the largest element of a result: as compiled by
    default, and with precision="strict" if that was tried."""

    error: float
    strict: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether the default precision differs by more than it should."""
        return not self.error <= ROUNDING

    @property
    def precision(self) -> Literal["default", "strict"]:
        """The better of both, but the default one where it cannot be off by more than it may:
        by what it differs from PyTorch, and by PyTorch's own error, which is about `strict`."""
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
        """Whether Sol gives NaN or infinity where PyTorch gives a number."""
        return not math.isfinite(self.best)

    def __str__(self) -> str:
        text = f"largest difference from PyTorch: {self.error:.1e} of the largest element"
        if self.strict is not None:
            text += f', {self.strict:.1e} with precision="strict", '
            no_better = "no better" if self.strict >= self.error else "hardly better"
            text += "which is used" if self.precision == "strict" else f"which is {no_better}"
        if self.wrong:
            return f"{text}; PyTorch runs, for Sol's results are no numbers where PyTorch's are"
        if self.far:
            text += "; that is no rounding of one sum: either small errors grow in this network, "
            text += "and both results are as good, or one is wrong: .sol.check(…) compares both "
            text += "with float64"
        return text


def difference(found: Sequence[torch.Tensor], own: Sequence[torch.Tensor]) -> float:
    """The largest difference of any float result, relative to its largest element.

    Where PyTorch's own is NaN or infinite nothing is compared; NaN where it is not is infinite.
    """
    return max((_difference(f, o) for f, o in zip(found, own)), default=0.0)


def _difference(found: torch.Tensor, own: torch.Tensor) -> float:
    if found.shape != own.shape or found.dtype != own.dtype:
        return math.inf
    if not own.is_floating_point() or not own.numel():
        return 0.0
    finite = own.isfinite()
    if not bool(finite.all()):
        found, own = found[finite], own[finite]
    if not own.numel():
        return 0.0
    worst = float((found - own).abs().max())
    if worst == 0.0:
        return 0.0
    return worst / float(own.abs().max().clamp(min=1e-30)) if math.isfinite(worst) else math.inf
