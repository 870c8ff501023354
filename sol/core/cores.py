"""How many cores this process may use: its CPU affinity, and the quota of its cgroup.

A container that is given 1.5 CPUs of 64 has 2 cores here: that many threads can make progress. The
affinity is asked each time, the quota, which costs a few file reads, at most once per second.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

QUOTA_SECONDS = 1.0
_quota: tuple[float, float] = (-math.inf, math.inf)  # when it was read, and what it said


def usable_cpus() -> frozenset[int]:
    """The CPUs that the calling thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def available_cores() -> int:
    """The number of threads that can run at once, at least 1."""
    global _quota
    now = time.monotonic()
    if now - _quota[0] > QUOTA_SECONDS:
        _quota = (now, cgroup_quota(Path("/")))
    cores = len(usable_cpus())
    return max(1, cores if math.isinf(_quota[1]) else min(cores, math.ceil(_quota[1])))


def cgroup_quota(root: Path) -> float:
    """CPUs that the cgroups of this process allow together, infinity if none is limited.

    Understands version 2 (cpu.max) and version 1 (cpu.cfs_quota_us). `root` is / but for tests.
    """
    return min((_read_quota(group) for group in _groups(root)), default=math.inf)


def _groups(root: Path) -> Iterator[Path]:
    """The directories of this process's cgroups and of all above them: each may have a limit."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "1:cpu:/"]:  # in a container the path may be the host's
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        group = top / path.lstrip("/")
        while group != top:
            yield group
            group = group.parent
        yield top


def _read_quota(group: Path) -> float:
    """CPUs that one cgroup directory allows."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return math.inf
    unlimited = quota in ("max", "-1") or int(period) <= 0
    return math.inf if unlimited else int(quota) / int(period)
