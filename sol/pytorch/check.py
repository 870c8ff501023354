"""Compare a network by Sol with the original, and both with the original in float64.

Errors are the largest difference of any element, relative to the largest element of that result, so
Sol's and PyTorch's own rounding can be put side by side. If Sol is off by more than rounding, every
stored value is compared, and the first cluster that is off is named.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sol.pytorch import connect
from sol.pytorch.module import Optimized, original
from sol.pytorch.program import as_array
from sol.pytorch.tree import flatten, unflatten

if TYPE_CHECKING:
    from sol.pytorch.session import Entry, Session

_ROUNDING = 1e-6  # relative error that says nothing, whatever PyTorch's own is
_AS_PYTORCH = 3.0  # times PyTorch's own error


@dataclass(frozen=True)
class Check:
    """error: Sol against float64; pytorch: the original in float32 against float64 (None if the
    model does not run in float64, then `error` is against float32). first: the first cluster that
    is off. by_sol: whether Sol ran at all."""

    error: float
    pytorch: float | None
    first: str | None
    by_sol: bool

    @property
    def ok(self) -> bool:
        """Whether Sol is as right as PyTorch: within three times its error, or within rounding."""
        return self.error <= max(_AS_PYTORCH * (self.pytorch or 10 * _ROUNDING), _ROUNDING)

    def __str__(self) -> str:
        if not self.by_sol:
            return "Sol has no program for this call: it runs in PyTorch, with the same result"
        against = f"PyTorch in float32: {self.pytorch:.1e}" if self.pytorch is not None else ""
        text = f"largest error of Sol: {self.error:.1e}"
        text += f" ({against}, both against float64)" if against else " (against PyTorch's float32)"
        return text if self.first is None else f"{text}\nfirst cluster that is off: {self.first}"


def check(session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Check:
    """The errors of one call. Arguments are copied, so that a network may write into them."""
    inputs, tree = flatten((args, kwargs))
    with torch.no_grad():
        before = session.runs
        with session.forced("sol"):
            found = _results(session, tree, inputs)
        by_sol = session.runs > before
        own = _tensors(session.call, tree, inputs)
        exact = _in_double(session, tree, inputs)
    error = _error(found, own if exact is None else exact)
    made = Check(error, None if exact is None else _error(own, exact), None, by_sol)
    if made.ok or not by_sol:
        return made
    return Check(made.error, made.pytorch, _first(session, inputs, kwargs, args), by_sol)


def _results(session: Session, tree: Any, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return _tensors(lambda *a, **k: session(a, k), tree, inputs)


def _tensors(call: Any, tree: Any, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    args, kwargs = unflatten(tree, [t.detach().clone() for t in inputs])
    return [t.detach().clone() for t in flatten(call(*args, **kwargs))[0]]


def _in_double(
    session: Session, tree: Any, inputs: Sequence[torch.Tensor]
) -> list[torch.Tensor] | None:
    """The original's results in float64, None if it does not run so."""
    model = session.model
    plain = original(model) if isinstance(model, Optimized) else model
    double = copy.deepcopy(plain).double()
    wide = [t.double() if t.is_floating_point() else t for t in inputs]
    try:
        return _tensors(double.forward, tree, wide)
    except (RuntimeError, TypeError):  # casts to float32 within the model
        return None


def _error(found: Sequence[torch.Tensor], exact: Sequence[torch.Tensor]) -> float:
    return max((_distance(f, e) for f, e in zip(found, exact)), default=0.0)


def _distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest difference relative to the largest element; equal infinities and NaN agree."""
    a, b = found.double(), exact.double()
    if a.shape != b.shape:
        return float("inf")
    equal = (a == b) | (a.isnan() & b.isnan())
    differences = torch.where(equal, torch.zeros_like(a), (a - b).abs())
    finite = b[b.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    worst = float(differences.max()) if differences.numel() else 0.0
    if worst != worst:  # NaN on one side only
        return float("inf")
    return worst / largest if largest else worst


def _first(session: Session, inputs: Sequence[torch.Tensor], kwargs: Any, args: Any) -> str | None:
    """The first cluster that is off, over all steps of Sol."""
    entry: Entry | None = session.specialise(args, kwargs)
    if entry is None:
        return None
    batch = entry.guard.batch(list(inputs))
    state = {key: as_array(t) for key, t in session.tensors.items()}
    for graph, given in entry.program.traffic([t.contiguous() for t in inputs], batch):
        found = connect.first_difference(graph, state, [as_array(t) for t in given], batch)
        if found is not None:
            return found
    return None
