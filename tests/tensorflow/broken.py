"""Frozen graphs of TensorFlow with bytes or fields changed."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from sol.arrays.captured import Captured
from sol.arrays.signature import checked, signature_of
from sol.core.dims import concrete
from sol.core.errors import SolError
from sol.ir.graph import TensorType
from sol.tensorflow.files import load
from sol.tensorflow.function import optimized_function
from tests.tensorflow.models import example

IMAGE = (6, 6, 3)
_NUMBERS = (0, 1, -1, 2, 3, 7, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40, 100000)
_TEXTS = (b"", b"NHWC", b"NCHW", b"VALID", b"SAME", b"EXPLICIT", b"\xff\xfe")


@cache
def frozen() -> bytes:
    """A network with convolutions, windows, normalisation, shapes, products and reductions."""
    kernel, deep = example((3, 3, 4), 3), example((3, 4, 2), 3)
    weight, scale = example((5,), 24), abs(example((), 4))

    @tf.function(autograph=False)
    def net(image: Any) -> Any:
        x = tf.nn.conv2d(image, kernel, 1, "SAME")
        x, *_ = tf.compat.v1.nn.fused_batch_norm(x, scale, scale, scale, scale, is_training=False)
        x = tf.nn.depthwise_conv2d(tf.nn.relu(x), deep, (1, 1, 1, 1), "VALID")
        x = tf.nn.max_pool2d(tf.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0))), 2, 2, "SAME")
        x = tf.concat([x, x[:, ::-1, :, ::2]], -1)[:, :2, :2, :6]
        x = tf.reshape(x, (tf.shape(x)[0], 24))
        x = tf.matmul(x, weight) + tf.reduce_mean(x, 1, keepdims=True)
        a, b = tf.split(tf.nn.softmax(x), (2, 3), 1)
        return tf.einsum("ni,nj->nij", a, b), tf.transpose(tf.gather(x, [2, 0], axis=1))

    concrete = net.get_concrete_function(tf.TensorSpec((None, *IMAGE)))
    data: bytes = (
        convert_variables_to_constants_v2(concrete).graph.as_graph_def().SerializeToString()
    )
    return data


def mutated(rng: random.Random) -> bytes:
    """The bytes of the graph with a few of them, or a few fields, changed."""
    return _bytes(rng) if rng.randrange(2) else _fields(rng)


def captured(file: Path) -> Captured:
    """What `optimize` reads of a file for two images. Raises SolError."""
    session = optimized_function(load(file), {})._session
    images = example(IMAGE, 2)
    network = session.source(*session._find((tf.constant(images),), {})).network
    arrays = checked(network.inputs, dict(zip((i.name for i in network.inputs), [images])))
    signature, _ = signature_of(network.inputs, arrays)
    try:
        return network._read(dict(signature.types))
    except SolError:
        return network._read({k: _fixed(t) for k, t in signature.types})


def _fixed(type: TensorType) -> TensorType:
    return TensorType(concrete(type.shape, 2), type.dtype)


def _bytes(rng: random.Random) -> bytes:
    made = bytearray(frozen())
    if rng.random() < 0.15:
        return bytes(made[: rng.randrange(len(made))])
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(made))
        match rng.randrange(4):
            case 0:
                made[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 1:
                made[place] ^= 1 << rng.randrange(8)
            case 2:
                del made[place : place + rng.randrange(1, 40)]
            case _:
                made[place:place] = made[place : place + rng.randrange(1, 64)]
    return bytes(made)


def _fields(rng: random.Random) -> bytes:
    graph = graph_pb2.GraphDef.FromString(frozen())
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node)
        match rng.randrange(5):
            case 0:
                node.op = rng.choice(graph.node).op
            case 1 if node.input:
                other = rng.choice(graph.node).name
                node.input[rng.randrange(len(node.input))] = rng.choice((other, "", f"{other}:7"))
            case 2 if node.input:
                node.input[:] = rng.sample(list(node.input), len(node.input))[rng.randrange(2) :]
            case 3:
                node.name = rng.choice((rng.choice(graph.node).name, "", "a b"))
            case _ if node.attr:
                _attribute(node.attr[rng.choice(sorted(node.attr))], rng)
    data: bytes = graph.SerializeToString()
    return data


def _attribute(value: Any, rng: random.Random) -> None:
    kind = value.WhichOneof("value")
    match kind:
        case "i":
            value.i = rng.choice(_NUMBERS)
        case "f":
            value.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
        case "b":
            value.b = not value.b
        case "s":
            value.s = rng.choice(_TEXTS)
        case "type":
            value.type = rng.randrange(30)
        case "list" if value.list.i:
            value.list.i[rng.randrange(len(value.list.i))] = rng.choice(_NUMBERS)
        case "tensor":
            _tensor(value.tensor, rng)
        case _:
            value.ClearField("value") if rng.randrange(2) else setattr(value, "i", 3)


def _tensor(tensor: Any, rng: random.Random) -> None:
    if rng.randrange(2):
        tensor.dtype = rng.randrange(30)
    elif tensor.tensor_shape.dim:
        rng.choice(tensor.tensor_shape.dim).size = rng.choice(_NUMBERS)
    else:
        tensor.tensor_content = tensor.tensor_content[: rng.randrange(9)]
