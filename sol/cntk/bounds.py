"""What values are at least, as far as their expressions show it.

CNTK's logarithm, root and reciprocal end in their own way. Where an operand cannot get there,
rows leave the ends away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.ir.graph import Builder, Node

_DEEPEST = 8
_NOT_NEGATIVE = ("abs", "square", "sqrt", "exp", "sigmoid", "one_hot")
_SAME = ("reshape", "permute", "expand", "slice", "item", "cast", "max_reduce", "mean", "flip")


def least(builder: Builder, x: Node, arrays: Mapping[str, NDArray[Any]], depth: int = 0) -> float:
    """A number that no element of x is less than; NaN does not count."""
    inputs = [builder[name] for name in x.inputs]

    def of(k: int) -> float:
        return least(builder, inputs[k], arrays, depth + 1)

    if x.op in ("constant", "parameter"):
        values = x["value"].array if x.op == "constant" else arrays[x["key"]]
        return float(np.min(values)) if values.size and not np.isnan(values).any() else -math.inf
    if depth == _DEEPEST:
        return -math.inf
    if x.op == "relu":
        return max(0.0, of(0))
    if x.op in _SAME:
        return of(0)
    if x.op in _NOT_NEGATIVE or (x.op == "mul" and x.inputs[0] == x.inputs[1]):
        return 0.0
    match x.op:
        case "add":
            return of(0) + of(1)
        case "max":
            return max(of(0), of(1))
        case "mul":
            a, b = of(0), of(1)
            return a * b if a >= 0 and b >= 0 else -math.inf
        case "sum":
            if _of_softmax(builder, x):
                return 1.0
            return 0.0 if of(0) >= 0 else -math.inf
        case "conv":
            return 0.0 if all(of(k) >= 0 for k in range(len(inputs))) else -math.inf
    return -math.inf


def _of_softmax(builder: Builder, x: Node) -> bool:
    """Whether x is `sum(exp(y - max(y)))` over the same axes, of which one element is 1."""
    exp = builder[x.inputs[0]]
    difference = builder[exp.inputs[0]] if exp.op == "exp" else exp
    if difference.op != "sub":
        return False
    largest = builder[difference.inputs[1]]
    return (
        largest.op == "max_reduce"
        and largest.inputs[0] == difference.inputs[0]
        and largest["axes"] == x["axes"]
    )
