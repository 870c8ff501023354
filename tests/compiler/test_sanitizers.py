"""Kernels stay inside their memory: programs run under AddressSanitizer and UBSan with every buffer
exactly as large as planned.

Memory holds NaN before, scratch is fresh for every few units, and units run backwards, so what is
read before it is written makes results wrong. Programs whose memory is a little too small, or not
filled, show that such a run can fail.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import sol.steps
from sol.core.device import CpuDevice, detect
from sol.core.dims import B
from sol.ops.registry import OPS
from tests.compiler.exact import Exact, link, run_exact
from tests.compiler.programs import Case, expected, same_bits, wrong
from tests.compiler.test_samples import some_samples
from tests.kernels import test_attention as attention
from tests.kernels import test_grouped as grouped
from tests.kernels import test_recurrent as recurrent
from tests.kernels import test_winograd as winograd
from tests.kernels.contractions import contractions

Make = Callable[[str], tuple[Exact, Path]]


# ---- the programs --------------------------------------------------------------------------------


def _samples() -> tuple[Case, ...]:
    return some_samples(3)


def _contractions() -> tuple[Case, ...]:
    """Other ones than those of test_contractions.py."""
    counts = {"conv": 12, "stem": 15, "conv_transpose": 4, "linear": 6, "matmul": 6}
    small = [c for kind, count in counts.items() for c in contractions(kind, count, 500)]
    return (*small, *contractions("large", 0)[::3])


def _attentions() -> tuple[Case, ...]:
    masks = [
        attention.Case((B, 4), 20, 30, 8, 16, mask=mask, dtype=dtype)
        for mask, dtype in attention.MASKS[::4]
    ]
    each = [*attention.SHAPES[1::2], *attention.CAUSAL, *attention.LONG[1:3], *masks]
    return tuple(
        Case(f"attention {k}", attention.graph_of(case), -1.0, 1.0) for k, case in enumerate(each)
    )


def _recurrences() -> tuple[Case, ...]:
    make = recurrent.recurrence
    graphs = {
        "lstm": make("lstm", (B, 4, 3), 17, layers=2, bidirectional=True),
        "gru": make("gru", (5, B, 3), 33, bidirectional=True, batch_first=False, bias=False),
        "gru of one unit": make("gru", (B, 4, 3), 1),
        "rnn": make("rnn", (B, 3, 5), 70, nonlinearity="relu"),
        "one step": make("lstm", (B, 1, 2), 20),
        "fixed batch": make("lstm", (9, 3, 2), 18),
        "any time": make("lstm", (B, 3, 4), 18, batch_first=False, bidirectional=True),
    }
    return tuple(Case(name, graph, -0.5, 0.5) for name, graph in graphs.items())


FAMILIES: dict[str, tuple[Callable[[], tuple[Case, ...]], CpuDevice]] = {
    "samples": (_samples, detect()),
    "contractions": (_contractions, detect()),
    "grouped": (lambda: (*grouped.WIDTHS[::4], *grouped.OTHERS), detect()),
    "winograd": (lambda: winograd.LAYERS[::3], detect()),
    "attention": (_attentions, detect()),
    "recurrent": (_recurrences, detect()),
    "recurrent, shared": (_recurrences, recurrent.SHARING),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The program of a family, compiled once."""

    @functools.cache
    def made(family: str) -> tuple[Exact, Path]:
        cases, device = FAMILIES[family]
        with pytest.MonkeyPatch.context() as patch:
            if family == "winograd":
                patch.setattr(sol.steps, "choose_fast", winograd.BLOCKINGS["odd tiles"])
            exact = Exact.of(cases(), device)
        return exact, link(exact.units(), device, tmp_path_factory.mktemp("exact"))

    return made


def _faults(exact: Exact, program: Path, batch: int, folder: Path) -> list[str]:
    """The cases with wrong results."""
    alone, threads = run_exact(exact, program, batch, folder)
    assert same_bits(alone, threads), "results depend on threads or on what memory held"
    each = zip(exact.joined.cases, alone, strict=True)
    return [f for case, found in each if (f := wrong(case, found, expected(case, batch)))]


# ---- all is well ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_outside_of_a_buffer_is_touched(make: Make, family: str, tmp_path: Path) -> None:
    exact, program = make(family)
    for batch in (1,) if family == "samples" else (1, 3):
        faults = _faults(exact, program, batch, tmp_path)
        assert not faults, f"{len(faults)} wrong at batch {batch}:\n" + "\n".join(faults)


def test_every_operator_is_there() -> None:
    assert set(OPS) - {node.op for case in _samples() for node in case.graph} <= {"parameter"}


# ---- what is not, is found -----------------------------------------------------------------------

FAMILY = "recurrent, shared"  # small, with inputs, weights, results, intermediates and scratch


def _with_short_buffer(exact: Exact, name: str) -> Exact:
    """The same program on a buffer that lacks its last element."""
    plan = exact.planned.plan
    buffer = plan.buffers[name]
    buffers = {**plan.buffers, name: replace(buffer, size=buffer.size - 1)}
    return replace(exact, planned=replace(exact.planned, plan=replace(plan, buffers=buffers)))


def _with_short_scratch(exact: Exact) -> Exact:
    """The same program on scratch memory that lacks its last 64 bytes."""
    kernels = [c.kernel for c in exact.calls]
    smaller = [replace(k, scratch=max(k.scratch - 64, 0)) for k in kernels]
    calls = tuple(replace(c, kernel=k) for c, k in zip(exact.calls, smaller))
    return replace(exact, calls=calls)


@pytest.mark.parametrize("kind", ["arena", "output"])
def test_a_buffer_that_is_one_element_short_is_reported(
    make: Make, kind: str, tmp_path: Path
) -> None:
    exact, program = make(FAMILY)
    names = [n for n in exact.tensors if n in exact.planned.plan.buffers]
    own = [n for n in names if exact.planned.plan.buffers[n].kind == kind]
    assert len(own) > 2
    for name in own[:: max(1, len(own) // 4)]:
        with pytest.raises(AssertionError, match="AddressSanitizer"):
            run_exact(_with_short_buffer(exact, name), program, 2, tmp_path)


def test_scratch_that_is_too_small_is_reported(make: Make, tmp_path: Path) -> None:
    exact, program = make(FAMILY)
    with pytest.raises(AssertionError, match="AddressSanitizer"):
        run_exact(_with_short_scratch(exact), program, 2, tmp_path)


def test_undefined_behaviour_is_reported(tmp_path: Path) -> None:
    text = "int main(int count, char **values) { return values[0][0] << (31 + count); }"
    program = link([text], detect(), tmp_path)
    run = subprocess.run([program], capture_output=True, text=True, check=False)
    assert run.returncode, "the run ends"
    assert "shift exponent 32" in run.stderr
