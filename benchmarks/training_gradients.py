"""Gradients of whole networks: Sol and PyTorch in float32, each against PyTorch in float64.

    python benchmarks/training_gradients.py                  the networks of NETWORKS
    python benchmarks/training_gradients.py resnet18 lstm    these

Training mode, four small images or short sequences, weights as in the other benchmarks
(sol/bench/randomise.py), dropout and stochastic depth off, because random numbers differ. The
gradient of a parameter is off by |found - exact| / |exact|, Euclidean norms over the parameter,
where |exact| is at least a thousandth of the largest one of the network: a bias before batch
statistics has the gradient 0, and what is computed is noise. An input is off by its worst
parameter.

ReLU and maximum have kinks: a value that rounds to the other side of one changes gradients by far
more than rounding does, by Sol on one input, by PyTorch on another one. So each network is measured
twice: as it is, by the mean over INPUTS inputs, and with SiLU and averages in place of kinks, by
the median over a few, which tells how exact kernels are.

A line per network, for both: errors by Sol and by PyTorch, and their ratio; for a network with
kinks, on how many inputs something jumped, that is, the error is ten times the smallest one. Exit
status 1 if a ratio without kinks is above 3, or something stayed in PyTorch.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from sol.bench import zoo
from sol.bench.training import for_training, gradient_errors, gradients
from sol.pytorch import optimize

ALLOWED = 3.0  # times PyTorch's own float32 error
INPUTS = 16
FEW = 5  # inputs without kinks
JUMP = 10.0  # times the error of an input on which nothing jumped, at least
BATCH = 4

# name -> pixels of a side, 0 for what has none
NETWORKS = {
    "alexnet": 64,
    "vgg16": 64,
    "vgg16_bn": 64,
    "resnet18": 64,
    "resnet50": 64,
    "densenet121": 64,
    "squeezenet1_0": 64,
    "inception_v3": 96,
    "mobilenet_v2": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "vit_b_16": 224,
    "bert-base": 0,
    "lstm": 0,
}
_SPECS = {"lstm": "benchmarks.models:lstm"}


@contextlib.contextmanager
def without_kinks() -> Iterator[list[str]]:
    """SiLU instead of ReLU and ReLU6, averages instead of maxima, in modules and functions. Yields
    a list that has something in it as soon as one of them was called."""
    called: list[str] = []

    def smooth(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        called.append("smooth")
        return functional.silu(x)

    def average(
        x: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any,
        **more: Any,
    ) -> torch.Tensor:  # fmt: skip
        called.append("average")
        return functional.avg_pool2d(x, kernel_size, stride, padding, more.get("ceil_mode", False))

    names = {"relu": smooth, "relu_": smooth, "hardtanh": smooth, "max_pool2d": average}
    with patch.multiple(functional, **names):
        yield called


def built(name: str, pixels: int) -> zoo.Network:
    """A network in training mode that draws no random numbers."""
    network = for_training(zoo.build(_SPECS.get(name, name), BATCH))
    module = network.module
    if hasattr(module, "AuxLogits"):  # needs images that are large
        module.AuxLogits, module.aux_logits = None, False  # type: ignore[assignment]
    args = (torch.randn(BATCH, 3, pixels, pixels),) if pixels else network.args
    return zoo.Network(name, module, args, network.kwargs)


def drawn(network: zoo.Network, module: nn.Module, seed: int) -> zoo.Network:
    """The same network on other numbers, by `module`."""
    generator = torch.Generator().manual_seed(seed)
    double = next(module.parameters()).dtype == torch.float64

    def draw(x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            return torch.randint(0, int(x.max()) + 1, x.shape, generator=generator)
        y = torch.randn(x.shape, generator=generator)
        return y.double() if double else y

    args, kwargs = pytree.tree_map_only(torch.Tensor, draw, (network.args, dict(network.kwargs)))
    return zoo.Network(network.name, module, args, kwargs)


def gradients_of(network: zoo.Network, module: nn.Module, seed: int) -> list[Any]:
    """The gradients of all parameters on an input, for random changes of all results."""
    given = drawn(network, module, seed)
    module.zero_grad()
    results = [r for r in pytree.tree_leaves(module(*given.args, **given.kwargs)) if _real(r)]
    generator = torch.Generator().manual_seed(seed)
    changes = [torch.randn(r.shape, generator=generator).to(r.dtype) for r in results]
    torch.autograd.backward(results, changes)
    return [g.copy() for g in gradients(given)]


def _real(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def compared(network: zoo.Network, inputs: int) -> tuple[list[float], list[float], int]:
    """Errors by Sol and by PyTorch on each input, and how many operators stay in PyTorch, -1 for
    all."""
    own, exact = network.module, copy.deepcopy(network.module).double()
    fast: Any = optimize(copy.deepcopy(own), never_slower=False)
    off: list[list[float]] = [[], []]
    for seed in range(inputs):
        truth = gradients_of(network, exact, seed)
        for errors, module in zip(off, (fast, own)):
            errors.append(max(gradient_errors(gradients_of(network, module, seed), truth)))
    programs = fast.sol.report.programs
    return off[0], off[1], sum(len(p.left) for p in programs) if programs else -1


def shown(mine: float, theirs: float) -> str:
    """Two errors and their ratio."""
    return f"{mine:.1e} / {theirs:.1e} = {mine / max(theirs, 1e-12):.2f}"


def examine(name: str, pixels: int) -> bool:
    """Print a network's line; whether it is as it should be."""
    start = time.perf_counter()
    network = built(name, pixels)
    with without_kinks() as called:
        network.module(*network.args, **network.kwargs)
        *smooth, left = compared(network, FEW)
    mine, theirs = map(statistics.median, smooth)
    line = f"{name:16} left {left}  without kinks {shown(mine, theirs)}"
    if called:
        *as_it_is, left = compared(network, INPUTS)
        least = JUMP * min(map(min, as_it_is))
        jumped = " and ".join(str(sum(e > least for e in errors)) for errors in as_it_is)
        line += f"  as it is {shown(*map(statistics.fmean, as_it_is))}"
        line += f", jumps on {jumped} of {INPUTS} inputs"
    print(f"{line}  {time.perf_counter() - start:.0f} s", flush=True)
    return left == 0 and mine <= ALLOWED * theirs


if __name__ == "__main__":
    names = sys.argv[1:] or list(NETWORKS)
    results = [examine(name, NETWORKS.get(name, 64)) for name in names]
    sys.exit(0 if all(results) else 1)
