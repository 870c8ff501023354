"""The networks of keras.applications by Sol: are they right, and how fast are they?

    python benchmarks/keras_applications.py                      errors, one network of each family
    python benchmarks/keras_applications.py --all                errors, every network
    python benchmarks/keras_applications.py --speed resnet50     times beside TensorFlow and XLA
    python benchmarks/keras_applications.py --speed --json F     all families; goes on if ended

Errors are those of the logits against the same network in float64, relative to the largest logit;
all weights are random, those of normalisations included. Times are minima of calls that take turns
(original as a `tf.function`, with XLA, and Sol), in milliseconds, of as many rounds as 20 seconds
hold for each network and batch, but at least 3.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from sol.tensorflow import optimize

_A = keras.applications
# name: (how it is made, the size of images for errors, the size that it is meant for)
FAMILIES: dict[str, tuple[Callable[..., Any], int, int]] = {
    "vgg16": (_A.VGG16, 64, 224),
    "resnet50": (_A.ResNet50, 64, 224),
    "resnet50v2": (_A.ResNet50V2, 64, 224),
    "xception": (_A.Xception, 96, 299),
    "inceptionv3": (_A.InceptionV3, 96, 299),
    "inceptionresnetv2": (_A.InceptionResNetV2, 96, 299),
    "mobilenet": (_A.MobileNet, 96, 224),
    "mobilenetv2": (_A.MobileNetV2, 96, 224),
    "mobilenetv3small": (_A.MobileNetV3Small, 96, 224),
    "densenet121": (_A.DenseNet121, 64, 224),
    "nasnetmobile": (_A.NASNetMobile, 96, 224),
    "efficientnetb0": (_A.EfficientNetB0, 96, 224),
    "efficientnetv2b0": (_A.EfficientNetV2B0, 96, 224),
    "convnexttiny": (_A.ConvNeXtTiny, 64, 224),
}
OTHERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "vgg19": (_A.VGG19, 64, 224),
    "resnet101": (_A.ResNet101, 64, 224),
    "resnet152v2": (_A.ResNet152V2, 64, 224),
    "mobilenetv3large": (_A.MobileNetV3Large, 96, 224),
    "densenet169": (_A.DenseNet169, 64, 224),
    "densenet201": (_A.DenseNet201, 64, 224),
    "nasnetlarge": (_A.NASNetLarge, 96, 331),
    "efficientnetb3": (_A.EfficientNetB3, 96, 300),
    "efficientnetv2s": (_A.EfficientNetV2S, 96, 384),
    "convnextsmall": (_A.ConvNeXtSmall, 64, 224),
}
_MOST = 3.0  # times TensorFlow's own error
_FEWEST = 3  # rounds


def made(name: str, size: int) -> Any:
    """A network with random weights, without its softmax."""
    build = (FAMILIES | OTHERS)[name][0]
    model = build(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(_random(rng, variable).astype(np.float32))
    return model


def _random(rng: np.random.Generator, variable: Any) -> Any:
    """Values of the size that training leaves: no network dies out or explodes."""
    shape, name = variable.shape, variable.path
    if "variance" in name or "gamma" in name:
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) < 2:
        return rng.normal(0.0, 0.1, shape)
    depthwise = "depthwise" in name
    fan = np.prod(shape[:2]) if depthwise and len(shape) == 4 else np.prod(shape[:-1])
    return rng.normal(0.0, np.sqrt(1.5 / fan), shape)


def in_float64(model: Any) -> Any:
    """The same network in double precision."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(changed(v) for v in value)
        return "float64" if value == "float32" else value

    config = changed(keras.saving.serialize_keras_object(model))
    double = keras.saving.deserialize_keras_object(config, safe_mode=False)
    double.set_weights([w.astype(np.float64) for w in model.get_weights()])
    return double


def images(batch: int, size: int) -> Any:
    """Pixels as they are in files."""
    return np.random.default_rng(1).uniform(0, 255, (batch, size, size, 3)).astype(np.float32)


def errors(name: str) -> bool:
    """Print the errors of a network; whether Sol's is in bounds and nothing was left."""
    size = (FAMILIES | OTHERS)[name][1]
    model = made(name, size)
    fast, exact = optimize(model), in_float64(model)
    good = True
    for batch in (2, 1):
        x = images(batch, size)
        begin = time.perf_counter()
        found = fast(x).numpy()
        seconds = time.perf_counter() - begin
        wanted = exact(x).numpy()
        scale = np.abs(wanted).max()
        error, own = (np.abs(r - wanted).max() / scale for r in (found, model(x).numpy()))
        left = [*fast.sol.left, *fast.sol.fallbacks]
        right = bool(error <= _MOST * own) and not left
        good = good and right
        print(
            f"{name:18} {batch:2} {size:4} Sol {error:8.1e}  TensorFlow {own:8.1e}  "
            f"{error / own:5.2f}x  largest {scale:8.2e}  first call {seconds:5.1f} s  "
            f"{'ok' if right else 'WRONG ' + '; '.join(left)}",
            flush=True,
        )
    return good


def speed(name: str, batch: int, given: argparse.Namespace) -> dict[str, float]:
    """The least times of a network, in milliseconds, of calls that take turns."""
    size = (FAMILIES | OTHERS)[name][2]
    model = made(name, size)
    threads = {} if given.threads is None else {"threads": given.threads}
    fast = optimize(model, **threads)
    x = tf.constant(images(batch, size))
    ways = {
        "TensorFlow": tf.function(lambda t: model(t, training=False)),
        "XLA": tf.function(lambda t: model(t, training=False), jit_compile=True),
        "Sol": fast,
    }
    least = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way(x)
    end = time.perf_counter() + given.seconds
    for number in range(given.rounds):
        if number >= _FEWEST and time.perf_counter() > end:
            break
        for key, way in ways.items():
            begin = time.perf_counter()
            way(x).numpy()
            least[key] = min(least[key], 1e3 * (time.perf_counter() - begin))
    return least


def shown(name: str, batch: int, least: dict[str, float]) -> None:
    """Print times and ratios."""
    times = "  ".join(f"{key} {value:8.2f}" for key, value in least.items())
    ratios = "  ".join(f"{least[key] / least['Sol']:5.2f}x" for key in ("TensorFlow", "XLA"))
    print(f"{name:18} batch {batch:2}  {times}  {ratios}", flush=True)


def speeds(names: list[str], given: argparse.Namespace) -> None:
    """Print the times of networks; those that the file has are not measured again."""
    file = given.json
    known = json.loads(file.read_text()) if file is not None and file.exists() else {}
    for name, batch in itertools.product(names, given.batch):
        key = f"{name} {batch}"
        if key not in known:
            keras.backend.clear_session()
            known[key] = speed(name, batch, given)
            if file is not None:
                file.write_text(json.dumps(known, indent=1))
        shown(name, batch, known[key])


def main(arguments: list[str]) -> int:
    """Run; the exit code is 1 if a network is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="names; all families by default")
    parser.add_argument("--all", action="store_true", help="further networks of the families")
    parser.add_argument("--speed", action="store_true", help="times, not errors")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=20, help="at most")
    parser.add_argument("--seconds", type=float, default=20, help="of a network and batch")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="a file that keeps the times")
    given = parser.parse_args(arguments)
    if given.threads:
        tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    names = given.networks or [*FAMILIES, *(OTHERS if given.all else ())]
    if given.speed:
        speeds(names, given)
        return 0
    good = True
    for name in names:
        keras.backend.clear_session()
        good = errors(name) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
