"""ONNX's own tests of operators and small models. All of them are read and run by the NumPy
reference of Sol's operators; one of each operator, and the small models, as native code.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict

import pytest

from tests.onnx.nodes import Case, Outcome, cases, counts, draws, outcome

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
_NATIVE = 60  # operators that are compiled here; the others are in the tests of Sol's operators


@functools.cache
def results() -> tuple[tuple[Case, Outcome], ...]:
    return tuple((case, outcome(case, native=False)) for case in cases("node"))


def test_nearly_all_tests_of_operators_pass() -> None:
    counted = [(c, r) for c, r in results() if counts(c, r)]
    kinds = Counter(r.kind for _, r in counted)
    assert len(counted) > 1700
    assert (kinds["sol"] + kinds["numpy"]) / len(counted) > 0.99
    assert kinds["sol"] / len(counted) > 0.9


def test_none_is_wrong() -> None:
    wrong = [(c.name, r.why) for c, r in results() if r.kind == "wrong" and not draws(c)]
    assert wrong == []


def test_refusals_say_why() -> None:
    assert all("is not supported" in r.why for _, r in results() if r.kind == "refused")


def test_operators_as_native_code() -> None:
    by_operator: dict[str, list[Case]] = defaultdict(list)
    for case, result in results():
        if result.kind == "sol":
            by_operator[case.op].append(case)
    chosen = [found[len(found) // 2] for _, found in sorted(by_operator.items())]
    some = chosen[:: max(1, len(chosen) // _NATIVE)]
    wrong = [(c.name, r.why) for c in some if (r := outcome(c)).kind != "sol"]
    assert wrong == []


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator", "pytorch-converted"])
def test_small_models(kind: str) -> None:
    found = [(case, outcome(case, native=False)) for case in cases(kind)]
    counted = [(c.name, r) for c, r in found if counts(c, r)]
    assert counted
    assert [(name, r.why) for name, r in counted if r.kind in ("refused", "wrong")] == []
