"""The generated C of a few small kernels, for a processor that is described here: a change of what
is generated is seen, read and meant.

To write the files of goldens/ anew after such a change, and to look at what it did:

    RENEW_GOLDENS=1 python -m pytest -n0 tests/compiler/test_goldens.py; git diff tests/compiler
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sol.backends.clike import print_kernel
from sol.core.device import ISAS, CpuDevice
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from tests.compiler.programs import network, planned_steps

FOLDER = Path(__file__).parent / "goldens"
_AVX512 = next(i for i in ISAS if i.name == "avx512")
DEVICE = CpuDevice(
    name="a processor with vectors of 512 bits",
    isa=_AVX512.name,
    vector_bytes=64,
    vector_registers=32,
    fma=True,
    cores=4,
    l1d=32 << 10,
    l2=1 << 20,
    l3=32 << 20,
    flags=_AVX512.flags,
)


def _images(b: Builder, channels: int, size: int) -> Node:
    return b.input("x", TensorType((B, channels, size, size), F32))


def _weight(b: Builder, *shape: int) -> Node:
    return b.parameter("weight", TensorType(shape, F32))


def chain(b: Builder) -> Node:
    """Operators on elements, with a parameter along an axis."""
    x = b.input("x", TensorType((B, 40), F32))
    return b.add("tanh", b.add("add", b.add("mul", x, _weight(b, 40)), b.constant(0.5, F32)))


def pooling(b: Builder) -> Node:
    """The largest of overlapping windows, some of which reach into the padding."""
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
    x = b.add("permute", b.input("x", TensorType((B, 8, 8, 16), F32)), axes=(0, 3, 1, 2))
    return b.add("permute", b.add("max_pool", x, ceil=False, **attrs), axes=(0, 2, 3, 1))


def softmax(b: Builder) -> Node:
    """Rows whose intermediate values never leave a patch."""
    return b.add("softmax", b.input("x", TensorType((B, 12, 48), F32)), axis=2)


def _conv(b: Builder, x: Node, weight: Node, groups: int = 1) -> Node:
    pad = weight.shape[2] // 2
    attrs = {"stride": (1, 1), "padding": ((pad, pad), (pad, pad)), "dilation": (1, 1)}
    return b.add("conv", x, weight, groups=groups, **attrs)


def pointwise_relu(b: Builder) -> Node:
    """A 1x1 convolution, and what follows it in its epilogue."""
    x = b.add("permute", b.input("x", TensorType((B, 4, 4, 24), F32)), axes=(0, 3, 1, 2))
    y = b.add("relu", _conv(b, x, _weight(b, 16, 24, 1, 1)))
    return b.add("permute", y, axes=(0, 2, 3, 1))


def depthwise(b: Builder) -> Node:
    """One filter for each channel."""
    x = b.add("permute", b.input("x", TensorType((B, 6, 6, 16), F32)), axes=(0, 3, 1, 2))
    y = _conv(b, x, _weight(b, 16, 1, 3, 3), groups=16)
    return b.add("permute", y, axes=(0, 2, 3, 1))


def linear(b: Builder) -> Node:
    """Tokens by a matrix, with a bias."""
    x = b.input("x", TensorType((B, 8, 32), F32))
    return b.add("linear", x, _weight(b, 16, 32), b.parameter("bias", TensorType((16,), F32)))


NETWORKS: dict[str, Callable[[Builder], Node]] = {
    make.__name__: make for make in (chain, pooling, softmax, pointwise_relu, depthwise, linear)
}


def generated(graph: Graph) -> str:
    """The C functions of a network's kernels, without the library that they call."""
    _, made = planned_steps(graph, DEVICE, optimise=True)
    kernels = [call.kernel for m in made for call in m.calls]
    return "\n".join(print_kernel(k, f"kernel_{n}")[0] for n, k in enumerate(kernels))


@pytest.mark.parametrize("name", NETWORKS)
def test_generated_code_is_as_it_was(name: str) -> None:
    path, now = FOLDER / f"{name}.c", generated(network(NETWORKS[name]))
    if os.environ.get("RENEW_GOLDENS"):
        path.write_text(now, encoding="utf-8")
    before = path.read_text("utf-8")
    difference = difflib.unified_diff(
        before.splitlines(), now.splitlines(), f"goldens/{path.name}", "generated", lineterm=""
    )
    assert before == now, "\n".join(difference) + "\n\nif this is meant, see the top of this test"


def test_every_golden_has_its_network() -> None:
    assert {p.stem for p in FOLDER.glob("*.c")} == set(NETWORKS)


def test_goldens_can_be_read() -> None:
    """What is too long is not read: a smaller network shows the same."""
    for path in FOLDER.glob("*.c"):
        assert len(path.read_text("utf-8").splitlines()) < 150, path.name


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_that_are_repeated_have_the_same_text(name: str) -> None:
    """Whatever numbers their names end with, so that they are compiled once."""
    graph = network(NETWORKS[name])
    assert generated(_numbered(graph)) == generated(graph)


def _numbered(graph: Graph) -> Graph:
    """The graph as it would stand in a larger one, where some names are taken."""
    names = {n.name: f"{n.name}_{k + 7}" for k, n in enumerate(graph)}
    nodes = tuple(
        replace(n, name=names[n.name], inputs=tuple(names[i] for i in n.inputs)) for n in graph
    )
    return Graph(nodes, tuple(names[o] for o in graph.outputs))
