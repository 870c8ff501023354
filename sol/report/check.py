"""Where a program computes something else than its network: every stored value against the NumPy
reference in float64.

`first_difference` runs the network once with all intermediate values kept, and names the first
cluster whose result is off by more than rounding explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.compiler import Compiled
from sol.ops.reference import evaluate_nodes

Array = NDArray[Any]

# of the largest element of a value: far above float32 noise, far below a wrong index
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is off:

    the cluster's number and layers, the largest difference, and the largest element.
    """

    cluster: int
    value: str
    layers: tuple[str, ...]
    error: float
    largest: float

    def __str__(self) -> str:
        layers = ", ".join(self.layers)
        off = f"off by {self.error:.3g}, its largest element is {self.largest:.3g}"
        return f"cluster {self.cluster} ({layers}): {self.value} is {off}"


def first_difference(
    kept: Compiled, parameters: Mapping[str, Array], inputs: Sequence[Array], batch: int
) -> Difference | None:
    """The first cluster that is off.

    kept: the network compiled with `keep`; None if all is within rounding.
    """
    kept.prepare(parameters)
    values = kept.values(inputs, batch)
    graph = kept.planned.plan.graph.at_batch(batch)
    given = {n.name: in_double(parameters[n["key"]]) for n in graph.parameters}
    given.update({n.name: in_double(x) for n, x in zip(graph.inputs, inputs)})
    expected = evaluate_nodes(graph, [n for n in values if n in graph], given)
    for number, made in enumerate(kept.steps):
        for name in made.cluster.values:
            if name in values and name in expected:
                error, largest = distance(values[name], np.asarray(expected[name]))
                if not error <= _ROUNDING * largest:
                    return Difference(number, name, made.cluster.layers, error, largest)
    return None


def in_double(x: Array) -> Array:
    """Floating-point arrays in float64, others as they are."""
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def distance(found: Array, expected: Array) -> tuple[float, float]:
    """(largest absolute difference, largest absolute finite element);

    equal infinities and NaN at the same place count as equal.
    """
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    finite = np.abs(b[np.isfinite(b)])
    return float(np.max(error, initial=0.0)), float(np.max(finite, initial=1e-30))
