"""Every method that tuning may choose computes the same."""

from __future__ import annotations

import pytest

from sol.compiler import Compiled, Made, Options, assemble, default_steps, lower_by, other_methods
from sol.core.device import detect
from sol.kernels.methods import name_of
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import Planned, make_plan
from tests.compiler.programs import Joined, compare, join
from tests.kernels.contractions import contractions

_KINDS = ("conv", "conv_transpose", "linear", "matmul", "large")


def _forced(planned: Planned, made: Made, turn: int) -> Made:
    """A contraction by its method number `turn`."""
    if made.cluster.kind != "contraction":
        return made
    found = other_methods(planned, made.cluster, detect(), Options())
    names = [name_of(method) for method in found]
    assert len(set(names)) == len(names)
    return lower_by(planned, made.cluster, detect(), found[turn % len(found)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("turn", [1, 2, 4])
def test_forced_methods_are_right(kind: str, turn: int) -> None:
    cases = contractions(kind, 8)
    graph = join(cases)
    planned = make_plan(run_passes(graph), False, detect().vector_lanes(4))
    default = default_steps(planned, detect(), Options())
    steps = tuple(_forced(planned, made, turn) for made in default)
    made: Compiled = assemble(graph, planned, steps, detect())
    for batch in (1, 3):
        compare(Joined(cases, made), batch, threads=2)
