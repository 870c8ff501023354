"""One network in four frameworks: the same plan, the same numbers, the same speed.

    python benchmarks/same_network.py             torchvision's ResNet-50, written in each framework
    python benchmarks/same_network.py --keras     keras.applications' ResNet-50, and its like
    python benchmarks/same_network.py --speed     and times, in turn, batch 1 and 16

The network is written as a user of each framework would: a module of PyTorch, the ONNX file that
PyTorch exports, a model of Keras with channels last, a symbol of MXNet. All have the weights of the
first. Plans are compared cluster by cluster: operators, and how they are computed. Exit status 1 if
plans differ, or numbers by more than 5e-5 of the largest one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from torch import nn

import sol.mxnet
import sol.onnx
import sol.pytorch
import sol.tensorflow
from benchmarks.onnx_networks import exported
from sol.accuracy import ROUNDING
from sol.bench.randomise import randomise
from sol.bench.zoo import Network, import_torchvision
from sol.report.text import ClusterReport
from tests.mxnet.framework import mxnet

ALLOWED = ROUNDING
Run = Callable[[Any], Any]  # images in NumPy, channels second
Plan = Counter[tuple[str, tuple[str, ...], str]]  # kind, operators, implementation of clusters


@dataclass(frozen=True)
class Written:
    """A network in one framework, by Sol: called with images, and the clusters of its program."""

    run: Run
    clusters: Callable[[], tuple[ClusterReport, ...]]

    @property
    def plan(self) -> Plan:
        """Kind, operators and implementation of each cluster. Images with channels last are read
        through a permute, which is another way to count, and nothing that is done."""
        return Counter(
            (c.kind, tuple(sorted({*c.operators} - {"permute"})), c.implementation)
            for c in self.clusters()
        )


# ---- networks of PyTorch -------------------------------------------------------------------------


def resnet(blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64, classes: int = 1000) -> Any:
    """torchvision's ResNet of bottlenecks; ResNet-50 if nothing else is said."""
    import_torchvision()
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, list(blocks), num_classes=classes, width_per_group=width)


