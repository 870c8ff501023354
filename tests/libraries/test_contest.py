"""Libraries are used where they are faster and right, and nowhere else."""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sol.compiler import compile_graph
from sol.core.errors import LibraryError
from sol.ir.graph import Graph
from sol.libraries import contest, onednn_adapter
from sol.libraries.contest import Contest, Verdict
from tests.libraries.networks import (
    CASES,
    inputs_of,
    joined,
    onednn,
    parameters_of,
    preferring,
    reference,
    run,
)


def small() -> Graph:
    return joined({"plain": CASES["plain"]})


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "wins"),
    [
        (Verdict(1000, 900, 0.0), True),
        (Verdict(1000, 990, 0.0), False),  # noise
        (Verdict(1000, 1100, 0.0), False),
        (Verdict(1000, 10, 1e-2), False),
        (Verdict(1000, 10, math.nan), False),
        (Verdict(1000, 10, math.inf), False),
    ],
)
def test_a_library_wins_if_it_is_faster_and_right(verdict: Verdict, wins: bool) -> None:
    assert verdict.wins is wins


def explained(monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> str:
    """What explain says of a layer for which this was measured."""
    onednn()

    def measured(plan: Any, contests: Sequence[Contest], *rest: Any) -> tuple[Verdict, ...]:
        return (verdict,) * len(contests)

    monkeypatch.setattr(contest, "measure", measured)
    monkeypatch.setenv("SOL_LIBRARIES", "onednn")
    made = compile_graph(small()).steps
    (step,) = (m for m in made if m.cluster.root == "plain_conv")
    assert (step.use is not None) is verdict.wins
    return step.why


def test_explain_says_what_was_measured(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    assert explained(monkeypatch, Verdict(370_000, 410_000, 0.0)).endswith(
        ": 0.410 ms, generated: 0.370 ms -> generated"
    )


def test_explain_names_the_faster_library(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    assert explained(monkeypatch, Verdict(500_000, 410_000, 0.0)).endswith("-> oneDNN")


def test_explain_says_that_results_differ(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    text = explained(monkeypatch, Verdict(500_000, 410_000, 0.25))
    assert text.endswith("but the results differ by 2.5e-01 -> generated")


def test_wrong_results_are_noticed(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    onednn()
    apply = onednn_adapter.OnednnPacking.apply
    monkeypatch.setattr(onednn_adapter.OnednnPacking, "apply", lambda p, w: 1.01 * apply(p, w))
    with preferring(monkeypatch):
        made = compile_graph(small()).steps
    (step,) = (m for m in made if m.cluster.root == "plain_conv")
    assert step.use is None
    assert "but the results differ by" in step.why


# ---- without the library -------------------------------------------------------------------------


def test_none_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_LIBRARIES", "none")
    steps = compile_graph(small()).steps
    assert not any(m.use or "oneDNN" in m.why for m in steps)


def test_a_library_that_is_named_and_absent_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from sol.libraries import onednn as module

    (tmp_path / "libdnnl.so.3").write_text("no library")
    monkeypatch.setattr(module, "folders", lambda: (tmp_path,))
    monkeypatch.setenv("SOL_LIBRARIES", "onednn")
    with caplog.at_level(logging.WARNING):
        assert not any(m.use for m in compile_graph(small()).steps)
    assert "SOL_LIBRARIES names onednn" in caplog.text


def test_a_library_that_cannot_be_linked_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that it is oneDNN 3, and has none of its functions."""
    from sol.libraries import onednn as module
    from tests.libraries.test_probe import fake

    fake(tmp_path, 3, 1)
    monkeypatch.setattr(module, "folders", lambda: (tmp_path,))
    monkeypatch.delenv("SOL_LIBRARIES", raising=False)
    with caplog.at_level(logging.WARNING):
        compiled = compile_graph(small())
    assert "oneDNN is not used: oneDNN 3.4.1" in caplog.text
    compiled.prepare(parameters_of(compiled.graph))
    inputs = inputs_of(compiled.graph, 1)
    (result,) = run(compiled, inputs, 1, 1)
    (wanted,) = reference(compiled.graph, inputs, 1)
    assert abs(result - wanted).max() < 1e-4


def test_another_version_in_the_process_is_noticed() -> None:
    """The loader gives every program the library that was loaded first under a name."""
    found = replace(onednn(), version="3.0.99")
    with pytest.raises(LibraryError, match="was already loaded into this process") as caught:
        onednn_adapter.adapter(found)
    assert "version 3.0.99" in str(caught.value)


def test_fewer_instructions_than_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    onednn()
    monkeypatch.setenv("SOL_ISA", "sse2")
    with preferring(monkeypatch):
        assert not any(m.use for m in compile_graph(small()).steps)


_COMPILE = """
import sys
from pathlib import Path
import pytest
from sol.compiler import compile_graph
from sol.core.errors import LibraryError
from sol.libraries import onednn
from tests.libraries.test_contest import small
from tests.libraries.networks import preferring
onednn.folders = lambda: (Path(sys.argv[1]),)
with pytest.MonkeyPatch.context() as patch, preferring(patch):
    compiled = compile_graph(small())
print(compiled.program.path, sum(m.use is not None for m in compiled.steps))
"""


def test_a_library_that_goes_away(tmp_path: Path) -> None:
    """The next process compiles without it, and the old program says what is missing."""
    found = onednn()
    copy = tmp_path / "library"
    copy.mkdir()
    shutil.copy(found.path, copy / "libdnnl.so.3")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def compiled() -> tuple[Path, int]:
        command = [sys.executable, "-c", _COMPILE, str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        path, uses = done.stdout.split()
        return Path(path), int(uses)

    program, uses = compiled()
    assert uses == 1
    shutil.rmtree(copy)
    other, uses = compiled()
    assert (uses, other == program) == (0, False)
    code = (
        f"from sol.runtime.program import Program; Program({program.parent!r} / {program.name!r})"
    )
    command = [sys.executable, "-c", f"from pathlib import PosixPath; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "CacheError" in done.stderr
    assert "libdnnl.so.3: cannot open shared object file" in done.stderr
