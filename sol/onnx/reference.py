"""The same network in NumPy, in float64: what errors of a program are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sol.arrays.captured import Array, Host
from sol.arrays.program import Program
from sol.arrays.signature import checked
from sol.core.dtypes import F64
from sol.onnx.networks import Networks
from sol.ops.reference import evaluate


@dataclass(frozen=True)
class Comparison:
    """The largest error of each output, relative to its largest element."""

    errors: tuple[tuple[str, float], ...]

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max((e for _, e in self.errors), default=0.0)

    def __str__(self) -> str:
        lines = (f"{name}: {error:.1e} of its largest element" for name, error in self.errors)
        return "\n".join(("error against float64:", *(f"  {line}" for line in lines)))


def compare(networks: Networks, arrays: Mapping[str, Any]) -> Comparison:
    """Run a call by Sol and in float64."""
    found = networks(arrays)
    exact = in_float64(networks, arrays)
    return Comparison(tuple((name, error_of(found[name], exact[name])) for name in found))


def in_float64(networks: Networks, arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The results of a call by the NumPy reference, with float64 for float32."""
    entry = networks.prepare(arrays)
    network = networks.networks[-1]
    names = {i.name for i in network.inputs}
    given = checked(network.inputs, {n: a for n, a in arrays.items() if n in names})
    batch = network.batch(given)
    return dict(zip(network.outputs, evaluated(entry.program, given, batch)))


def evaluated(program: Program, given: Mapping[str, Array], batch: int) -> list[Array]:
    """The results of a program in float64."""
    captured = program.captured
    values: dict[str, Array] = {**captured.parameters, **given}
    for step in captured.steps:
        inputs = [values[name] for name in step.inputs]
        if isinstance(step, Host):
            made = list(step.function(*inputs))
        else:
            known = {n.name: a for n, a in zip(step.graph.inputs, inputs)}
            made = evaluate(step.graph, known, captured.parameters, batch, F64)
        values.update(zip(step.outputs, made))
    return [values[name] for name in captured.results]


def error_of(found: Array, exact: Array) -> float:
    """The largest difference, of the largest element."""
    a, b = np.asarray(found, np.float64), np.asarray(exact, np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    largest = float(np.max(np.abs(b[finite]), initial=0.0)) or 1.0
    return float(np.max(np.abs(a - b)[finite], initial=0.0)) / largest
