"""How many threads a call gets."""

from __future__ import annotations

import pytest

from sol.core.errors import ConfigError, InputError
from sol.runtime import threads


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    monkeypatch.delenv("SOL_THREADS", raising=False)


def test_the_argument_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_THREADS", "3")
    assert threads.count(2, lambda: 4) == 2


def test_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_THREADS", "3")
    assert threads.count(None, lambda: 4) == 3


def test_then_the_framework() -> None:
    assert threads.count(None, lambda: 4) == 4
    assert threads.count(framework=lambda: 4) == 4


def test_else_all_cores() -> None:
    assert threads.count() == 8


def test_never_more_than_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.count(100) == 8
    assert threads.count(None, lambda: 64) == 8
    monkeypatch.setenv("SOL_THREADS", "9")
    assert threads.count() == 8


def test_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="threads=0"):
        threads.count(0)
    monkeypatch.setenv("SOL_THREADS", "0")
    with pytest.raises(ConfigError, match="SOL_THREADS"):
        threads.count()
