"""Times of a step of Sol's optimisers and of torch.optim's, on the parameters of a network.

    python benchmarks/optimizers.py [network [rounds]]

All have the same parameters and gradients, and take turns; the least time of each counts. Before
a turn threads of the one before come to rest, which would take a core from the next one; one call
of `step` in each turn comes first, so that memory and caches are as in a loop.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sol.bench.zoo import build
from sol.pytorch import optim

Optimiser = Callable[[Sequence[torch.nn.Parameter]], Any]
SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3},
    "SGD with momentum and decay": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4},
    "AdamW": {"lr": 1e-3},
}
_REST = 0.25  # seconds
WAYS = ("Sol", "fused", "foreach", "one by one")


def optimiser(name: str, way: str) -> Optimiser:
    """What makes an optimiser of a way."""
    kind, settings = name.split()[0], SETTINGS[name]
    if way == "Sol":
        return lambda parameters: getattr(optim, kind)(parameters, **settings)
    how = {"fused": way == "fused", "foreach": way == "foreach"}
    return lambda parameters: getattr(torch.optim, kind)(parameters, **settings, **how)


def parameters_of(network: str) -> list[torch.nn.Parameter]:
    """Those of a network, with gradients."""
    found = list(build(network).module.parameters())
    for p in found:
        p.grad = torch.randn_like(p)
    return found


def measured(network: str, name: str, rounds: int) -> dict[str, float]:
    """Least seconds of a step, by way."""
    steps = {way: optimiser(name, way)(parameters_of(network)).step for way in WAYS}
    least = dict.fromkeys(WAYS, float("inf"))
    for _ in range(rounds):
        for way, step in steps.items():
            time.sleep(_REST)
            step()
            begin = time.perf_counter()
            step()
            least[way] = min(least[way], time.perf_counter() - begin)
    return least


def main(network: str = "resnet18", rounds: str = "30") -> None:
    """A line for each optimiser."""
    print(f"{network}, {torch.get_num_threads()} threads, ms of a step")
    for name in SETTINGS:
        times = measured(network, name, int(rounds))
        print(f"{name}: " + ", ".join(f"{way} {1e3 * t:.2f}" for way, t in times.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
