"""Contractions in native code: generated cases of every kind agree with the reference in float64,
whatever stands before and behind them, for several batches, threads and vector widths.

These are the direct kernels; Winograd's algorithm has test_winograd.py.
"""

from __future__ import annotations

import functools

import pytest

from sol.compiler import Options
from sol.core.device import detect
from sol.core.errors import ConfigError
from tests.compiler.programs import Joined, build_joined, compare, same_bits
from tests.kernels.contractions import contractions

_COUNTS = {"conv": 60, "stem": 40, "conv_transpose": 20, "linear": 30, "matmul": 30, "large": 0}
_DIRECT = Options(precision="strict")
_OTHER = "avx2"  # half as many lanes and registers as the best
_KINDS = pytest.mark.parametrize("kind", _COUNTS)


@functools.cache
def program(kind: str) -> Joined:
    """All cases of a kind as one program."""
    return build_joined(contractions(kind, _COUNTS[kind]), flags=("-O1",), options=_DIRECT)


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
