"""`torch.optim.AdamW`, updated by Sol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sol.kernels.update import adamw
from sol.pytorch.optim.native import Group, Kept, Native
from sol.updates import Updates, update_program


class AdamW(Native, torch.optim.AdamW):
    """As torch.optim.AdamW: the same arguments, states and results."""

    def states(self, group: Group, parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Both means, and with amsgrad the largest second one."""
        lists: list[list[Tensor]] = [[] for _ in range(6)]
        init: Any = self._init_group  # has no types
        init({**group, "params": list(parameters)}, *lists)
        return list(zip(*lists[2 : 5 if group["amsgrad"] else 4], strict=True))

    def program(self, group: Group) -> Updates:
        """By the number of states."""
        return update_program(adamw, bool(group["amsgrad"]))

    def numbers(self, group: Group, kept: Kept) -> Sequence[Mapping[str, float]]:
        """Corrections of both means depend on the steps that a parameter has had."""
        steps = [self.state[p]["step"] for p, _ in kept]
        torch._foreach_add_(steps, 1)
        counts = [s.item() for s in steps]
        known = {t: _numbers(group, t) for t in set(counts)}
        return [known[t] for t in counts]


def _numbers(group: Group, step: float) -> Mapping[str, float]:
    rate = float(group["lr"])
    first, second = map(float, group["betas"])
    return {
        "sign": -1.0 if group["maximize"] else 1.0,
        "left": 1.0 - rate * float(group["weight_decay"]),
        "fresh": 1.0 - first,
        "kept": second,
        "fresh_square": 1.0 - second,
        "scale": (1.0 - second**step) ** -0.5,
        "small": float(group["eps"]),
        "rate": rate / (1.0 - first**step),
    }
