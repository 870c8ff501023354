"""Networks of gluon's model zoo: read as MXNet understands them, planned as those of torchvision,
right in float64. `python -m tests.mxnet.zoo` runs all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sol.core.device import detect
from sol.core.dims import B, concrete
from sol.core.dtypes import F32
from sol.ir.graph import Graph, TensorType
from sol.mxnet.symbol import parse_symbol
from sol.mxnet.translate import read
from sol.ops.reference import evaluate
from sol.passes.pipeline import run
from sol.plan.planner import make_plan
from tests.mxnet import zoo
from tests.mxnet.framework import mxnet

FAMILIES = ("alexnet", "densenet121", "inceptionv3", "mobilenet0.25", "mobilenetv2_0.25",
            "resnet18_v2", "resnet50_v1", "squeezenet1.0", "vgg11_bn")  # fmt: skip


def symbol_of(name: str) -> Any:
    mx = mxnet()
    net = mx.gluon.model_zoo.vision.get_model(name, prefix="net_")
    return net(mx.sym.var("data"))


def graph_of(symbol: Any, size: int) -> Graph:
    """The network with parameters of no memory."""
    arguments, _, states = symbol.infer_shape(data=(1, 3, size, size))
    shapes = dict(zip(symbol.list_arguments(), arguments))
    shapes |= dict(zip(symbol.list_auxiliary_states(), states))
    del shapes["data"]
    parameters = {k: np.broadcast_to(np.float32(0.5), s) for k, s in shapes.items()}
    types = {"data": TensorType((B, 3, size, size), F32)}
    (graph,) = read(parse_symbol(symbol.tojson()), types, parameters).graphs
    return graph


@pytest.mark.parametrize("name", FAMILIES)
def test_every_value_has_the_shape_that_mxnet_infers(name: str) -> None:
    symbol, size = symbol_of(name), zoo.SIZES.get(name, 224)
    inside = symbol.get_internals()
    _, shapes, _ = inside.infer_shape(data=(1, 3, size, size))
    known = dict(zip(inside.list_outputs(), shapes))
    graph = graph_of(symbol, size)
    checked = 0
    for node in graph:
        shape = known.get(f"{node.origin}_output")
        last = [n for n in graph if n.origin == node.origin][-1]
        if shape is not None and node is last:
            assert concrete(node.shape, 1) == shape, node.name
            checked += 1
    assert checked > 15
    (result,) = graph.outputs
    assert graph[result].shape == (B, 1000)


def clusters(graph: Graph) -> list[list[str]]:
    """Operators of each cluster; blocks may begin with either of their branches."""
    plan = make_plan(run(graph), False, detect().vector_lanes(4)).plan
    return sorted([plan.graph[n].op for n in cluster.layers] for cluster in plan.clusters)


def test_a_resnet_18_is_planned_as_torchvisions() -> None:
    import torch
    from torchvision import models

    from sol.pytorch.capture import capture

    with torch.device("meta"):
        model = models.resnet18().eval()
        theirs = capture(model, (torch.rand(2, 3, 224, 224),)).graph
    assert clusters(graph_of(symbol_of("resnet18_v1"), 224)) == clusters(theirs)


def evaluated(symbol: Any, block: Any, x: np.ndarray) -> list[np.ndarray]:
    """The results of a traced block, read with the batch open, by the reference in NumPy."""
    parameters = {k: p.data().asnumpy() for k, p in block.collect_params().items()}
    types = {"data": TensorType((B, *x.shape[1:]), F32)}
    (graph,) = read(parse_symbol(symbol.tojson()), types, parameters).graphs
    return evaluate(graph, {"data": x}, parameters)


def test_cells_that_are_unrolled_begin_with_states_of_any_batch() -> None:
    mx = mxnet()
    cell = mx.gluon.rnn.LSTMCell(6, input_size=4)
    cell.initialize()
    y, states = cell.unroll(3, mx.sym.var("data"), layout="NTC", merge_outputs=True)
    x = np.random.default_rng(0).random((2, 3, 4), np.float32)
    found = evaluated(mx.sym.Group([y, *states]), cell, x)
    y, states = cell.unroll(3, mx.nd.array(x), layout="NTC", merge_outputs=True)
    for got, wanted in zip(found, [y, *states], strict=True):
        np.testing.assert_allclose(got, wanted.asnumpy(), rtol=1e-5, atol=1e-6)


def test_layers_in_the_numpy_interface() -> None:
    mx = mxnet()
    nn = mx.gluon.nn
    with mx.util.np_shape(True), mx.util.np_array(True):
        net = nn.HybridSequential()
        net.add(
            nn.Conv2D(8, 3, in_channels=3), nn.BatchNorm(in_channels=8), nn.LeakyReLU(0.1),
            nn.MaxPool2D(), nn.Flatten(), nn.Dense(5, in_units=72), nn.LayerNorm(in_channels=5),
            nn.GELU(), nn.Dense(3, in_units=5, flatten=False),
        )  # fmt: skip
        net.initialize()
        x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
        (found,) = evaluated(net(mx.sym.var("data").as_np_ndarray()), net, x)
        wanted = net(mx.np.array(x)).asnumpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_errors_are_those_of_float32() -> None:
    found = zoo.errors("squeezenet1.1")
    assert max(found["files"], found["block"]) <= 3 * found["mxnet"], found
