"""Contractions in native code: generated cases of every kind agree with the reference in float64,
whatever stands before and behind them, for several batches, threads and vector widths.

These are the direct kernels; Winograd's algorithm has test_winograd.py.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest

from sol.backends.c import print_kernel
from sol.compiler import Options, compile_graph
from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import ConfigError
from sol.ir.graph import TensorType
from sol.kernels.tiles import choose_tile
from sol.ops.registry import builder
from tests.compiler.programs import Joined, build_joined, compare, same_bits
from tests.kernels.contractions import contractions

_COUNTS = {"conv": 60, "stem": 40, "conv_transpose": 20, "linear": 30, "matmul": 30, "large": 0}
_DIRECT = Options(precision="strict")
_OTHER = "avx2"  # half as many lanes and registers as the best
_DEVICE = replace(detect(), splits=detect().isa == "avx512")  # also with vectors of half the width
_KINDS = pytest.mark.parametrize("kind", _COUNTS)


@functools.cache
def program(kind: str) -> Joined:
    """All cases of a kind as one program."""
    cases = contractions(kind, _COUNTS[kind])
    return build_joined(cases, _DEVICE, flags=("-O1",), options=_DIRECT)


@_KINDS
@pytest.mark.parametrize("batch", [1, 3])
def test_contractions_agree_with_the_reference(kind: str, batch: int) -> None:
    joined = program(kind)
    compare(joined, batch)
    assert same_bits(joined.run(batch, threads=1), joined.run(batch, threads=2))


def test_transposed_convolutions_in_phases() -> None:
    cases = contractions("conv_transpose", 40, 3000)
    joined = build_joined(cases, optimise=True, flags=("-O1",), options=_DIRECT)
    compare(joined, batch=1)
    compare(joined, batch=3, threads=2)


@pytest.mark.parametrize("optimise", [False, True], ids=["as given", "after passes"])
def test_other_vectors(optimise: bool) -> None:
    """Other cases on narrower vectors."""
    try:
        device = detect(_OTHER)
    except ConfigError as error:
        pytest.skip(str(error))
    first = 2000 if optimise else 1000
    kinds = [kind for kind in _COUNTS if kind != "large" or not optimise]
    cases = [case for kind in kinds for case in contractions(kind, 12, first)]
    joined = build_joined(cases, device, optimise, flags=("-O1",), options=_DIRECT)
    compare(joined, batch=1)
    compare(joined, batch=3, threads=2)


@pytest.mark.parametrize(
    ("columns", "lanes"), [(24, 8), (40, 8), (72, 8), (32, 16), (64, 16), (1000, 16)]
)
def test_narrow_vectors_where_whole_ones_are_not_full(columns: int, lanes: int) -> None:
    device = replace(detect(), vector_bytes=64, vector_registers=32, splits=True)
    assert choose_tile(784, columns, 96, device, packed=False).lanes == lanes
    whole = replace(device, splits=False)
    assert choose_tile(784, columns, 96, whole, packed=False).lanes == 16
    assert device.identity != whole.identity


@pytest.mark.parametrize("residual", [False, True])
def test_operands_of_epilogues_are_fetched_early(residual: bool) -> None:
    b = builder()
    x = b.input("x", TensorType((B, 32, 9, 9), F32))
    weight = b.parameter("weight", TensorType((40, 32, 1, 1), F32))
    plain = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    given = b.add("tanh", b.add("conv", x, weight, **plain))
    y = b.add("conv", given, b.parameter("next", TensorType((40, 40, 1, 1), F32)), **plain)
    y = b.add("add", given, y) if residual else y
    compiled = compile_graph(b.finish([b.add("relu", y)]), options=_DIRECT)
    made = [m for m in compiled.steps if "tile" in m.why][-1]
    text, _ = print_kernel(made.calls[0].kernel, "layer")
    fetched = set(re.findall(r"prefetch\(\(const void \*\)\(\(uintptr_t\)(\w+)", text))
    assert len(fetched) == (3 if residual else 1)  # weights; what is added, and the result
