"""Specialised libraries: optional, found when a network is compiled, used for the layers for which
they are measured to be faster than generated kernels.

`choose` is what the compiler calls; `describe` is for people. A library is one row of `LIBRARIES`;
SOL_LIBRARIES names those that may be used.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sol.backends.toolchain import Progress
from sol.core import config
from sol.core.device import CpuDevice, detect
from sol.core.dtypes import F32
from sol.core.errors import ConfigError, LibraryError
from sol.libraries.base import Absent, Call, Found, Library, Packed, Use
from sol.libraries.contest import Contest, Verdict, decide
from sol.libraries.onednn import ONEDNN
from sol.lower.cluster import Lowered
from sol.plan.records import Cluster, Plan

log = logging.getLogger(__name__)
LIBRARIES: tuple[Library, ...] = (ONEDNN,)


@dataclass(frozen=True, slots=True)
class Layer:
    """A cluster with the generated kernel for it."""

    cluster: Cluster
    generated: Lowered
    packed: Packed


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a cluster: a library, or None for the generated kernel; and why."""

    use: Use | None
    why: str


def wanted() -> tuple[Library, ...]:
    """The libraries that SOL_LIBRARIES allows: all of them by default. Raises ConfigError."""
    names = config.LIBRARIES.get()
    known = {library.name: library for library in LIBRARIES}
    for name in names or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"SOL_LIBRARIES names {name}, which is no library that Sol can use",
                expected=f"some of {', '.join(known)}, or none",
                do=f"write {close[0]}" if close else "unset SOL_LIBRARIES",
            )
    return LIBRARIES if names is None else tuple(known[name] for name in dict.fromkeys(names))


def any_found() -> bool:
    """Whether there is a library that may be used."""
    return any(isinstance(library.probe(), Found) for library in wanted())


def describe() -> tuple[str, ...]:
    """A line for each library, as `sol devices` prints it: where it is, or why it is not used."""
    allowed = wanted()
    return tuple(_line(library, library in allowed) for library in LIBRARIES)


def _line(library: Library, allowed: bool) -> str:
    found = library.probe()
    if isinstance(found, Absent):
        return f"library: no {library.title}: {found.reason}"
    unused = "" if allowed else ", not used (SOL_LIBRARIES)"
    return f"library: {library.title} {found.version}, {found.path}{unused}"


def choose(
    plan: Plan,
    layers: Mapping[int, Layer],
    device: CpuDevice,
    threads: int,
    progress: Progress | None = None,
) -> dict[int, Choice]:
    """Library or generated kernel for each layer; measured where that is not known yet. Empty if
    there is no library.
    """
    libraries = [(library, found) for library, found in _usable() if layers]
    if not libraries or device.isa != detect("native").isa:
        return {}  # a library would not keep to fewer instructions than the processor has
    reasons: dict[int, list[str]] = {number: [] for number in layers}
    uses: dict[int, list[tuple[Verdict, Use]]] = {number: [] for number in layers}
    for library, found in libraries:
        try:
            rounds = _contests(plan, layers, device, library, found, reasons)
            verdicts = decide(plan, tuple(rounds.values()), device, threads, progress)
        except LibraryError as error:
            log.warning("%s is not used: %s", library.title, error)
            continue
        for (number, contest), verdict in zip(rounds.items(), verdicts):
            reasons[number].append(verdict.describe(contest))
            if verdict.wins:
                uses[number].append((verdict, contest.use))
    best = {n: min(u, key=lambda pair: pair[0].library)[1] for n, u in uses.items() if u}
    return {n: Choice(best.get(n), "; ".join(why)) for n, why in reasons.items()}


def _usable() -> Iterator[tuple[Library, Found]]:
    for library in wanted():
        found = library.probe()
        if isinstance(found, Found):
            yield library, found
        elif config.LIBRARIES.get():
            log.warning("SOL_LIBRARIES names %s: %s", library.name, found.reason)


def _contests(
    plan: Plan,
    layers: Mapping[int, Layer],
    device: CpuDevice,
    library: Library,
    found: Found,
    reasons: Mapping[int, list[str]],
) -> dict[int, Contest]:
    """The layers that a library takes; the reasons of the others are added to `reasons`."""
    contests = {}
    for number, layer in layers.items():
        call = _claim(plan, layer, device, library, found)
        if isinstance(call, str):
            reasons[number].append(f"{library.title}: {call}")
        else:
            use = Use(library, found, call)
            end = layer.cluster.values[-1]
            contests[number] = Contest(end, layer.generated, layer.packed, use)
    return contests


def _claim(
    plan: Plan, layer: Layer, device: CpuDevice, library: Library, found: Found
) -> Call | str:
    if any(buffer.dtype != F32 for buffer in layer.generated.kernel.buffers):
        return "it also reads numbers that are not float32"  # cannot be made up for measuring
    return library.claims(found, plan, layer.cluster, device)
