"""Sol in NumPy: the frontend is tested without a compiler."""

from __future__ import annotations

import ctypes
import logging
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from sol.core.dims import concrete
from sol.ir.graph import Graph, Node
from sol.ops.reference import evaluate


class Reference:
    """An executable that evaluates the graph in NumPy; counts what is done with it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.runs = 0
        self.prepared = 0
        self.parameters: dict[str, Any] = {}

    def prepare(self, parameters: Mapping[str, Any]) -> None:
        self.prepared += 1
        self.parameters = {key: np.array(value) for key, value in parameters.items()}

    def run(self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int) -> None:
        assert batch >= 1
        assert threads >= 1
        self.runs += 1
        given = {n.name: _memory(a, n, batch) for n, a in zip(self.graph.inputs, inputs)}
        results = evaluate(self.graph, given, self.parameters, batch)
        for name, address, result in zip(self.graph.outputs, outputs, results):
            _memory(address, self.graph[name], batch)[...] = result

    def again(self, batch: int, threads: int, look: Any) -> Callable[[bytes], bool]:
        def call(tensors: bytes) -> bool:
            if not look():
                return False
            pointers = array("Q", tensors)
            count = len(self.graph.inputs)
            self.run(pointers[:count], pointers[count:], batch, threads)
            return True

        return call


def _memory(address: int, node: Node, batch: int) -> Any:
    """The array at an address."""
    shape = concrete(node.shape, batch)
    count = int(np.prod(shape)) * node.dtype.bytes
    buffer = (ctypes.c_char * count).from_address(address)
    return np.frombuffer(buffer, dtype=node.dtype.numpy).reshape(shape)


class Compiler:
    """Stands in for sol.compiler; knows all executables that it made."""

    def __init__(self) -> None:
        self.made: list[Reference] = []

    def __call__(self, graph: Graph, options: Any, progress: Any) -> Reference:
        self.made.append(Reference(graph))
        return self.made[-1]

    @property
    def runs(self) -> int:
        return sum(e.runs for e in self.made)

    @property
    def prepared(self) -> int:
        return sum(e.prepared for e in self.made)


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    made = Compiler()
    connect = "sol.pytorch.connect"
    monkeypatch.setattr(f"{connect}.compile_with", made)
    monkeypatch.setattr(f"{connect}.explanation", lambda e, g, *_: f"graph of {len(g)} nodes")
    monkeypatch.setattr(f"{connect}.memory_bytes", lambda e, b, t: 1000 * b)
    monkeypatch.setattr(f"{connect}.prepare", lambda e, values, other=None: e.prepare(values))
    monkeypatch.setattr(f"{connect}.steady_keys", lambda e, frozen: ())
    monkeypatch.setattr(f"{connect}.forget_weights", lambda e: None)
    monkeypatch.setattr(f"{connect}.held_places", lambda e, b, t: ({}, 0))
    monkeypatch.setattr(f"{connect}.reserved_weights", lambda e: 1000)
    monkeypatch.setattr(f"{connect}.packed_bytes", lambda e: 1000)
    monkeypatch.setattr(f"{connect}.identity", lambda e: f"graph of {len(e.graph)} nodes")
    monkeypatch.setattr(f"{connect}.fingerprint", lambda addresses, sizes: 0)
    return made


@pytest.fixture(autouse=True, scope="session")
def _without_traces() -> None:
    """PyTorch writes pages for whoever listens to its trace log, and pytest listens to all."""
    logging.getLogger("torch.__trace").propagate = False


@pytest.fixture(autouse=True)
def _new_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()
