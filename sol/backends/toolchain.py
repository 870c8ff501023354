"""From C sources to a shared library: every unit compiled once, in parallel, then linked.

Objects and libraries are stored by content (source, flags, compiler), so a second build of the same
units reads one file. The store is given by the caller (runtime/cache.py has the one on disk).
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sol.backends.compilers import Compiler, find_compiler
from sol.core import config
from sol.core.device import CpuDevice
from sol.core.errors import CompilerFailed
from sol.core.keys import content_key

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # units done, units in all

# Contraction to FMA is allowed, other liberties with numbers are not: NaN, infinities and the sign
# of zero stay (never -ffast-math). Integers wrap, as those of frameworks do. Kernels read the same
# bytes as floats, vectors and integers.
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-fvisibility=hidden",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
)
_LIBRARIES = ("-lm", "-pthread")
_SECONDS = 600.0
_ZIG_CPUS = {"neon": "generic", "generic": "baseline"}  # else x86_64; zig's default is this machine


class Store(Protocol):
    """Where objects and libraries are kept: files by content key."""

    @property
    def path(self) -> Path:
        """A directory of its own on disk."""

    def file(self, key: str, suffix: str) -> Path | None:
        """The stored file, verified, or None."""

    def add(self, key: str, suffix: str, data: bytes) -> Path:
        """Store a file and say where."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all compilations of one build have in common."""

    compiler: Compiler
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    store: Store
    timeout: float


def build(
    units: Sequence[str],
    device: CpuDevice,
    store: Store,
    *,
    progress: Progress | None = None,
    sanitize: Sequence[str] = (),
    extra: Sequence[str] = (),
    link: Sequence[str] = (),
    timeout: float = _SECONDS,
) -> Path:
    """Compile C texts (one translation unit each) into one shared library and return its path.

    `sanitize` names sanitizers of the compiler ("address", "undefined"), `extra` are more flags,
    `link` more flags of the linker (specialised libraries), `timeout` is seconds for one unit.
    Raises CompilerNotFound, CompilerFailed, CacheError.
    """
    job = plan_job(device, store, sanitize, extra, timeout)
    sources = {content_key("object", job.compiler.identity, *job.flags, u): u for u in units}
    key = content_key("library", job.compiler.identity, *job.link_flags, *link, *sources)
    done = store.file(key, "so")
    if done:
        return done
    objects = _compile_all(job, sources, device.cores, progress)
    with tempfile.TemporaryDirectory(prefix="sol-") as folder:
        output = Path(folder) / "library.so"
        command = (*job.compiler.command, *job.link_flags, "-o", str(output))
        _run(job, (*command, *map(str, objects), *link, *_LIBRARIES), Path(folder), source="")
        return store.add(key, "so", output.read_bytes())


def plan_job(
    device: CpuDevice,
    store: Store,
    sanitize: Sequence[str] = (),
    extra: Sequence[str] = (),
    timeout: float = _SECONDS,
) -> Job:
    """The compiler and its flags for a device."""
    compiler = find_compiler()
    checks: tuple[str, ...] = ()
    if sanitize:
        checks = (f"-fsanitize={','.join(sanitize)}", "-fno-sanitize-recover=all", "-g", "-O1")
    machine = device_flags(compiler, device)
    strict = ("-Wl,-z,defs",) if sys.platform == "linux" and not sanitize else ()
    link = ("-shared", *(f for f in machine if f.startswith("-mcpu=")), *checks, *strict)
    return Job(compiler, (*FLAGS, *machine, *checks, *extra), link, store, timeout)


def device_flags(compiler: Compiler, device: CpuDevice) -> tuple[str, ...]:
    """The device's flags in the words of this compiler."""
    if compiler.kind != "zig":
        return device.flags
    # zig takes -mtune for -mcpu, and turns on undefined-behaviour traps on its own
    flags = tuple(flag for flag in device.flags if not flag.startswith("-mtune="))
    cpu = _ZIG_CPUS.get(device.isa, "x86_64")
    return (f"-mcpu={cpu}", "-fno-sanitize=undefined", *flags)


def _compile_all(
    job: Job, sources: dict[str, str], workers: int, progress: Progress | None
) -> list[Path]:
    """Objects of all sources, in their order. The first failure cancels what has not started."""
    objects = {key: job.store.file(key, "o") for key in sources}
    missing = [key for key, path in objects.items() if path is None]
    done = len(objects) - len(missing)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        running = {pool.submit(_compile, job, key, sources[key]): key for key in missing}
        try:
            for future in as_completed(running):
                objects[running[future]] = future.result()
                done += 1
                if progress:
                    progress(done, len(objects))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [path for path in objects.values() if path]


def _compile(job: Job, key: str, source: str) -> Path:
    with tempfile.TemporaryDirectory(prefix="sol-") as name:
        folder = Path(name)
        (folder / "unit.c").write_text(source, encoding="utf-8")
        command = (*job.compiler.command, *job.flags, "-c", "unit.c", "-o", "unit.o")
        warnings = _run(job, command, folder, source)
        if warnings:
            log.info("%s said:\n%s", job.compiler.version, warnings)
        return job.store.add(key, "o", (folder / "unit.o").read_bytes())


def _run(job: Job, command: tuple[str, ...], folder: Path, source: str) -> str:
    """Run a compiler in a folder of its own, return its warnings. Raises CompilerFailed."""
    # Messages in English; zig's files with ours, and neither in the current directory.
    environment = {**os.environ, "LC_ALL": "C", "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(job.store.path / "zig"))
    log.debug("%s", shlex.join(command))
    try:
        status, output = _finish(command, folder, environment, job.timeout)
    except subprocess.TimeoutExpired:
        what = f"the C compiler did not end within {job.timeout:g} s"
        raise CompilerFailed(what, command, "", _keep(source)) from None
    except OSError as error:
        what = f"the C compiler could not be started: {error}"
        raise CompilerFailed(what, command, "", _keep(source)) from error
    if status == 0:
        return output.strip()
    what = f"the C compiler failed with status {status}"
    if "No space left on device" in output:
        what += f": no space left in {tempfile.gettempdir()} (TMPDIR names another directory)"
    raise CompilerFailed(what, command, output, _keep(source))


def _finish(
    command: tuple[str, ...], folder: Path, environment: dict[str, str], timeout: float
) -> tuple[int, str]:
    """Run a command to its end: its status and what it printed."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException:
            # The driver has children of its own, and they hold the pipe: end all of them.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output


def _keep(source: str) -> Path | None:
    """Keep what the compiler refused: in SOL_DUMP, else in a new temporary directory."""
    if not source:
        return None
    try:
        folder = config.DUMP.get() or Path(tempfile.mkdtemp(prefix="sol-failed-"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"failed-{content_key(source)[:12]}.c"
        path.write_text(source, encoding="utf-8")
    except OSError:
        return None  # the error at hand says more than this one
    return path


def abi_header() -> str:
    """The C declarations that a generated program must contain (runtime/sol_runtime.h)."""
    return (Path(__file__).parent.parent / "runtime" / "sol_runtime.h").read_text(encoding="utf-8")
