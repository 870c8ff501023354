"""A step of training for `sol bench --train`, and how far its gradients are off.

A step is what users write: forget gradients, forward, loss, backward, SGD. The loss is the cross
entropy with random classes where the network returns scores of classes, else the mean square.
Dropout and stochastic depth are off: their random numbers differ from way to way, and gradients
could not be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from sol.bench.zoo import Network

_RATE = 1e-4  # small: weights stay in the range in which they were drawn, step after step
_LEAST = 1e-3  # of the largest gradient of a network


def without_chance(module: nn.Module) -> nn.Module:
    """The module with rates of dropout and of stochastic depth 0."""
    for part in module.modules():
        for name in ("p", "dropout", "dropout_prob", "attention_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return module


def for_training(network: Network) -> Network:
    """The network in training mode, drawing no random numbers."""
    without_chance(network.module).train()
    return network


def step_of(module: Callable[..., Any], network: Network) -> Callable[[], Any]:
    """A step with the parameters of the network, which `module` computes."""
    optimiser = torch.optim.SGD(network.module.parameters(), lr=_RATE)

    def step() -> None:
        optimiser.zero_grad()
        loss_of(module(*network.args, **network.kwargs)).backward()
        optimiser.step()

    return step


def loss_of(output: Any) -> Any:
    """A loss of whatever a network returns."""
    results = [r for r in pytree.tree_leaves(output) if isinstance(r, torch.Tensor)]
    results = [r for r in results if r.requires_grad]
    scores = results[0]
    if len(results) == 1 and scores.ndim == 2 and scores.shape[1] > 1:
        classes = torch.arange(len(scores)) * 7919 % scores.shape[1]
        return nn.functional.cross_entropy(scores, classes)
    return torch.stack([r.square().mean() for r in results]).sum()


def gradients(network: Network) -> list[NDArray[Any]]:
    """Of all parameters that have one, in their order."""
    parameters = network.module.parameters()
    return [p.grad.detach().numpy() for p in parameters if p.grad is not None]


def copied(network: Network) -> Network:
    """The same network with parameters of its own."""
    return Network(network.name, copy.deepcopy(network.module), network.args, network.kwargs)


def gradient_errors(found: Sequence[NDArray[Any]], exact: Sequence[NDArray[Any]]) -> list[float]:
    """Of each gradient `|found - exact| / |exact|`, Euclidean norms.

    One that is less than a thousandth of the largest, as that of a bias before batch statistics,
    which cancels, is compared with this thousandth. Infinite if shapes differ.
    """
    if [a.size for a in found] != [e.size for e in exact]:
        return [float("inf")]
    sizes = [float(np.linalg.norm(e)) for e in exact]
    least = max(_LEAST * max(sizes, default=0.0), 1e-300)
    return [
        float(np.linalg.norm(a.reshape(e.shape).astype(np.float64) - e)) / max(size, least)
        for a, e, size in zip(found, exact, sizes)
    ]
