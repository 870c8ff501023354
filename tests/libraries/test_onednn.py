"""oneDNN computes what the generated kernels and the reference compute, however it is called."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sol.compiler import Compiled, compile_graph
from tests.libraries.networks import (
    CASES,
    Array,
    inputs_of,
    joined,
    onednn,
    parameters_of,
    preferring,
    reference,
    run,
)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    onednn()
    with pytest.MonkeyPatch.context() as patch, preferring(patch):
        made = compile_graph(joined())
    made.prepare(parameters_of(made.graph))
    return made


def close(one: Array, other: Array) -> bool:
    return bool(np.abs(one - other).max() <= 2e-6 * max(1.0, np.abs(other).max()) * 4)


def test_every_case_is_taken(compiled: Compiled) -> None:
    reasons = {m.cluster.root: m.why for m in compiled.steps if not m.use}
    taken = {made.cluster.root for made in compiled.steps if made.use}
    assert taken >= {f"{name}_conv" for name in CASES}, reasons


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (2, 1), (5, 3)])
def test_results_agree_with_the_reference(compiled: Compiled, batch: int, threads: int) -> None:
    inputs = inputs_of(compiled.graph, batch)
    results = run(compiled, inputs, batch, threads)
    wanted = reference(compiled.graph, inputs, batch)
    wrong = [name for name, a, b in zip(CASES, results, wanted) if not close(a, b)]
    assert not wrong


def test_results_do_not_depend_on_threads(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 3)
    one, other = (run(compiled, inputs, 3, threads) for threads in (1, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, other))


def test_explain_names_library_and_implementation(compiled: Compiled) -> None:
    lines = [made.why for made in compiled.steps if made.use]
    pattern = r"oneDNN 3\.\d+\.\d+ \S+: \d+\.\d+ ms, generated: \d+\.\d+ ms -> oneDNN"
    assert all(re.fullmatch(pattern, line) for line in lines), lines


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_special_numbers_pass_through(compiled: Compiled, number: float) -> None:
    inputs = inputs_of(compiled.graph, 1)
    for array in inputs.values():
        array.reshape(-1)[0] = number
    results = run(compiled, inputs, 1, 2)
    wanted = reference(compiled.graph, inputs, 1)
    for name, a, b in zip(CASES, results, wanted):
        assert np.array_equal(np.isnan(a), np.isnan(b)), name
        assert np.array_equal(np.isinf(a), np.isinf(b)), name


def test_changed_weights_are_packed_again(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 1)
    before = run(compiled, inputs, 1, 1)
    parameters = parameters_of(compiled.graph)
    compiled.prepare({key: -2 * value for key, value in parameters.items()})
    try:
        changed = run(compiled, inputs, 1, 1)
    finally:
        compiled.prepare(parameters)
    assert not any(np.array_equal(a, b) for a, b in zip(before, changed))
    assert all(np.array_equal(a, b) for a, b in zip(before, run(compiled, inputs, 1, 1)))


def test_calls_at_the_same_time(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 2)
    wanted = run(compiled, inputs, 2, 1)
    wrong: list[str] = []

    def call() -> None:
        for _ in range(10):
            results = run(compiled, inputs, 2, 2)
            wrong.extend(n for n, a, b in zip(CASES, results, wanted) if not np.array_equal(a, b))

    workers = [threading.Thread(target=call) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_oneDNN_starts_no_threads(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 2)
    run(compiled, inputs, 2, 1)
    before = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(5):
        run(compiled, inputs, 2, 1)
    assert len(list(Path("/proc/self/task").iterdir())) <= before


def test_after_fork(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 1)
    wanted = run(compiled, inputs, 1, 2)
    child = os.fork()
    if child == 0:
        results = run(compiled, inputs, 1, 2)
        os._exit(0 if all(np.array_equal(a, b) for a, b in zip(results, wanted)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_memory_does_not_grow(compiled: Compiled) -> None:
    inputs = inputs_of(compiled.graph, 1)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(20):
        run(compiled, inputs, 1, 1)
    before = resident()
    for _ in range(200):
        run(compiled, inputs, 1, 1)
    assert resident() - before < 256, "pages"


def test_a_second_compilation_measures_nothing(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sol.libraries import contest

    monkeypatch.setattr(contest, "measure", lambda *_: pytest.fail("measured again"))
    with preferring(monkeypatch):
        again = compile_graph(joined())
    assert [m.why for m in again.steps] == [m.why for m in compiled.steps]


_HEADER = "oneapi/dnnl/dnnl.h"
_NAMES = {
    "CPU": "dnnl_cpu",
    "F32": "dnnl_f32",
    "ANY": "dnnl_format_tag_any",
    "FORWARD_INFERENCE": "dnnl_forward_inference",
    "DIRECT": "dnnl_convolution_direct",
    "USER": "dnnl_scratchpad_mode_user",
    "IN_ORDER": "dnnl_stream_in_order",
    "BINARY_ADD": "dnnl_binary_add",
    "NAME": "dnnl_query_impl_info_str",
    "WEIGHTS_DESC": "dnnl_query_weights_md",
    "SCRATCHPAD_DESC": "dnnl_query_scratchpad_md",
    "FROM": "DNNL_ARG_FROM",
    "TO": "DNNL_ARG_TO",
    "ARG_SOURCE": "DNNL_ARG_SRC",
    "ARG_RESULT": "DNNL_ARG_DST",
    "ARG_WEIGHTS": "DNNL_ARG_WEIGHTS",
    "ARG_BIAS": "DNNL_ARG_BIAS",
    "ARG_SCRATCHPAD": "DNNL_ARG_SCRATCHPAD",
    "ARG_ADD": "(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1)",
}


def test_declarations_are_those_of_a_header_of_oneDNN(tmp_path: Path) -> None:
    """PyTorch brings the headers of oneDNN 3."""
    torch = pytest.importorskip("torch")
    include = Path(torch.__file__).parent / "include"
    if not (include / _HEADER).is_file():
        pytest.skip(f"no {_HEADER} in {include}")
    folder = Path(sys.modules["sol"].__file__ or "").parent / "libraries"
    own = (folder / "onednn_api.h").read_text()
    enums = " ".join(re.findall(r"^enum \{[^}]*\};", own, re.MULTILINE))
    assert set(re.findall(r"(\w+) =", enums)) == set(_NAMES)
    counts = {
        name: text.count(",")
        for name, text in re.findall(r"^int (dnnl_\w+)\(([^;]*)\);", own, re.M)
    }
    lines = [f"#include <{_HEADER}>", enums]
    lines += [f'_Static_assert({a} == (int){b}, "{a}");' for a, b in _NAMES.items()]
    real = "\n".join(p.read_text() for p in (include / "oneapi/dnnl").glob("dnnl*.h"))
    for name, commas in counts.items():
        declared = re.search(rf"DNNL_API {name}\(([^;]*)\);", real)
        assert declared, f"{name} is not declared"
        assert declared[1].count(",") == commas, f"{name} takes other arguments"
    (tmp_path / "check.c").write_text("\n".join([*lines, ""]))
    command = ["cc", "-std=gnu11", "-I", str(include), "-fsyntax-only", str(tmp_path / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
