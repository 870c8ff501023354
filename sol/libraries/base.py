"""What a specialised library is to Sol: a record in a table, and the step of a program that it
takes.

A library is optional and found when a network is compiled. It is asked for every cluster
(`claims`); what it takes becomes a kernel like any other, which calls a small C adapter instead of
holding the arithmetic. libraries/contest.py measures it against the generated kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from sol.core.device import CpuDevice
from sol.lower.cluster import Lowered
from sol.plan.records import Cluster, Plan

Array = NDArray[Any]


class Packer(Protocol):
    """Brings a weight into the order in which a kernel reads it."""

    def apply(self, weight: Array) -> Array:
        """The packed weight."""


Packed = tuple[str, str, Packer]
"""Name of the buffer, value that it is made of, how."""


@dataclass(frozen=True, slots=True)
class Found:
    """A library on this machine: the shared object, its version, and flags that link with it."""

    path: Path
    version: str
    link: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """A library that cannot be used here, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Call:
    """A cluster as a library takes it.

    lowered: the kernel; packed: its weight; text: the C function that the kernel calls;
    implementation: the library's name for what it will run.
    """

    lowered: Lowered
    packed: Packed
    text: str
    implementation: str


@dataclass(frozen=True, slots=True)
class Library:
    """One library, a row of the table in libraries/__init__.py.

    name: as in SOL_LIBRARIES; title: as people write it. probe: looks for it, once per process.
    adapter: C texts for programs that call it: declarations for the functions of calls, and a unit
    of its own. claims: the cluster as a call of
    it, or why it is not taken. open: makes everything ready that a loaded program needs of the
    library, and raises LibraryError if that fails.
    """

    name: str
    title: str
    probe: Callable[[], Found | Absent]
    adapter: Callable[[], tuple[str, str]]
    claims: Callable[[Found, Plan, Cluster, CpuDevice], Call | str]
    open: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Use:
    """A call of a library, which takes the place of a generated kernel."""

    library: Library
    found: Found
    call: Call


def units(uses: Sequence[Use]) -> tuple[str, ...]:
    """The C texts that programs with these calls need beside their kernels."""
    found: list[str] = []
    for library in {use.library.name: use.library for use in uses}.values():
        declarations, unit = library.adapter()
        functions = dict.fromkeys(use.call.text for use in uses if use.library is library)
        found += [unit, "\n".join((declarations, *functions))]
    return tuple(found)


def link_flags(uses: Sequence[Use]) -> tuple[str, ...]:
    """The flags that link a program with the libraries of these calls."""
    return tuple(flag for link in dict.fromkeys(use.found.link for use in uses) for flag in link)


def open_program(path: Path, uses: Sequence[Use]) -> None:
    """Make everything ready that a loaded program needs. Raises LibraryError."""
    for library in {use.library.name: use.library for use in uses}.values():
        library.open(path)
