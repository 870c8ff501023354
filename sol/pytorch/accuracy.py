"""How far Sol's results are from PyTorch's own, and whether that is rounding (sol/accuracy.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sol import accuracy
from sol.accuracy import Array


def difference(found: Sequence[torch.Tensor], own: Sequence[torch.Tensor]) -> float:
    """The largest difference of any float result, relative to its largest element."""
    return accuracy.difference([_array(t) for t in found], [_array(t) for t in own])


def own_error(
    found: Sequence[torch.Tensor], one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]
) -> float:
    """How far results are from the exact ones, by estimate from two others."""
    return accuracy.own_error(*([_array(t) for t in each] for each in (found, one, other)))


def _array(tensor: torch.Tensor) -> Array:
    plain = tensor.detach()
    return (plain.float() if plain.dtype is torch.bfloat16 else plain).resolve_conj().numpy()
