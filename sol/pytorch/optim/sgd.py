"""`torch.optim.SGD`, updated by Sol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sol.kernels.update import sgd
from sol.pytorch.optim.native import Group, Kept, Native
from sol.updates import Updates, update_program


class SGD(Native, torch.optim.SGD):
    """As torch.optim.SGD: the same arguments, states and results."""

    def states(self, group: Group, parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The momentum, zeros before the first step."""
        if not group["momentum"]:
            return [()] * len(parameters)
        known = [self.state[p].get("momentum_buffer") for p in parameters]
        return [(torch.zeros_like(p) if m is None else m,) for p, m in zip(parameters, known)]

    def program(self, group: Group) -> Updates:
        """By the terms that there are."""
        choices = (group["weight_decay"] != 0, group["momentum"] != 0, group["nesterov"])
        return update_program(sgd, *map(bool, choices))

    def numbers(self, group: Group, kept: Kept) -> Sequence[Mapping[str, float]]:
        """The first momentum is the gradient itself, without dampening."""
        momentum = float(group["momentum"])
        first = {
            "sign": -1.0 if group["maximize"] else 1.0,
            "decay": float(group["weight_decay"]),
            "kept": 0.0,
            "fresh": 1.0,
            "again": momentum,
            "rate": float(group["lr"]),
        }
        later = {**first, "kept": momentum, "fresh": 1.0 - float(group["dampening"])}
        found = []
        for parameter, own in kept:
            state = self.state[parameter] if momentum else {}
            known = state.get("momentum_buffer") is not None
            found.append(later if known else first)
            if momentum and not known:
                state["momentum_buffer"] = own[0]
        return found
