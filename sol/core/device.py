"""What Sol knows about a processor: instruction set, vector registers, cores and caches.

`detect()` describes the processor at hand, `devices()` lists what Sol can generate code for here.
Planner and code generator take all sizes from such a description, never from a name. Sources are
/proc/cpuinfo, sysfs and cgroups (cores.py); where they are missing, cautious defaults hold.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sol.core import config
from sol.core.cores import available_cores, usable_cpus
from sol.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Isa:
    """An instruction set: what the processor must have, and how a C compiler is told.

    `needs` are names of /proc/cpuinfo, `flags` are options of gcc and clang.
    """

    name: str
    machines: tuple[str, ...]
    needs: frozenset[str]
    vector_bytes: int
    vector_registers: int
    fma: bool
    flags: tuple[str, ...]


_X86 = ("x86_64", "amd64")
_ARM = ("aarch64", "arm64")
_AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2")
_AVX512 = ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512")
_NEEDS_AVX2 = frozenset({"avx2", "fma", "f16c", "bmi1", "bmi2"})
_NEEDS_AVX512 = _NEEDS_AVX2 | {"avx512f", "avx512vl", "avx512bw", "avx512dq"}

# The best first. Flags name extensions, not a processor (-march=native), so that equal code has
# equal cache keys on all machines that have these extensions.
ISAS: tuple[Isa, ...] = (
    Isa("avx512", _X86, _NEEDS_AVX512, 64, 32, True, (*_AVX2, *_AVX512, "-mtune=skylake-avx512")),
    Isa("avx2", _X86, _NEEDS_AVX2, 32, 16, True, (*_AVX2, "-mtune=haswell")),
    Isa("sse2", _X86, frozenset(), 16, 16, False, ("-mtune=generic",)),
    Isa("neon", _ARM, frozenset(), 16, 32, True, ()),
    Isa("generic", (), frozenset(), 16, 16, False, ()),
)

# (vendor, family) whose units are half as wide as vectors of 512 bits: Zen 4
_SPLITTING = frozenset({("AuthenticAMD", "25")})


@dataclass(frozen=True, slots=True)
class CpuDevice:
    """One processor. Cache sizes are bytes: level 1 and 2 of one core, level 3 of all cores.

    splits: a multiply-add of whole vectors takes as long as two of half vectors.
    """

    name: str
    isa: str
    vector_bytes: int
    vector_registers: int
    fma: bool
    cores: int
    l1d: int
    l2: int
    l3: int
    flags: tuple[str, ...]
    splits: bool = False

    @property
    def identity(self) -> str:
        """What generated code depends on; not the name, and not how many cores are free."""
        caches = f"l1d={self.l1d},l2={self.l2},l3={self.l3}"
        halves = ":halves" * self.splits
        return f"{self.isa}:{self.vector_bytes}x{self.vector_registers}{halves}:{caches}"

    def for_threads(self, threads: int) -> CpuDevice:
        """The same as calls on so many threads see it."""
        return replace(self, cores=min(self.cores, threads))

    @property
    def widths(self) -> tuple[int, ...]:
        """Lanes of vectors of 4 bytes, the widest first; what is left is done one by one."""
        return tuple(w for w in (16, 8, 4) if w <= self.vector_lanes(4))

    def vector_lanes(self, bytes_per_element: int) -> int:
        """Elements of this size in one vector register."""
        return self.vector_bytes // bytes_per_element

    def fma_lanes(self) -> tuple[int, ...]:
        """How many floats multiply-adds may have at a time, at the same rate of floats."""
        whole = self.vector_lanes(4)
        return (whole, whole // 2) if self.splits else (whole,)

    def fma_cycles(self, lanes: int) -> float:
        """How long a multiply-add of so many floats takes, where one of a whole vector takes 1."""
        return lanes / self.vector_lanes(4)

    def describe(self) -> str:
        """A line for people, as `sol devices` prints it."""
        vectors = f"{self.vector_registers} vector registers of {8 * self.vector_bytes} bits"
        caches = f"L1 {self.l1d // 1024} KiB, L2 {self.l2 // 1024} KiB, L3 {self.l3 // 1024} KiB"
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return f"{self.name}: {self.isa}, {vectors}, {cores}, {caches}"


def detect(isa: str | None = None) -> CpuDevice:
    """The processor of this machine, for `isa` (default: SOL_ISA, else the best it has).

    Cores are counted anew at each call. Raises ConfigError if it does not have that `isa`.
    """
    device = _describe(isa or config.ISA.get(), Path("/"), platform.machine())
    return replace(device, cores=available_cores())


def devices() -> tuple[CpuDevice, ...]:
    """The devices that Sol can run on here."""
    return (detect(),)


@functools.lru_cache(maxsize=16)
def _describe(wanted: str, root: Path, machine: str) -> CpuDevice:
    info = read_cpuinfo(root / "proc/cpuinfo")
    isa = choose_isa(wanted, machine, frozenset(info.get("flags", "").split()))
    name = info.get("model name") or info.get("CPU part") or machine or "unknown processor"
    l1d, l2, l3 = read_caches(root / "sys/devices/system/cpu")
    return CpuDevice(
        name=name,
        isa=isa.name,
        vector_bytes=isa.vector_bytes,
        vector_registers=isa.vector_registers,
        fma=isa.fma,
        cores=1,
        l1d=l1d,
        l2=l2,
        l3=l3,
        flags=isa.flags,
        splits=isa.name == "avx512"
        and (info.get("vendor_id"), info.get("cpu family")) in _SPLITTING,
    )


def choose_isa(wanted: str, machine: str, flags: frozenset[str]) -> Isa:
    """The best instruction set of a `machine` with these cpuinfo `flags`, or the `wanted` one."""
    fitting = [i for i in ISAS if machine.lower() in i.machines and i.needs <= flags] or [ISAS[-1]]
    if wanted == "native":
        return fitting[0]
    for isa in fitting:
        if isa.name == wanted:
            return isa
    raise ConfigError(
        f"this processor ({machine}) has no {wanted}",
        expected=f"SOL_ISA to be native or one of {', '.join(i.name for i in fitting)}",
        do="unset SOL_ISA",
    )


def read_cpuinfo(path: Path) -> Mapping[str, str]:
    """The fields of the first processor in /proc/cpuinfo; empty where there is no such file."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    rows = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


_DEFAULT_CACHES = {1: 32 * 2**10, 2: 512 * 2**10, 3: 8 * 2**20}


def read_caches(cpus: Path) -> tuple[int, int, int]:
    """Bytes of the level 1 data, level 2 and level 3 cache of a CPU that this process may use."""
    sizes = dict(_DEFAULT_CACHES)
    cpu = min(usable_cpus(), default=0)
    for index in sorted((cpus / f"cpu{cpu}" / "cache").glob("index*")):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = config.parse_bytes((index / "size").read_text())
        except (OSError, ValueError):
            continue  # a virtual machine may leave some of them out
        if level in sizes and kind in ("Data", "Unified") and size > 0:
            sizes[level] = size
    return sizes[1], sizes[2], sizes[3]
