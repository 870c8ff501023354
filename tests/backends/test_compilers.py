"""Which compiler is taken, and what is said when there is none. The compilers here are scripts."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import pytest

from sol.backends import compilers
from sol.backends.compilers import Compiler, find_compiler, probe
from sol.core.errors import CompilerNotFound

GCC = "gcc (Fake) 99.1\nCopyright (C) Free Software Foundation, Inc."
CLANG = "clang version 99.1\nTarget: here"


def script(folder: Path, name: str, version: str, target: str = "", status: int = 0) -> Path:
    """A program that answers as a compiler does."""
    target = target or f"{platform.machine()}-linux-gnu"
    path = folder / name
    path.write_text(
        f"#!/bin/sh\nfor word; do case $word in\n--version) echo '{version}';;\n"
        f"-dumpmachine) echo {target};;\nesac; done\nexit {status}\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SOL_CC", raising=False)
    monkeypatch.setattr(compilers, "_zig_command", lambda: ("no-zig", "cc"))
    compilers._find.cache_clear()
    return tmp_path


def test_without_any_all_that_was_tried_is_named(only: Path) -> None:
    with pytest.raises(CompilerNotFound) as caught:
        find_compiler()
    message = str(caught.value)
    for part in ("gcc: not found", "clang: not found", "cc: not found", "no-zig cc", "sol-nn[zig]"):
        assert part in message


def test_gcc_comes_before_clang(only: Path) -> None:
    script(only, "clang", CLANG)
    assert find_compiler().kind == "clang"
    script(only, "gcc", GCC)
    compilers._find.cache_clear()
    found = find_compiler()
    assert (found.kind, found.command) == ("gcc", ("gcc",))
    assert found.version == "gcc (Fake) 99.1"
    assert "gcc (Fake) 99.1" in found.describe()


def test_cc_comes_before_gcc(only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(only, "gcc", GCC)
    monkeypatch.setenv("CC", str(script(only, "mine", CLANG)))
    assert find_compiler().command == (str(only / "mine"),)


def test_a_broken_cc_is_passed_over_aloud(
    only: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script(only, "gcc", GCC)
    monkeypatch.setenv("CC", str(script(only, "broken", GCC, status=1)))
    with caplog.at_level(logging.WARNING):
        assert find_compiler().command == ("gcc",)
    assert "broken cannot be used: does not work" in caplog.text


def test_sol_cc_is_the_only_one(only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(only, "gcc", GCC)
    monkeypatch.setenv("SOL_CC", "absent --fast")
    with pytest.raises(CompilerNotFound, match="SOL_CC='absent --fast'") as caught:
        find_compiler()
    assert "gcc:" not in str(caught.value)
    script(only, "wrapper", CLANG)
    monkeypatch.setenv("SOL_CC", "wrapper -m64")
    assert find_compiler().command == ("wrapper", "-m64")


@pytest.mark.parametrize(
    ("version", "target", "reason"),
    [
        ("Tiny C Compiler 1.0", "", "neither gcc nor clang"),
        (GCC, "riscv64-linux-gnu", "generates code for riscv64-linux-gnu"),
    ],
)
def test_compilers_that_do_not_fit(only: Path, version: str, target: str, reason: str) -> None:
    answer = probe((str(script(only, "odd", version, target)),))
    assert isinstance(answer, str)
    assert reason in answer


def test_identity_follows_the_version(only: Path) -> None:
    first = probe((str(script(only, "one", GCC)),))
    same = probe((str(script(only, "two", GCC)),))
    other = probe((str(script(only, "three", GCC.replace("99.1", "99.2"))),))
    assert isinstance(first, Compiler)
    assert isinstance(same, Compiler)
    assert isinstance(other, Compiler)
    assert first.identity == same.identity != other.identity


def test_zig_is_last(only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zig = script(only, "zig", CLANG)
    monkeypatch.setattr(compilers, "_zig_command", lambda: (str(zig), "cc"))
    assert find_compiler().kind == "zig"
