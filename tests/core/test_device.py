"""Device descriptions, from made-up files as well as from the machine at hand."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from sol.core import cores
from sol.core.device import ISAS, _describe, choose_isa, detect, devices, read_caches, read_cpuinfo
from sol.core.errors import ConfigError
from sol.core.keys import checksum, content_key

AVX2 = frozenset(["sse2", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2"])
AVX512 = AVX2 | frozenset(["avx512f", "avx512vl", "avx512bw", "avx512dq"])


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine() -> None:
    device = detect()
    assert device.cores >= 1
    assert device.vector_bytes in (16, 32, 64)
    assert device.vector_lanes(4) == device.vector_bytes // 4
    assert 0 < device.l1d <= device.l2
    assert device.isa in device.describe()
    assert devices() == (device,)
    assert not any("native" in flag for flag in device.flags)


@pytest.mark.parametrize(
    ("machine", "flags", "isa"),
    [
        ("x86_64", AVX512, "avx512"),
        ("x86_64", AVX512 - {"avx512vl"}, "avx2"),
        ("AMD64", AVX2, "avx2"),
        ("x86_64", AVX2 - {"fma"}, "sse2"),
        ("x86_64", frozenset(), "sse2"),
        ("aarch64", frozenset(), "neon"),
        ("arm64", frozenset(), "neon"),
        ("riscv64", frozenset(), "generic"),
    ],
)
def test_the_best_isa_is_chosen(machine: str, flags: frozenset[str], isa: str) -> None:
    assert choose_isa("native", machine, flags).name == isa


def test_an_isa_can_be_asked_for() -> None:
    assert choose_isa("sse2", "x86_64", AVX512).vector_bytes == 16
    with pytest.raises(ConfigError, match="has no avx512") as caught:
        choose_isa("avx512", "x86_64", AVX2)
    assert "native or one of avx2, sse2" in str(caught.value)


def test_sol_isa_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    if detect().isa not in ("avx512", "avx2", "sse2"):
        pytest.skip("not an x86 processor")
    monkeypatch.setenv("SOL_ISA", "sse2")
    assert detect().isa == "sse2"
    assert detect().identity != detect("native").identity or detect("native").isa == "sse2"


def test_isas_are_consistent() -> None:
    assert len({isa.name for isa in ISAS}) == len(ISAS)
    assert all(isa.vector_bytes % 16 == 0 for isa in ISAS)


def test_cpuinfo(tmp_path: Path) -> None:
    text = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu sse2\n\nprocessor\t: 1\n"
    write(tmp_path, {"cpuinfo": text})
    info = read_cpuinfo(tmp_path / "cpuinfo")
    assert info == {"processor": "0", "model name": "A: B", "flags": "fpu sse2"}
    assert read_cpuinfo(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("vendor", "family", "splits"),
    [("AuthenticAMD", 25, True), ("AuthenticAMD", 26, False), ("GenuineIntel", 6, False)],
)
def test_units_of_half_a_vector(vendor: str, family: int, splits: bool, tmp_path: Path) -> None:
    lines = [f"vendor_id : {vendor}", f"cpu family : {family}", f"flags : {' '.join(AVX512)}"]
    root = write(tmp_path, {"proc/cpuinfo": "\n".join(lines)})
    assert _describe("avx512", root, "x86_64").fma_lanes() == ((16, 8) if splits else (16,))
    assert _describe("avx2", root, "x86_64").fma_lanes() == (8,)


def test_caches(tmp_path: Path) -> None:
    cpu = min(cores.usable_cpus())
    folder = f"cpu{cpu}/cache"
    write(
        tmp_path,
        {
            f"{folder}/index0/level": "1\n",
            f"{folder}/index0/type": "Data\n",
            f"{folder}/index0/size": "48K\n",
            f"{folder}/index1/level": "1",
            f"{folder}/index1/type": "Instruction",
            f"{folder}/index1/size": "64K",
            f"{folder}/index3/level": "3",
            f"{folder}/index3/type": "Unified",
            f"{folder}/index3/size": "strange",
        },
    )
    default = read_caches(tmp_path / "none")
    assert read_caches(tmp_path) == (48 * 1024, *default[1:])


# ---- cores -------------------------------------------------------------------------------------

V1 = "3:cpu,cpuacct:/a/b\n2:memory:/a\n"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        # in a container the path is the host's, and the files are at the top
        ({"proc/self/cgroup": "0::/docker/1f\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, math.inf),
    ],
)
def test_cgroup_quota(files: Mapping[str, str], cpus: float, tmp_path: Path) -> None:
    assert cores.cgroup_quota(write(tmp_path, files)) == cpus


def test_quota_rounds_up_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable_cpus", lambda: frozenset(range(8)))
    for quota, expected in ((1.5, 2), (0.2, 1), (math.inf, 8), (99.0, 8)):
        monkeypatch.setattr(cores, "_quota", (math.inf, quota))  # as if read just now
        assert cores.available_cores() == expected


def test_affinity_is_asked_each_time() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores.available_cores() == 1
        assert detect().cores == 1
    finally:
        os.sched_setaffinity(0, allowed)


# ---- keys --------------------------------------------------------------------------------------


def test_keys_depend_on_borders_and_not_on_kind() -> None:
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("a") == content_key(b"a")
    assert len(content_key()) == len(checksum(b"")) == 40
