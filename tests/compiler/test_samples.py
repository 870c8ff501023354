"""Every sample of every operator as native code: against the reference, on every instruction set of
this machine, alone and with passes, for one thread and two.
"""

from __future__ import annotations

import functools

import pytest

from sol.core.device import ISAS, CpuDevice, detect
from sol.core.errors import ConfigError
from sol.ops.registry import OPS
from sol.ops.sampling import sample_graph
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

_PARTS = 4


def _isas() -> list[str]:
    """The instruction sets that this machine runs."""
    found = []
    for isa in ISAS:
        try:
            found.append(detect(isa.name).isa)
        except ConfigError:
            continue
    return found


@functools.cache
def samples() -> tuple[Case, ...]:
    """A network for each sample."""
    return tuple(
        Case(
            f"{name} {number}",
            sample_graph(entry, sample),
            sample.low,
            sample.high,
            # a mean of numbers near 100 has lost two of seven digits
            tolerance=max(1.0, abs(sample.low) / 10),
        )
        for name, entry in sorted(OPS.items())
        for number, sample in enumerate(entry.samples)
    )


def some_samples(most: int) -> tuple[Case, ...]:
    """At most so many networks for each operator."""
    by_operator: dict[str, list[Case]] = {}
    for case in samples():
        by_operator.setdefault(case.name.split()[0], []).append(case)
    return tuple(c for cases in by_operator.values() for c in cases[:: -(-len(cases) // most)])


@functools.cache
def program(isa: str, part: int, optimise: bool = False) -> Joined:
    """A part of all samples, dealt out so that parts are alike."""
    device: CpuDevice = detect(isa)
    flags = () if device == detect() else ("-O1",)
    return build_joined(samples()[part::_PARTS], device, optimise, flags=flags)


@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.parametrize("isa", _isas())
def test_samples_agree_with_the_reference(isa: str, part: int) -> None:
    joined = program(isa, part)
    compare(joined, batch=1)
    assert same_bits(joined.run(1, threads=1), joined.run(1, threads=2))


@pytest.mark.parametrize("part", range(_PARTS))
def test_samples_agree_after_passes(part: int) -> None:
    compare(program(detect().isa, part, optimise=True), batch=1, threads=2, seed=1)


def test_every_operator_that_can_run_is_run() -> None:
    """No operator is without a sample that reaches the code generator."""
    done = {node.op for case in samples() for node in case.graph}
    assert set(OPS) - done <= {"parameter"}