def as_in_keras(module: Any) -> Any:
    """The variant of keras.applications: convolutions with biases, the first one of a block goes
    down, another epsilon."""
    for stage in (module.layer2, module.layer3, module.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.bias = nn.Parameter(torch.zeros(part.out_channels))
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1.001e-5
    return module


def prepared(module: Any, size: int) -> tuple[Any, Any]:
    """A module with random weights in evaluation mode, and two images."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    randomise(module.eval(), (images,), {})
    return module, images.numpy()


# ---- the same, written in other frameworks -------------------------------------------------------


def rewritten(of: Any, layers: KerasLayers | MXNetLayers, x: Any) -> Any:
    """A ResNet of torchvision in the layers of another framework."""
    x = layers.relu(layers.norm(of.bn1, "bn1", layers.conv(of.conv1, "conv1", x)))
    x = layers.pool(of.maxpool, x)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for number, block in enumerate(getattr(of, stage)):
            x = _bottleneck(block, f"{stage}_{number}", layers, x)
    return layers.head(of.fc, "fc", x)


def _bottleneck(of: Any, name: str, layers: KerasLayers | MXNetLayers, x: Any) -> Any:
    y = x
    for number in (1, 2, 3):
        y = layers.conv(getattr(of, f"conv{number}"), f"{name}_conv{number}", y)
        y = layers.norm(getattr(of, f"bn{number}"), f"{name}_bn{number}", y)
        y = y if number == 3 else layers.relu(y)
    if of.downsample is not None:
        x = layers.conv(of.downsample[0], f"{name}_down", x)
        x = layers.norm(of.downsample[1], f"{name}_down_bn", x)
    return layers.relu(layers.add(y, x))


class KerasLayers:
    """Channels last; padding is a layer of its own."""

    def __init__(self) -> None:
        self.weights: dict[str, list[Any]] = {}

    def conv(self, of: nn.Conv2d, name: str, x: Any) -> Any:
        k, bias = keras.layers, of.bias is not None
        x = k.ZeroPadding2D(of.padding)(x) if of.padding != (0, 0) else x
        self.weights[name] = [_array(of.weight).transpose(2, 3, 1, 0), *_arrays(of.bias)]
        made = k.Conv2D(of.out_channels, of.kernel_size, of.stride, use_bias=bias, name=name)
        return made(x)

    def norm(self, of: nn.BatchNorm2d, name: str, x: Any) -> Any:
        self.weights[name] = _arrays(of.weight, of.bias, of.running_mean, of.running_var)
        return keras.layers.BatchNormalization(epsilon=of.eps, name=name)(x)

    def relu(self, x: Any) -> Any:
        return keras.layers.ReLU()(x)

    def pool(self, of: nn.MaxPool2d, x: Any) -> Any:
        x = keras.layers.ZeroPadding2D(of.padding)(x)
        return keras.layers.MaxPooling2D(of.kernel_size, of.stride)(x)

    def add(self, x: Any, y: Any) -> Any:
        return keras.layers.Add()([x, y])

    def head(self, of: nn.Linear, name: str, x: Any) -> Any:
        self.weights[name] = [_array(of.weight).T, _array(of.bias)]
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.layers.Dense(of.out_features, name=name)(x)


class MXNetLayers:
    """Symbols; `parameters` are the arrays of their variables."""

    def __init__(self) -> None:
        self.s = mxnet().sym
        self.parameters: dict[str, Any] = {}

    def conv(self, of: nn.Conv2d, name: str, x: Any) -> Any:
        self._keep(name, weight=of.weight, bias=of.bias)
        return self.s.Convolution(
            x, name=name, num_filter=of.out_channels, kernel=of.kernel_size, stride=of.stride,
            pad=of.padding, no_bias=of.bias is None,
        )  # fmt: skip

    def norm(self, of: nn.BatchNorm2d, name: str, x: Any) -> Any:
        self._keep(name, gamma=of.weight, beta=of.bias)
        self._keep(name, moving_mean=of.running_mean, moving_var=of.running_var)
        return self.s.BatchNorm(x, name=name, eps=of.eps, fix_gamma=False)

    def relu(self, x: Any) -> Any:
        return self.s.Activation(x, act_type="relu")

    def pool(self, of: nn.MaxPool2d, x: Any) -> Any:
        size, stride, pad = ((n, n) for n in (of.kernel_size, of.stride, of.padding))
        return self.s.Pooling(x, kernel=size, stride=stride, pad=pad, pool_type="max")

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def head(self, of: nn.Linear, name: str, x: Any) -> Any:
        self._keep(name, weight=of.weight, bias=of.bias)
        x = self.s.Pooling(x, global_pool=True, pool_type="avg", kernel=(7, 7))
        return self.s.FullyConnected(x, name=name, num_hidden=of.out_features)

    def _keep(self, layer: str, **tensors: Any) -> None:
        found = {f"{layer}_{k}": _array(t) for k, t in tensors.items() if t is not None}
        self.parameters.update(found)


def _array(tensor: Any) -> Any:
    return tensor.detach().numpy()


def _arrays(*tensors: Any) -> list[Any]:
    return [_array(t) for t in tensors if t is not None]


def keras_model(module: Any, size: int) -> Any:
    """The network in layers of Keras."""
    layers, x = KerasLayers(), keras.Input((size, size, 3))
    model = keras.Model(x, rewritten(module, layers, x))
    for name, arrays in layers.weights.items():
        model.get_layer(name).set_weights(arrays)
    return model


def keras_application(module: Any, size: int) -> Any:
    """keras.applications.ResNet50 with the weights of a module that was made `as_in_keras`."""
    layers, x = KerasLayers(), keras.Input((size, size, 3))
    rewritten(module, layers, x)
    model = keras.applications.ResNet50(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )
    for name, arrays in layers.weights.items():
        model.get_layer(_in_application(name)).set_weights(arrays)
    return model


def _in_application(name: str) -> str:
    """layer1_0_bn2 -> conv2_block1_2_bn"""
    if not name.startswith("layer"):
        return {"conv1": "conv1_conv", "bn1": "conv1_bn", "fc": "predictions"}[name]
    stage, block, rest = name.removeprefix("layer").split("_", 2)
    kind = "bn" if "bn" in rest else "conv"
    number = 0 if rest.startswith("down") else int(rest[-1])
    return f"conv{int(stage) + 1}_block{int(block) + 1}_{number}_{kind}"


# ---- by Sol --------------------------------------------------------------------------------------


def _first_program(programs: Any) -> tuple[ClusterReport, ...]:
    (part,) = programs[0].parts
    return tuple(part.clusters)


def by_pytorch(module: Any, images: Any) -> Written:
    """The module, by Sol."""
    fast = sol.pytorch.optimize(
        module, torch.from_numpy(images), progress=False, never_slower=False
    )

    def run(x: Any) -> Any:
        with torch.no_grad():
            return fast(torch.from_numpy(x)).numpy()

    return Written(run, lambda: _first_program(fast.sol.report.programs))


def by_onnx(module: Any, images: Any) -> Written:
    """The file that PyTorch exports of it."""
    network = Network("net", module, (torch.from_numpy(images),))
    with tempfile.TemporaryDirectory() as folder:
        session = sol.onnx.optimize(exported(network, Path(folder)))
    return Written(session, lambda: _first_program(session.reports[0].programs))


def by_keras(model: Any) -> Written:
    """A model of Keras; images are turned round before and not timed."""
    fast = sol.tensorflow.optimize(model)
    return Written(
        lambda x: fast(channels_last(x)).numpy(),
        lambda: _first_program(fast.sol.report[0].programs),
    )


def channels_last(x: Any) -> Any:
    """Images for Keras."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def by_mxnet(module: Any, images: Any) -> Written:
    """A symbol of MXNet, and its parameters."""
    del images
    layers = MXNetLayers()
    symbol = rewritten(module, layers, mxnet().sym.var("data"))
    fast = sol.mxnet.optimize(symbol, layers.parameters, {"data": (None, 3, None, None)})
    return Written(fast, lambda: _first_program(fast.reports[0].programs))


FRAMEWORKS: dict[str, Callable[[Any, Any], Written]] = {
    "PyTorch": by_pytorch,
    "ONNX": by_onnx,
    "Keras": lambda module, images: by_keras(keras_model(module, images.shape[-1])),
    "MXNet": by_mxnet,
}


def everywhere(module: Any, images: Any) -> dict[str, Written]:
    """A network in all four frameworks."""
    return {name: by(module, images) for name, by in FRAMEWORKS.items()}


def of_keras(module: Any, images: Any) -> dict[str, Written]:
    """ResNet-50 of keras.applications and a module that is like it."""
    model = keras_application(module, images.shape[-1])
    return {"PyTorch": by_pytorch(module, images), "Keras": by_keras(model)}


# ---- comparing -----------------------------------------------------------------------------------


def difference(found: Any, expected: Any) -> float:
    """The largest difference, of the largest result."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compared(written: dict[str, Written], images: Any) -> bool:
    """Print errors and plans; whether all is well."""
    results = {name: each.run(images) for name, each in written.items()}
    errors = {name: difference(found, results["PyTorch"]) for name, found in results.items()}
    first, good = written["PyTorch"].plan, True
    for name, each in written.items():
        more, less = each.plan - first, first - each.plan
        same = "the same plan" if not (more or less) else f"{more.total()} clusters differ"
        print(f"{name:8} {each.plan.total():3} clusters, {same:20} differs by {errors[name]:.1e}")
        for cluster in more:
            print("   more:", *cluster)
        for cluster in less:
            print("   less:", *cluster)
        good = good and not (more or less) and errors[name] <= ALLOWED
    return good


def timed(written: dict[str, Written], images: Any, rounds: int) -> None:
    """Print the least times of calls that take turns, in milliseconds."""
    least = dict.fromkeys(written, float("inf"))
    for each in written.values():
        each.run(images)
    for _ in range(rounds):
        for name, each in written.items():
            begin = time.perf_counter()
            each.run(images)
            least[name] = min(least[name], time.perf_counter() - begin)
    found = "  ".join(
        f"{name} {1e3 * t:.2f} ({t / least['PyTorch']:.3f})" for name, t in least.items()
    )
    print(f"batch {len(images):2}: {found}", flush=True)


def main(arguments: list[str]) -> int:
    """Run; the exit code is 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", action="store_true", help="ResNet-50 of keras.applications")
    parser.add_argument("--speed", action="store_true", help="also times")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    module = as_in_keras(resnet()) if given.keras else resnet()
    module, images = prepared(module, given.size)
    written = (of_keras if given.keras else everywhere)(module, images)
    good = compared(written, images)
    for batch in (1, 16) if given.speed else ():
        timed(written, np.resize(images, (batch, *images.shape[1:])), given.rounds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
