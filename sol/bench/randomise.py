"""Random weights in which no mistake can hide: every layer contributes visibly to the output.

Libraries initialise for training: BatchNorm statistics 0 and 1, biases 0, heads 0, layer scales
1e-6, gammas 1. With those, a kernel that forgets a bias or swaps a statistic is still "correct".
Here every constant parameter becomes random, and the statistics of each BatchNorm are those of the
data that reaches it, disturbed; so activations keep their size through any depth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_SMALL = 1e-3  # a constant below it (a zero, a layer scale of 1e-6) is drawn anew, others vary


def randomise(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int = 0
) -> None:
    """Change the parameters and BatchNorm statistics of `module` in place.

    `args` and `kwargs` are a call of the module in evaluation mode; it is run once, with a
    single thread, so that the same seed gives the same bits in every process.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            _vary(parameter, generator)
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
        if norms:
            _settle_statistics(module, norms, args, kwargs, generator)


def _vary(parameter: torch.Tensor, generator: torch.Generator) -> None:
    """constant 0 or 1e-6 -> small normal numbers; constant c -> c * U(0.75, 1.25); else kept."""
    if not parameter.is_floating_point() or parameter.numel() < 2:
        return
    first = float(parameter.flatten()[0])
    if not bool((parameter == first).all()):
        return
    if abs(first) >= _SMALL:
        parameter.copy_(
            first * torch.empty(parameter.shape).uniform_(0.75, 1.25, generator=generator)
        )
        return
    is_vector = parameter.numel() == max(parameter.shape)
    deviation = 0.1 if is_vector else 1 / math.sqrt(parameter[0].numel())
    parameter.copy_(torch.empty(parameter.shape).normal_(0, deviation, generator=generator))


def _settle_statistics(
    module: nn.Module,
    norms: list[_BatchNorm],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    generator: torch.Generator,
) -> None:
    """One call; each BatchNorm takes the statistics of its own input just before it runs."""

    def settle(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        if norm.running_mean is None or norm.running_var is None:
            return
        x = inputs[0].detach().transpose(0, 1).flatten(1).double()
        variance, mean = torch.var_mean(x, dim=1, correction=0)
        drawn = torch.empty(2, len(mean)).uniform_(-1, 1, generator=generator)
        norm.running_mean.copy_(mean + 0.2 * variance.sqrt() * drawn[0])
        norm.running_var.copy_(variance * (1 + 0.4 * drawn[1]) + 1e-3)

    handles = [norm.register_forward_pre_hook(settle) for norm in norms]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        module(*args, **kwargs)
    finally:
        torch.set_num_threads(threads)
        for handle in handles:
            handle.remove()
