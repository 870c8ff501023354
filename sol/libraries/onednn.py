"""oneDNN, Intel's library of kernels: convolutions and linear layers in float32.

`probe` looks for version 3 with OpenMP or without threads, `claims` takes a contraction whose
operands lie in memory as oneDNN's fast kernels need them. Kernels reach oneDNN through onednn.c,
which is linked into each program (onednn_adapter.py uses it from Python).
"""

from __future__ import annotations

import ctypes
import functools
import site
import sys
from pathlib import Path

from sol.core.device import CpuDevice
from sol.core.keys import content_key
from sol.libraries.bands import Bands, cut_bands, lower_bands
from sol.libraries.base import Absent, Call, Found, Library
from sol.libraries.convolution import describe_task
from sol.libraries.onednn_adapter import (
    Fields,
    OnednnPacking,
    ask,
    numbers,
    open_program,
    source,
    version_of,
)
from sol.plan.records import Cluster, Plan

_FILE, _OLD_FILE = "libdnnl.so.3", "libdnnl.so.2"
_RUNTIMES = {1: "sequential", 2: "OpenMP", 4: "TBB", 8: "a thread pool", 512: "SYCL"}
_USABLE = ("sequential", "OpenMP")
_INSTALL = "pip install onednn-cpu-gomp"


# ---- looking for it ----------------------------------------------------------------------------


def probe() -> Found | Absent:
    """oneDNN where pip, conda and the system put it."""
    return find(folders())


def folders() -> tuple[Path, ...]:
    """Directories in which Python packages install shared libraries."""
    bases = dict.fromkeys((sys.prefix, sys.base_prefix, site.getuserbase()))
    return tuple(Path(base) / "lib" for base in bases if base)


@functools.lru_cache(maxsize=8)
def find(places: tuple[Path, ...]) -> Found | Absent:
    """oneDNN in one of these directories, else where the system's loader finds it."""
    for path in (place / _FILE for place in places):
        if path.is_file():
            return _examine(path)
    try:
        ctypes.CDLL(_FILE)
    except OSError:
        old = " (version 2 is; Sol needs 3.0 or later)" if _loads(_OLD_FILE) else ""
        return Absent(f"{_FILE} is not installed{old}: {_INSTALL}")
    loaded = _mapped(_FILE)
    return _examine(loaded) if loaded else Absent(f"nobody says from where {_FILE} was loaded")


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _mapped(name: str) -> Path | None:
    """From where this process has loaded a library."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = (Path(line.split(maxsplit=5)[5]) for line in lines if name in line)
    return next(paths, None)


def _examine(path: Path) -> Found | Absent:
    """Whether Sol can use the library at a path."""
    try:
        number, code = version_of(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        return Absent(f"{path} cannot be loaded: {error}")
    runtime = _RUNTIMES.get(code, f"runtime {code}")
    if not number.startswith("3."):
        return Absent(f"{path} has version {number}; Sol needs 3.0 or later, before 4: {_INSTALL}")
    if runtime not in _USABLE:
        return Absent(f"{path} runs on threads of its own ({runtime}): {_INSTALL}")
    rpath = ("-Xlinker", "-rpath", "-Xlinker", str(path.parent))
    return Found(path, number, (str(path), *rpath))


# ---- clusters ----------------------------------------------------------------------------------


def claims(found: Found, plan: Plan, cluster: Cluster, device: CpuDevice) -> Call | str:
    """The cluster as a call of oneDNN, or why it is not taken. Raises LibraryError."""
    task = describe_task(plan, cluster, device.vector_lanes(4))
    if isinstance(task, str):
        return task
    bands = cut_bands(task.convolution, device)
    parts = (numbers(p, task.bias is not None, task.add is not None) for p in bands.parts)
    fields = Fields(tuple(map(tuple, parts)))
    answer = ask(found, fields)
    if isinstance(answer, str):
        return answer
    implementation, weight_bytes, scratch_bytes = answer
    function, text = _function(found, bands, fields)
    weight = task.product.weight
    buffer = f"{weight}/{function}"
    widths = [w for w in (16, 8, 4) if w <= device.vector_lanes(4)]
    lowered = lower_bands(plan, task, bands, function, buffer, scratch_bytes, widths)
    packed = (buffer, weight, OnednnPacking(found, fields, weight_bytes))
    return Call(lowered, packed, text, implementation)


def _function(found: Found, bands: Bands, fields: Fields) -> tuple[str, str]:
    """The function that kernels call for a convolution, and its text. Its name follows from the
    text, which names the library: so another version or place gives other kernels.
    """
    text = f"""/* oneDNN {found.version}, {content_key(str(found.path))} */
static const sol_conv FUNCTION_parts[] = {{
{fields.text()}
}};
static const uint8_t FUNCTION_part_of[] = {{{", ".join(map(str, bands.part_of))}}};
static sol_onednn_kernel FUNCTION_kernel = {{FUNCTION_parts, {len(fields.parts)}, 0, 0}};

__attribute__((constructor)) static void FUNCTION_add(void) {{ sol_onednn_add(&FUNCTION_kernel); }}

void FUNCTION(int64_t band, void *const *pointers);
void FUNCTION(int64_t band, void *const *pointers) {{
    sol_onednn_run(&FUNCTION_kernel, FUNCTION_part_of[band], pointers);
}}
"""
    name = f"sol_onednn_{content_key(text)[:16]}"
    return name, text.replace("FUNCTION", name)


def adapter_texts() -> tuple[str, str]:
    """The C declarations that functions of calls need, and the unit that they are linked with."""
    return source("onednn.h"), source("onednn.c")


ONEDNN = Library("onednn", "oneDNN", probe, adapter_texts, claims, open_program)
