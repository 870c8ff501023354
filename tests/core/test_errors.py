"""Every error says what came, what was expected and what to do, and survives pickling."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from sol.core import errors
from sol.core.errors import CompilerFailed, SolError, UnsupportedError

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]


def test_the_tree_is_the_drawn_one() -> None:
    drawn = errors.__doc__ or ""
    for error in CLASSES:
        assert issubclass(error, SolError)
        assert error.__name__ in drawn


def test_a_message_has_its_parts_in_order() -> None:
    error = SolError("a rank of 3", expected="4", do="add a batch axis")
    assert str(error) == "a rank of 3\n  expected: 4\n  do: add a batch axis"
    assert str(SolError("only this")) == "only this"


def test_unsupported_carries_operator_and_reason() -> None:
    error = UnsupportedError("aten.foo", "its size depends on data", do="see docs")
    assert (error.op, error.reason) == ("aten.foo", "its size depends on data")
    assert "aten.foo is not supported: its size depends on data" in str(error)


def test_compiler_failed_shows_the_first_lines_and_the_source() -> None:
    stderr = "\n".join(f"error {i}" for i in range(50))
    error = CompilerFailed("it failed", ("gcc", "-c"), stderr, Path("kept.c"))
    assert "command: gcc -c" in str(error)
    assert "error 0" in str(error)
    assert "error 49" not in str(error)
    assert "38 lines more" in str(error)
    assert "kept.c" in str(error)
    assert error.stderr == stderr


@pytest.mark.parametrize(
    "error",
    [
        SolError("w", expected="e", do="d"),
        UnsupportedError("op", "reason", do="d"),
        CompilerFailed("w", ("gcc",), "err", Path("s.c")),
    ],
    ids=lambda e: type(e).__name__,
)
def test_copies_say_the_same(error: SolError) -> None:
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
