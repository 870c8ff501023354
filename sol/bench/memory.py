"""What this process occupies, from /proc; None where a system does not tell.

The kernel keeps the largest resident size that a process ever had (VmHWM). Writing 5 to clear_refs
makes it start again from the present size, so the peak of a single call can be read. Pages of files
are not counted: a first call touches program code, which is nobody's working memory.
"""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Bytes of memory that the process occupies now."""
    return _field("VmRSS")


@dataclass(frozen=True)
class Mark:
    """The process at one moment: resident bytes, and how many of them are pages of files."""

    resident: int
    of_files: int


def start_peak() -> Mark | None:
    """Forget the peak so far. None if the kernel cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    now, of_files = resident(), _field("RssFile")
    return None if now is None or of_files is None else Mark(now, of_files)


def peak_since(mark: Mark | None) -> int | None:
    """The most bytes, above those at the mark, that the process occupied since."""
    peak, of_files = _field("VmHWM"), _field("RssFile")
    if mark is None or peak is None or of_files is None:
        return None
    return max(0, peak - mark.resident - max(0, of_files - mark.of_files))


def settle() -> None:
    """Give back what is free, so that the next figure shows what is used."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # not glibc: free memory stays with the process there


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
