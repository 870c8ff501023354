"""Rates of single kernels on one core: `python benchmarks/kernels.py [NAME …] [--seconds S]`.

Each row of `CASES` is a layer of a known network, compiled as it stands in a network (input in the
layout that a layer before it leaves, ReLU as its epilogue) and timed by the runtime's own profile,
the fastest of many runs. The rate is compared with what a loop of nothing but fused multiply-adds
on registers reaches on the same core, measured in turn with the layers, because clocks change.
Run it alone: a share of the peak says little on a busy machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sol.backends.compilers import find_compiler
from sol.compiler import Compiled, compile_graph
from sol.core.device import CpuDevice, detect
from sol.core.dims import B, concrete
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import builder
from sol.report.machine import multiply_adds

Layer = Callable[[Builder, Node], Node]
_MAP = 4  # axes of images


@dataclass(frozen=True)
class Case:
    """A layer: where it is from, the shape of its input without the batch, what it does.

    flops: multiplications and additions for one image. bytes: of its input, weights and result,
    each once. fed: whether a layer before it leaves the input channels-last (else it is the
    network's own input, row-major).
    """

    name: str
    shape: tuple[int, ...]
    layer: Layer
    flops: int
    bytes: int
    fed: bool = field(default=True)


# ---- layers --------------------------------------------------------------------------------------


def conv(
    name: str,
    inputs: int,
    outputs: int,
    size: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
) -> Case:
    """A convolution on a square map, padded to keep its size by default, with bias and ReLU."""
    weight = (outputs, inputs // groups, kernel, kernel)
    pad = kernel // 2 if padding is None else padding

    def layer(b: Builder, x: Node) -> Node:
        w = b.parameter("w", TensorType(weight, F32))
        bias = b.parameter("b", TensorType((outputs,), F32))
        y = b.add(
            "conv", x, w, bias,
            stride=(stride, stride), padding=((pad, pad),) * 2, dilation=(1, 1), groups=groups,
        )  # fmt: skip
        return b.add("relu", y, name="layer")

    places = ((size + 2 * pad - kernel) // stride + 1) ** 2
    work = 2 * places * int(np.prod(weight))
    traffic = 4 * (inputs * size**2 + outputs * places + int(np.prod(weight)))
    shown = f"{name}: {inputs} -> {outputs}, {size}x{size}, {kernel}x{kernel}"
    shown += f" / {stride}" * (stride > 1)
    return Case(shown, (inputs, size, size), layer, work, traffic, fed=inputs > 3)


def linear(name: str, rows: int, inputs: int, outputs: int) -> Case:
    """A linear layer with bias on some tokens."""

    def layer(b: Builder, x: Node) -> Node:
        w = b.parameter("w", TensorType((outputs, inputs), F32))
        return b.add("linear", x, w, b.parameter("b", TensorType((outputs,), F32)), name="layer")

    traffic = 4 * (rows * (inputs + outputs) + inputs * outputs)
    shown = f"{name}: {rows} x {inputs} -> {outputs}"
    return Case(shown, (rows, inputs), layer, 2 * rows * inputs * outputs, traffic, fed=False)


def pool(name: str, channels: int, size: int, kernel: int, stride: int) -> Case:
    """A maximum over windows."""
    pad = kernel // 2

    def layer(b: Builder, x: Node) -> Node:
        return b.add(
            "max_pool", x, name="layer", ceil=False,
            kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(pad,) * 2, dilation=(1, 1),
        )  # fmt: skip

    places = ((size + 2 * pad - kernel) // stride + 1) ** 2
    traffic = 4 * channels * (size**2 + places)
    shown = f"{name}: {channels}, {size}x{size}, {kernel}x{kernel} / {stride}"
    return Case(shown, (channels, size, size), layer, channels * places * kernel**2, traffic)


def rows(name: str, op: str, count: int, length: int, flops: int, **attrs: Any) -> Case:
    """Softmax or a normalisation over rows; flops: for each element, exp counted as one."""

    def layer(b: Builder, x: Node) -> Node:
        return b.add(op, x, name="layer", **attrs)

    elements = count * length
    shown = f"{name}: {count} x {length}"
    return Case(shown, (count, length), layer, flops * elements, 8 * elements, fed=False)


CONTRACTIONS = (
    conv("ResNet stem", 3, 64, 224, 7, 2),
    conv("AlexNet stem", 3, 64, 224, 11, 4, padding=2),
    conv("VGG stem", 3, 64, 224, 3),
    conv("MobileNet stem", 3, 32, 224, 3, 2),
    conv("ShuffleNet stem", 3, 24, 224, 3, 2),
    conv("ConvNeXt patches", 3, 96, 224, 4, 4, padding=0),
    conv("ViT patches", 3, 768, 224, 16, 16, padding=0),
    conv("ResNet 3x3", 64, 64, 56, 3),
    conv("ResNet 3x3", 128, 128, 28, 3),
    conv("ResNet 3x3", 256, 256, 14, 3),
    conv("ResNet 3x3", 512, 512, 7, 3),
    conv("ResNet 3x3", 128, 128, 56, 3, 2),
    conv("ResNeXt 3x3, groups of 4", 128, 128, 56, 3, 1, 32),
    conv("RegNet 3x3, groups of 8", 440, 440, 14, 3, 1, 55),
    conv("ResNet 1x1", 64, 256, 56, 1),
    conv("ResNet 1x1", 256, 64, 56, 1),
    conv("ResNet 1x1", 1024, 256, 14, 1),
    conv("ResNet 1x1", 2048, 512, 7, 1),
    conv("MobileNet 1x1", 16, 96, 112, 1),
    conv("MobileNet 1x1", 144, 24, 56, 1),
    conv("MobileNet 1x1", 960, 160, 7, 1),
    linear("ViT feed-forward", 197, 768, 3072),
    linear("BERT projection", 128, 768, 768),
    linear("ResNet head", 1, 2048, 1000),
)
MEMORY_BOUND = (
    conv("MobileNet depthwise", 96, 96, 112, 3, 1, 96),
    conv("MobileNet depthwise", 144, 144, 56, 3, 2, 144),
    conv("MobileNet depthwise", 384, 384, 14, 3, 1, 384),
    conv("ConvNeXt depthwise", 96, 96, 56, 7, 1, 96),
    pool("ResNet max-pooling", 64, 112, 3, 2),
    rows("softmax", "softmax", 197 * 12, 197, 4, axis=2),
    rows(
        "layer norm", "layer_norm", 197, 768, 8,
        axes_count=1, eps=1e-5, has_weight=False, has_bias=False,
    ),
)  # fmt: skip

# ---- measuring -----------------------------------------------------------------------------------


def network(case: Case) -> Graph:
    """The layer in a network: before it a 1x1 convolution, if it is to be fed channels-last."""
    b = builder()
    x = b.input("x", TensorType((B, *case.shape), F32))
    if case.fed:
        channels = case.shape[0]
        w = b.parameter("feed", TensorType((channels, channels, 1, 1), F32))
        x = b.add(
            "conv", x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1
        )  # fmt: skip
    y = case.layer(b, x)
    if y.tensor.rank == _MAP:  # a result of the network would be row-major
        y = b.add("mean", y, axes=(2, 3), keepdims=False)
    return b.finish([y])


def seconds_of(case: Case, device: CpuDevice, budget: float) -> tuple[float, str]:
    """Seconds of the layer on one thread, the fastest of all runs, and how it is implemented."""
    compiled = compile_graph(network(case), device=device)
    graph, rng = compiled.graph, np.random.default_rng(0)
    given = {
        n["key"]: rng.standard_normal(concrete(n.shape, 1)).astype("f4") for n in graph.parameters
    }
    compiled.prepare(given)
    x = rng.standard_normal((1, *case.shape)).astype("f4")
    y = np.empty(concrete(graph[graph.outputs[0]].shape, 1), "f4")
    steps = _steps(compiled)
    best = float("inf")
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        times = compiled.profile([x.ctypes.data], [y.ctypes.data], 1, 1, rounds=3)
        best = min(best, sum(times[k] for k in steps) * 1e-9)
    return best, compiled.steps[steps[-1]].why


def _steps(compiled: Compiled) -> list[int]:
    """The steps that compute the layer: all but those of what feeds and ends it."""
    around = ("conv", "mean")
    found = []
    for number, made in enumerate(compiled.steps):
        values = made.cluster.values
        if not (len(compiled.steps) > 1 and values[-1] in around):
            found.append(number)
    return found


def main() -> None:
    """Measure the chosen cases and print them as two tables in Markdown."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("names", nargs="*", metavar="NAME", help="only layers with this in them")
    arguments.add_argument("--seconds", type=float, default=1.0, help="for each layer (default 1)")
    chosen = arguments.parse_args()
    device = detect()
    top = multiply_adds(device)
    print(f"{device.describe()}; {find_compiler().describe()}\n")
    for title, cases, unit in (
        ("bound by arithmetic", CONTRACTIONS, "share of the FMA peak"),
        ("bound by memory", MEMORY_BOUND, "GB/s"),
    ):
        print(f"| {title} | µs | GFLOP/s | {unit} | implementation |\n|---|--:|--:|--:|---|")
        for case in cases:
            if chosen.names and not any(n in case.name for n in chosen.names):
                continue
            before = top()
            seconds, why = seconds_of(case, device, chosen.seconds)
            rate, limit = case.flops / seconds, max(before, top())
            last = f"{case.bytes / seconds / 1e9:.1f}"
            if cases is CONTRACTIONS:
                last = f"{100 * rate / limit:.0f} % of {limit / 1e9:.0f}"
            times = f"{seconds * 1e6:.0f} | {rate / 1e9:.1f}"
            print(f"| {case.name} | {times} | {last} | {why} |", flush=True)
        print()


if __name__ == "__main__":
    main()
