"""Networks without a framework beside them: the strict program where rounding would be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sol.accuracy import Rounding
from sol.arrays.captured import Captured, Host, Part
from sol.arrays.network import Input, Network, whole
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.registry import builder
from sol.options import Options

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(0, 0.05, (64, 64, 3, 3)).astype(np.float32)
INPUT = Input("x", F32, ("batch", 64, 28, 28))
TYPE = TensorType((64, 64, 3, 3), F32)
PADDING = ((1, 1), (1, 1))
SAME: Any = {"stride": (1, 1), "padding": PADDING, "dilation": (1, 1), "groups": 1}
X = RNG.standard_normal((1, 64, 28, 28)).astype(np.float32)


class Differences:
    """Stands for `difference`: hands out what it is told, and keeps what it is shown."""

    def __init__(self) -> None:
        self.answer = self.second = 0.0
        self.shown: list[Sequence[Any]] = []

    def __call__(self, found: Sequence[Any], own: Sequence[Any]) -> float:
        for a, b in zip(found, own):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
        self.shown.append(found)
        return self.second if len(self.shown) % 2 == 0 else self.answer


@pytest.fixture
def differences(monkeypatch: pytest.MonkeyPatch) -> Differences:
    made = Differences()
    monkeypatch.setattr("sol.arrays.rounding.difference", made)
    return made


def layers(b: Builder, given: TensorType) -> Node:
    """Two convolutions: the second one, whose input Sol lays out as it likes, by Winograd."""
    x, w = b.input("x", given), b.parameter("w", TYPE)
    for _ in range(2):
        x = b.add("conv", x, w, **SAME)
    return x


def network(weight: Any = WEIGHT, **options: Any) -> Network:
    def read(types: Mapping[str, TensorType]) -> Captured:
        b = builder()
        return whole(b, {"y": layers(b, types["x"])}, {"w": weight})

    return Network((INPUT,), ("y",), read, Options(**options))


def program(made: Network) -> Any:
    (entry,) = made.entries
    return entry.program


def test_strict_where_rounding_would_be_seen(differences: Differences, empty_cache: Path) -> None:
    differences.answer, differences.second = 2e-4, 1e-4
    made = network()
    made({"x": X})
    assert program(made).rounding == (Rounding(2e-4, 1e-4),)
    assert not program(made).executables[0].rounds_more
    assert "2.0e-04 of the largest element, which is used" in " ".join(made.explain().split())
    again = network()
    again({"x": X})
    assert not program(again).executables[0].rounds_more
    assert len(differences.shown) == 2  # remembered
    network(2 * WEIGHT)({"x": X})
    assert len(differences.shown) == 4  # other weights, other rounding


def test_careful_where_that_is_enough(differences: Differences, empty_cache: Path) -> None:
    differences.answer, differences.second = 2e-4, 1e-5
    made = network()
    made({"x": X})
    assert program(made).rounding == (Rounding(2e-4, 1e-5),)
    assert program(made).executables[0].options.precision == "careful"
    assert '1.0e-05 with "careful", which is used' in " ".join(made.explain().split())
    again = network()
    again({"x": X})
    assert program(again).executables[0].options.precision == "careful"
    assert len(differences.shown) == 2  # remembered


def test_the_default_where_it_is_not(differences: Differences, empty_cache: Path) -> None:
    differences.answer = 2e-5
    made = network()
    made({"x": np.zeros_like(X)})
    assert program(made).executables[0].rounds_more
    assert "which is used" not in made.explain()
    ((y,),) = differences.shown
    assert (y.std(axis=(1, 2, 3)) > 0.1).all()  # of random numbers, for zeros tell nothing
    assert len(y) == 4


def test_what_rounds_no_more_is_not_compared(differences: Differences) -> None:
    made = network(precision="strict")
    made({"x": X})
    assert not differences.shown
    assert not made.report.programs[0].rounding


def test_each_part_for_itself(differences: Differences, empty_cache: Path) -> None:
    def read(types: Mapping[str, TensorType]) -> Captured:
        first, last = builder(), builder()
        part = Part(first.finish([layers(first, types["x"])]), ("x",), ("c",))
        host = Host(lambda a: (-a,), ("c",), ("n",), "Neg", "no row")
        end = Part(last.finish([last.add("relu", last.input("n", types["x"]))]), ("n",), ("y",))
        return Captured((part, host, end), {"w": WEIGHT}, ("y",))

    differences.answer = differences.second = 1.0
    made = Network((INPUT,), ("y",), read)
    made({"x": X})
    assert program(made).rounding == (Rounding(1.0, 1.0), None)
    assert len(differences.shown) == 2


def test_how_far_the_default_may_be() -> None:
    assert Rounding(3e-5).precision == "default"
    assert Rounding(3.1e-5).precision == Rounding(float("inf")).precision == "strict"
    assert Rounding(float("nan")).precision == "strict"
    assert Rounding(1.0, 4e-5).precision == "careful"
    assert Rounding(1.0, 5e-5).precision == "strict"
