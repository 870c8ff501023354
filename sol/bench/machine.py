"""What a benchmark ran on: processor, memory, system, and the versions of all that took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import sol

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "openvino",
    "onnxruntime",
    "onnxscript",
    "ncnn",
    "pnnx",
    "numpy",
)


def describe() -> dict[str, Any]:
    """Processor, cores that this process may use, bytes of memory, system, Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {"sol": sol.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
