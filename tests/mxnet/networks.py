"""Small networks of MXNet, as files that need no MXNet, and as blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.mxnet.framework import mxnet
from tests.mxnet.written import file_of, record


def written(folder: Path, prefix: str = "net") -> Path:
    """A dense network, relu(x wᵀ + b) and its softmax, as files: folder/prefix."""
    rng = np.random.default_rng(0)
    weights = {
        "arg:w": rng.standard_normal((5, 12), np.float32),
        "arg:b": rng.standard_normal(5, np.float32),
    }
    names = ("data", "w", "b", "label")
    nodes: list[dict[str, Any]] = [{"op": "null", "name": n, "inputs": []} for n in names]
    nodes += [
        {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "5"},
         "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]},
        {"op": "Activation", "name": "relu", "attrs": {"act_type": "relu"}, "inputs": [[4, 0, 0]]},
        {"op": "SoftmaxOutput", "name": "softmax", "inputs": [[5, 0, 0], [3, 0, 0]]},
    ]  # fmt: skip
    symbol = {"nodes": nodes, "arg_nodes": [0, 1, 2, 3], "heads": [[6, 0, 0], [5, 0, 0]]}
    (folder / f"{prefix}-symbol.json").write_text(json.dumps(symbol))
    data = file_of({name: record(w) for name, w in weights.items()})
    (folder / f"{prefix}-0000.params").write_bytes(data)
    return folder / prefix


def expected(prefix: Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the files compute, in NumPy."""
    from sol.mxnet.params import read_params

    params = read_params(prefix.with_name(prefix.name + "-0000.params"))
    y = np.maximum(x.reshape(len(x), -1) @ params["arg:w"].T + params["arg:b"], 0)
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), y


def block(seed: int = 0) -> Any:
    """A small convolutional network with gluon's usual layers."""
    mx = mxnet()
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(8, 3, padding=1, in_channels=3), nn.BatchNorm(in_channels=8),
            nn.Activation("relu"), nn.MaxPool2D(3, 2, 1, ceil_mode=True), nn.Dropout(0.5),
            nn.GlobalAvgPool2D(), nn.Dense(5, in_units=8),
        )  # fmt: skip
    net.initialize()
    rng = np.random.default_rng(seed)
    for p in net.collect_params().values():
        p.set_data(mx.nd.array(rng.uniform(0.1, 1, p.shape)))
    return net


def images(count: int = 2) -> Any:
    """Images as an NDArray."""
    return mxnet().nd.array(np.random.default_rng(1).random((count, 3, 9, 10), np.float32))
