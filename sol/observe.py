"""Looking over the compiler's shoulder: SOL_DUMP writes every stage to a folder, SOL_CHECK proves
that no stage changes a result.

An `Observer` is called by sol/compiler.py with each graph (captured, after each pass that changed
it, planned) and with the finished plan and C text. `Checker` evaluates each graph in float64 with
the NumPy reference on random inputs and parameters, and names the first stage whose results differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sol.core import config
from sol.core.dims import concrete
from sol.core.dtypes import F64
from sol.core.errors import VerifyError
from sol.ir.check import verify
from sol.ir.graph import Graph, Node
from sol.ir.show import print_graph
from sol.ops.reference import evaluate
from sol.ops.registry import infer

Array = NDArray[Any]

_BATCH = 2
_CLOSE = 1e-6  # of the largest element: rewriting in float64 costs a few ULP, a wrong rule far more


class Observer(Protocol):
    """What the compiler tells about its stages."""

    def graph(self, stage: str, graph: Graph) -> None:
        """A graph after a stage."""

    def text(self, stage: str, name: str, text: str) -> None:
        """A text that a stage made."""


def observers() -> tuple[Observer, ...]:
    """The observers that the environment asks for."""
    folder = config.DUMP.get()
    found: list[Observer] = [Dumper(_free(folder))] if folder else []
    if config.CHECK.get():
        found.append(Checker())
    return tuple(found)


def _free(folder: Path) -> Path:
    """A folder of its own for each network: the first number that is not taken."""
    return next(folder / str(n) for n in count() if not (folder / str(n)).exists())


@dataclass
class Dumper:
    """Writes `NN-stage.txt` for graphs and `NN-stage/name` for other texts."""

    folder: Path
    number: int = 0

    def graph(self, stage: str, graph: Graph) -> None:
        """Write a graph's text."""
        self._write(f"{self.number:02d}-{stage}.txt", print_graph(graph))
        self.number += 1

    def text(self, stage: str, name: str, text: str) -> None:
        """Write a text as it is."""
        self._write(f"{stage}/{name}", text)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@dataclass
class Checker:
    """Compares the results of every graph with those of the first."""

    seed: int = 0
    _inputs: dict[str, Array] = field(default_factory=dict)
    _parameters: dict[str, Array] = field(default_factory=dict)
    _expected: list[Array] = field(default_factory=list)
    _before: str = ""

    def graph(self, stage: str, graph: Graph) -> None:
        """Verify the graph, evaluate it, and compare."""
        verify(graph, infer)
        if not self._expected:
            self._draw(graph)
        results = evaluate(graph, self._inputs, self._parameters, batch=_BATCH, dtype=F64)
        if self._expected:
            self._compare(stage, results)
        self._expected = self._expected or results
        self._before = stage

    def text(self, stage: str, name: str, text: str) -> None:
        """Nothing to check in a text."""

    def _draw(self, graph: Graph) -> None:
        rng = np.random.default_rng(self.seed)
        self._inputs = {n.name: _random(rng, n) for n in graph.inputs}
        self._parameters = {n["key"]: _random(rng, n) for n in graph.parameters}

    def _compare(self, stage: str, results: Sequence[Array]) -> None:
        for number, (found, expected) in enumerate(zip(results, self._expected)):
            a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
            largest = float(np.max(np.abs(b[np.isfinite(b)]), initial=1.0))
            if not np.allclose(a, b, rtol=0, atol=_CLOSE * largest, equal_nan=True):
                raise VerifyError(
                    f"stage {stage} changes result {number} of the network",
                    expected=f"the same values as after {self._before}, to {_CLOSE} of the largest",
                    do="SOL_FUEL=n stops after n rewrites: bisect it to find the wrong one",
                )


def _random(rng: np.random.Generator, node: Node) -> Array:
    """Values for an input or parameter: positive, so that square roots are defined."""
    shape = concrete(node.shape, _BATCH)
    if node.dtype.kind == "float":
        return rng.uniform(0.1, 1.0, shape).astype(node.dtype.numpy)
    if node.dtype.kind == "int":
        return rng.integers(0, 2, shape).astype(node.dtype.numpy)
    return rng.random(shape) < 0.5
