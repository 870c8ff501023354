"""The cases of cases.npz: models that CNTK saved, inputs, and the outputs that CNTK computed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).parent / "fixtures" / "cases.npz"
Array = NDArray[Any]
Value = Any  # an array, or a list of one for each sequence


@dataclass(frozen=True)
class Case:
    """A saved model, its inputs by name, and its outputs in order."""

    name: str
    data: bytes
    inputs: dict[str, Value]
    outputs: list[Value]


@cache
def cases() -> dict[str, Case]:
    """All cases by name."""
    with np.load(FILE) as file:
        index = json.loads(file["index"].tobytes())
        models, numbers = file["models"], file["numbers"]
    return {case.name: case for case in _cases(index, models, numbers)}


def _cases(index: dict[str, Any], models: Array, numbers: Array) -> Iterator[Case]:
    start = at = 0

    def take(entry: Any) -> Value:
        nonlocal at
        if isinstance(entry, list):
            return [take(each) for each in entry]
        count = math.prod(entry["shape"])
        at += count
        return numbers[at - count : at].astype(entry["dtype"]).reshape(entry["shape"])

    for name, entry in index.items():
        data = models[start : start + entry["bytes"]].tobytes()
        start += entry["bytes"]
        inputs = {key: take(value) for key, value in entry["inputs"].items()}
        yield Case(name, data, inputs, [take(value) for value in entry["outputs"]])
