"""Finding a C compiler: $SOL_CC, $CC, gcc, clang, cc, else the one inside the `ziglang` wheel.

A compiler must answer, be gcc or clang (others reorder floating-point arithmetic on their own, or
lack GNU vector types), and generate code for this machine. `find_compiler` is called for each
build; the answer is remembered until one of the variables changes.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sol.core import config
from sol.core.errors import CompilerNotFound
from sol.core.keys import content_key

log = logging.getLogger(__name__)
Kind = Literal["gcc", "clang", "zig"]
_PROBE_SECONDS = 60
_MACHINE_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that works. `command` starts it, `version` is for people, and `identity` changes
    when its output may."""

    command: tuple[str, ...]
    kind: Kind
    version: str
    identity: str

    def describe(self) -> str:
        """A line for people."""
        return f"{self.version} ({shlex.join(self.command)})"


def find_compiler() -> Compiler:
    """The compiler to use. Raises CompilerNotFound, which names all that was tried."""
    config.check_environment()
    environment = os.environ.get("CC", "").strip()
    return _find(config.CC.get(), environment, os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=16)
def _find(sol_cc: str, cc: str, path: str) -> Compiler:
    tried = []
    for origin, command in _candidates(sol_cc, cc):
        found = probe(command)
        if isinstance(found, Compiler):
            return found
        tried.append(f"{origin}{shlex.join(command)}: {found}")
        if origin:
            log.warning("the C compiler of %s%s cannot be used: %s", origin, command[0], found)
    what = "no C compiler was found" if not sol_cc else f"the compiler SOL_CC={sol_cc!r} is no use"
    raise CompilerNotFound(
        what + "".join(f"\n    tried {line}" for line in tried),
        expected="gcc or clang for this machine",
        do="install gcc or clang, or `pip install sol-nn[zig]`, or set SOL_CC to one",
    )


def _candidates(sol_cc: str, cc: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(variable it comes from, command). Who sets SOL_CC means it: then there is no other."""
    if sol_cc:
        yield "SOL_CC=", tuple(shlex.split(sol_cc))
        return
    if cc:
        yield "CC=", tuple(shlex.split(cc))
    yield from (("", (name,)) for name in ("gcc", "clang", "cc"))
    yield "", _zig_command()


def _zig_command() -> tuple[str, ...]:
    """The compiler of the ziglang wheel: started directly, because Python's start costs more."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        return ("ziglang",)  # shows as not found
    program = Path(spec.origin).parent / "zig"
    return (str(program), "cc") if program.exists() else (sys.executable, "-m", "ziglang", "cc")


def probe(command: tuple[str, ...]) -> Compiler | str:
    """What a command is: a compiler, or the reason why it is none that can be used."""
    if not command or not shutil.which(command[0]):
        return "not found"
    version = _output(*command, "--version")
    kind = _kind(command, version or "")
    if version is None or kind is None:
        return "does not work" if version is None else "is neither gcc nor clang"
    target = "" if kind == "zig" else _output(*command, "-dumpmachine") or ""
    machine = platform.machine().lower()
    machine = _MACHINE_NAMES.get(machine, machine)
    if target and _MACHINE_NAMES.get(target.split("-")[0], target.split("-")[0]) != machine:
        return f"generates code for {target}, and this machine is {machine}"
    return Compiler(command, kind, version.splitlines()[0], content_key(kind, version, target))


def _kind(command: tuple[str, ...], version: str) -> Kind | None:
    if command[-1] == "cc" and "zig" in "".join(command[:-1]):
        return "zig"
    if "clang version" in version:
        return "clang"
    return "gcc" if "Free Software Foundation" in version else None


def _output(*command: str) -> str | None:
    """What a command prints, or None if it does not end well."""
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None
