"""Networks of gluon's model zoo by Sol, from files and from blocks, beside MXNet in float64.

`python -m tests.mxnet.zoo` runs all of them and an LSTM, and prints a line for each; `python -m
tests.mxnet.zoo resnet18_v1 …` some, `--small` with small images where a network takes them. An
error is the largest difference from MXNet in float64.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sol.mxnet import optimize
from tests.mxnet.framework import mxnet

SIZES = {"inceptionv3": 299}
_SMALL = {"resnet": 64, "mobilenet": 64, "vgg": 64, "alexnet": 96}  # the others pool windows of 224

NAMES = (
    "alexnet", "densenet121", "densenet161", "densenet169", "densenet201", "inceptionv3",
    "mobilenet0.25", "mobilenet0.5", "mobilenet0.75", "mobilenet1.0", "mobilenetv2_0.25",
    "mobilenetv2_0.5", "mobilenetv2_0.75", "mobilenetv2_1.0", "resnet101_v1", "resnet101_v2",
    "resnet152_v1", "resnet152_v2", "resnet18_v1", "resnet18_v2", "resnet34_v1", "resnet34_v2",
    "resnet50_v1", "resnet50_v2", "squeezenet1.0", "squeezenet1.1", "vgg11", "vgg11_bn", "vgg13",
    "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "lstm",
)  # fmt: skip


def shape_of(name: str, batch: int, small: bool) -> tuple[int, ...]:
    """The shape of what a network is called with."""
    if name == "lstm":
        return (batch, 9, 12)
    found = [size for start, size in _SMALL.items() if small and name.startswith(start)]
    size = found[0] if found else SIZES.get(name, 224)
    return (batch, 3, size, size)


def network(name: str, dtype: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    """A network for inputs of this shape, with the same random weights and statistics in every
    type."""
    mx = mxnet()
    if name == "lstm":
        net = mx.gluon.rnn.LSTM(20, 2, layout="NTC", bidirectional=True, prefix="net_")
    else:
        net = mx.gluon.model_zoo.vision.get_model(name, prefix="net_")
    net.cast(dtype)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros(shape, dtype=dtype))  # sizes of parameters follow from it
    rng = np.random.default_rng(seed)
    for key, parameter in net.collect_params().items():
        parameter.set_data(mx.nd.array(_values(rng, key, parameter.shape), dtype=dtype))
    return net


def _values(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith(("gamma", "var")):
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    if len(shape) == 1:
        return rng.uniform(-0.1, 0.1, shape).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def errors(name: str, batch: int = 1, small: bool = False) -> dict[str, float]:
    """Errors of MXNet's float32, of Sol's network from files, and of Sol's block."""
    mx = mxnet()
    shape = shape_of(name, batch, small)
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    exact = network(name, "float64", shape)(mx.nd.array(x, dtype="float64")).asnumpy()
    net = network(name, "float32", shape)
    given = mx.nd.array(x)
    found = {"mxnet": net(given).asnumpy()}
    with tempfile.TemporaryDirectory() as folder:
        net.export(str(Path(folder) / "net"))
        model = optimize(Path(folder) / "net")
        states = [np.zeros((4, batch, 20), np.float32)] * (len(model.inputs) - 1)
        y = model(x, *states)
        found["files"] = y[0] if isinstance(y, list) else y
    fast = optimize(net)
    found["block"] = fast(given).asnumpy()
    assert not fast.sol.refused, fast.sol.explain()
    scale = np.abs(exact).max()
    return {k: float(np.abs(y - exact).max() / scale) for k, y in found.items()}


def main() -> None:
    """One line for each network."""
    worst = 0.0
    small = "--small" in sys.argv
    for name in [a for a in sys.argv[1:] if a != "--small"] or NAMES:
        start = time.monotonic()
        found = errors(name, small=small)
        ratio = max(found["files"], found["block"]) / found["mxnet"]
        worst = max(worst, ratio)
        each = "  ".join(f"{k} {v:.1e}" for k, v in found.items())
        print(f"{name:20} {each}  ratio {ratio:.2f}  {time.monotonic() - start:.0f} s", flush=True)
    print(f"worst ratio {worst:.2f}")


if __name__ == "__main__":
    main()
