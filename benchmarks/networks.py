"""Correctness of whole networks: Sol and PyTorch in float32, each against PyTorch in float64.

    python benchmarks/networks.py                    all torchvision classifiers, 18 timm networks,
    small transformers
    python benchmarks/networks.py resnet18 bert-tiny     these

Random weights, BatchNorm statistics disturbed, constant parameters replaced, so that nothing hides
(sol/bench/randomise.py). One optimised module serves batches of 1, 2 and 5. A line per network:
operators left in PyTorch, the ratio of Sol's largest error to PyTorch's for each batch, and the
seconds of `optimize`. Exit status 1 if a ratio is above 3 or something stayed in PyTorch.
"""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import torch
from torch.utils import _pytree as pytree

from sol.bench import zoo
from sol.pytorch import optimize

TIMM = (
    "resnet50d efficientnetv2_rw_t mobilenetv4_conv_small convnextv2_atto regnety_004 "
    "vit_tiny_patch16_224 swin_tiny_patch4_window7_224 deit3_small_patch16_224 mixer_s16_224 "
    "coatnet_0_rw_224 levit_128s nfnet_l0 ghostnet_100 maxvit_tiny_rw_224 xcit_nano_12_p8_224 "
    "poolformer_s12 edgenext_xx_small resnest14d"
)
TRANSFORMERS = (
    "bert-tiny distilbert-tiny gpt2-tiny llama-tiny qwen3-tiny vit-tiny t5-tiny whisper-toy"
)
ALLOWED = 3.0  # times PyTorch's own float32 error


def every_name() -> list[str]:
    """All networks of the first form of the command."""
    zoo.import_torchvision()
    from torchvision import models

    names = [f"timm/{n}" for n in TIMM.split()] + TRANSFORMERS.split()
    return names + list(models.list_models(module=models))


def examine(name: str) -> bool:
    """Print a network's line; whether it is as it should be."""
    network = zoo.build(name, 2)
    exact = copy.deepcopy(network.module).double()
    start = time.perf_counter()
    fast: Any = optimize(network.module, *network.args, example_kwargs=network.kwargs)
    seconds = time.perf_counter() - start
    ratios = [_ratio(name, fast, network.module, exact, batch) for batch in (1, 2, 5)]
    report = fast.sol.report
    left = sum(len(p.left) for p in report.programs) if report.programs else -1
    fine = left == 0 and max(ratios) <= ALLOWED
    shown = " ".join(f"{r:.2f}" for r in ratios)
    print(f"{name:34} left {left}  error ratios {shown}  optimize {seconds:.1f} s", flush=True)
    return fine


def _ratio(name: str, fast: Any, model: Any, exact: Any, batch: int) -> float:
    network = zoo.build(name, batch)
    with torch.inference_mode():
        found = _results(fast(*network.args, **network.kwargs))
        own = _results(model(*network.args, **network.kwargs))
        inputs = pytree.tree_map(_double, (network.args, dict(network.kwargs)))
        truth = _results(exact(*inputs[0], **inputs[1]))
    error = max(_distance(a, b) for a, b in zip(found, truth, strict=True))
    return error / max(max(_distance(a, b) for a, b in zip(own, truth, strict=True)), 1e-12)


def _results(output: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]


def _double(x: Any) -> Any:
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    largest = truth.abs().max().clamp(min=1e-30)
    return float((found.double() - truth).abs().max() / largest)


if __name__ == "__main__":
    results = [examine(name) for name in sys.argv[1:] or every_name()]
    sys.exit(0 if all(results) else 1)
