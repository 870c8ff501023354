"""Windows lie where CNTK puts them, for random sizes, strides and paddings (make_geometry.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sol.cntk.capture import read
from sol.cntk.codes import CODES
from sol.cntk.dictionary import Shape
from sol.cntk.model import BATCH, Model, Operation, Output, Variable
from sol.core.dtypes import F32
from sol.ir.graph import TensorType
from sol.ops.reference import evaluate
from tests.cntk.cases import Array

FILE = Path(__file__).parent / "fixtures" / "geometry.npz"
COLUMNS = (
    "kind", "channels", "size", "kernel", "stride", "auto", "low", "high", "ceil", "included",
    "maps", "wanted", "count",
)  # fmt: skip
KINDS = {0: "largest", 1: "mean", 2: "convolution", 3: "transposed"}


def rows(kind: int) -> Iterator[tuple[dict[str, int], Array, Array, Array]]:
    """Settings, input, weight and output of one kind."""
    with np.load(FILE) as file:
        known = {name: file[name] for name in file.files}
    places = dict.fromkeys(("inputs", "weights", "outputs"), 0)

    def take(name: str, count: int) -> Array:
        places[name] += count
        return known[name][places[name] - count : places[name]].astype(np.float32)

    for values in known["settings"].tolist():
        row = dict(zip(COLUMNS, values, strict=True))
        given = take("inputs", max(1, row["channels"]) * row["size"])
        weight = take("weights", row["maps"] * row["channels"] * row["kernel"])
        result = take("outputs", (row["maps"] or row["channels"] or 1) * row["count"])
        if row["kind"] == kind:
            yield row, given, weight, result


def operation(row: dict[str, int]) -> Operation:
    """What CNTK would save for these settings."""
    if row["kind"] < 2:
        attributes: dict[str, Any] = {
            "poolingType": row["kind"],
            "poolingWindowShape": Shape((row["kernel"],)),
            "strides": Shape((row["stride"],)),
            "autoPadding": [bool(row["auto"])],
            "ceilOutDim": bool(row["ceil"]),
            "includePad": bool(row["included"]),
            "lowerPad": Shape((row["low"],)),
            "upperPad": Shape((row["high"],)),
        }
        return Operation("Pooling1", "", CODES["Pooling"], ("x",), attributes)
    transposed = row["kind"] == 3
    inner = row["maps"] if transposed else row["channels"]
    attributes = {
        "kernelShape": Shape((row["kernel"], inner)),
        "strides": Shape((row["stride"], inner)),
        "autoPadding": [bool(row["auto"]), False],
        "sharing": [True, True],
        "lowerPad": Shape((0, 0)),
        "upperPad": Shape((0, 0)),
        "dilation": Shape((1, 1)),
        "transpose": transposed,
        "outputShape": Shape((row["wanted"], row["maps"]) if row["wanted"] else (0,)),
        "groups": 1,
    }
    return Operation("Convolution1", "", CODES["Convolution"], ("w", "x"), attributes)


def shape_of(row: dict[str, int]) -> tuple[int, ...]:
    return (row["channels"], row["size"]) if row["channels"] else (row["size"],)


def model(row: dict[str, int], weight: Array) -> Model:
    one = operation(row)
    x = Variable("x", "x", shape_of(row), "float32", (BATCH,))
    first, second = (row["maps"], row["channels"])[:: -1 if row["kind"] == 3 else 1]
    shape = (first, second, row["kernel"])
    w = Variable("w", "w", shape, "float32", (), weight.reshape(shape)) if weight.size else None
    variables = {"x": x} | ({"w": w} if w else {})
    output = Output(one.result(), "y", one.result())
    return Model((x,), variables, {one.uid: one}, (output,))


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
def test_windows(kind: int) -> None:
    count = 0
    for row, given, weight, expected in rows(kind):
        types = {"x": TensorType((1, *shape_of(row)), F32)}
        captured = read(model(row, weight), types).captured
        (part,) = captured.steps
        graph = part.graph  # type: ignore[union-attr]
        inputs = {n.name: given.reshape(n.shape) for n in graph.inputs}
        (result,) = evaluate(graph, inputs, captured.parameters)
        lines = (row["maps"] or row["channels"],) if row["channels"] else ()
        assert result.shape == (1, *lines, row["count"]), row
        np.testing.assert_allclose(result.ravel(), expected, 1e-6, 1e-5, err_msg=str(row))
        count += 1
    assert count > 100
