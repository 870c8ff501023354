"""Building libraries: with each compiler that is here, from the store, and when it goes wrong."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import time
from pathlib import Path

import pytest

from sol.backends import compilers, toolchain
from sol.backends.compilers import Compiler, probe
from sol.backends.toolchain import abi_header, build, device_flags
from sol.core.device import CpuDevice, detect
from sol.core.errors import CompilerFailed
from sol.runtime.cache import Cache

ADD = '__attribute__((visibility("default"))) int add(int a, int b) { return a + b; }\n'
TWICE = (
    "int add(int, int);\n"
    '__attribute__((visibility("default"))) int twice(int a) { return add(a, a); }\n'
)
# What fast-math would break: NaN, infinities, the sign of zero; and a vector of this device.
NUMBERS = """
typedef float vec __attribute__((vector_size(64)));
#define API __attribute__((visibility("default")))
API float difference(float a, float b) { return a - b; }
API int is_nan(float a) { return a != a; }
API float negate_sum(float a) { return -(a + 0.0f); }
API void axpy(float *y, const float *x, float a) {
    vec v = *(const vec *)x * a + *(vec *)y;
    *(vec *)y = v;
}
"""


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


@pytest.fixture(autouse=True)
def _refused_units_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_DUMP", str(tmp_path / "dump"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that a test makes the toolchain run."""
    commands: list[tuple[str, ...]] = []
    finish = toolchain._finish

    def record(
        command: tuple[str, ...], folder: Path, environment: dict[str, str], timeout: float
    ) -> tuple[int, str]:
        commands.append(command)
        return finish(command, folder, environment, timeout)

    monkeypatch.setattr(toolchain, "_finish", record)
    return commands


def usable(kind: str) -> str:
    """The command of a compiler, or skip with the reason."""
    command = compilers._zig_command() if kind == "zig" else (kind,)
    found = probe(command)
    if not isinstance(found, Compiler) or found.kind != kind:
        pytest.skip(f"{kind}: {found if isinstance(found, str) else 'is ' + found.kind}")
    return " ".join(command)


@pytest.mark.parametrize("kind", ["gcc", "clang", pytest.param("zig", marks=pytest.mark.slow)])
@pytest.mark.parametrize("isa", ["native", "sse2"])
def test_each_compiler_keeps_numbers_and_warns_of_nothing(
    kind: str,
    isa: str,
    store: Cache,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("SOL_CC", usable(kind))
    # zig builds its libraries at the first link, for half a minute: once is enough
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "zig"))
    device = detect(None if isa == "native" else isa)
    library = ctypes.CDLL(str(build([NUMBERS], device, store, extra=("-Werror",))))
    for name in ("difference", "negate_sum"):
        getattr(library, name).restype = ctypes.c_float
    infinity = ctypes.c_float(math.inf)
    assert math.isnan(library.difference(infinity, infinity))
    assert library.is_nan(ctypes.c_float(math.nan)) == 1
    assert math.copysign(1, library.negate_sum(ctypes.c_float(-0.0))) == -1
    lanes = ctypes.c_float * 32
    memory, other = lanes(), lanes(*range(32))
    y, x = (ctypes.addressof(a) + -ctypes.addressof(a) % 64 for a in (memory, other))
    before = list((ctypes.c_float * 16).from_address(x))
    library.axpy(ctypes.c_void_p(y), ctypes.c_void_p(x), ctypes.c_float(3))
    assert list((ctypes.c_float * 16).from_address(y)) == [3 * value for value in before]


def test_units_are_linked_together(store: Cache) -> None:
    library = ctypes.CDLL(str(build([ADD, TWICE], detect(), store)))
    assert library.twice(21) == 42


def test_equal_units_are_one(store: Cache, runs: list[tuple[str, ...]]) -> None:
    build([ADD, ADD], detect(), store)
    assert len(runs) == 2  # one unit, one link


def test_a_second_build_runs_nothing(store: Cache, runs: list[tuple[str, ...]]) -> None:
    first = build([ADD, TWICE], detect(), store)
    assert len(runs) == 3
    assert build([ADD, TWICE], detect(), store) == first
    assert len(runs) == 3


def test_one_changed_unit_is_one_compilation(store: Cache, runs: list[tuple[str, ...]]) -> None:
    progress: list[tuple[int, int]] = []
    build([ADD, TWICE], detect(), store)
    runs.clear()
    other = TWICE.replace("a, a", "a, a + 1")
    path = build([ADD, other], detect(), store, progress=lambda *at: progress.append(at))
    assert len(runs) == 2
    assert progress == [(2, 2)]
    assert ctypes.CDLL(str(path)).twice(21) == 43


def test_flags_are_part_of_the_key(store: Cache) -> None:
    paths = {
        build([ADD], detect(), store),
        build([ADD], detect(), store, extra=("-DX",)),
        build([ADD], detect(), store, sanitize=("undefined",)),
    }
    assert len(paths) == 3


def test_damaged_objects_and_libraries_are_made_again(store: Cache) -> None:
    path = build([ADD], detect(), store)
    for entry in store.entries():
        entry.path.write_bytes(entry.path.read_bytes()[:100])
    path = build([ADD], detect(), store)
    assert ctypes.CDLL(str(path)).add(1, 2) == 3


def test_nothing_is_written_to_the_current_directory(
    store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    build([ADD], detect(), store)
    assert not list(here.iterdir())


def test_a_refused_unit_is_shown_and_kept(store: Cache, tmp_path: Path) -> None:
    with pytest.raises(CompilerFailed, match="failed with status 1") as caught:
        build([ADD, "int broken("], detect(), store)
    error = caught.value
    assert "error" in error.stderr
    assert "unit.c" in str(error)
    assert error.source is not None
    assert error.source.parent == tmp_path / "dump"
    assert error.source.read_text() == "int broken("


def test_an_undefined_symbol_is_found_when_linking(store: Cache) -> None:
    with pytest.raises(CompilerFailed, match="add"):
        build([TWICE], detect(), store)


def fake_gcc(folder: Path, body: str) -> str:
    """A gcc that answers questions truthfully and compiles by `body`."""
    path = folder / "fake-gcc"
    path.write_text(
        "#!/bin/sh\ncase $1 in --version|-dumpmachine) exec gcc $1;; esac\n" + body + "\n"
    )
    path.chmod(0o755)
    return str(path)


def test_a_compiler_that_hangs_is_ended_with_its_children(
    store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("gcc")
    child = tmp_path / "child"
    # the child holds the pipe, as cc1 does
    monkeypatch.setenv("SOL_CC", fake_gcc(tmp_path, f"sleep 60 & echo $! > {child}; wait"))
    start = time.monotonic()
    with pytest.raises(CompilerFailed, match="did not end within"):
        build([ADD], detect(), store, timeout=1.0)
    assert time.monotonic() - start < 30
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", child.read_text().strip()], capture_output=True, text=True
    ).stdout
    assert state.strip()[:1] in ("", "Z")


def test_a_full_disk_is_named(
    store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("gcc")
    body = "echo 'fatal error: error writing to x.s: No space left on device' >&2; exit 1"
    monkeypatch.setenv("SOL_CC", fake_gcc(tmp_path, body))
    with pytest.raises(CompilerFailed, match=r"no space left in .*TMPDIR"):
        build([ADD], detect(), store)


def test_a_compiler_that_vanished_is_named(
    store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable("gcc")
    command = fake_gcc(tmp_path, "exit 0")
    monkeypatch.setenv("SOL_CC", command)
    compilers.find_compiler()
    Path(command).unlink()
    with pytest.raises(CompilerFailed, match="could not be started"):
        build([ADD], detect(), store)


def test_zig_gets_no_tuning_and_a_baseline() -> None:
    device = detect()
    flags = device_flags(Compiler(("zig", "cc"), "zig", "", ""), device)
    assert flags[0].startswith("-mcpu=")
    assert not any(flag.startswith("-mtune") for flag in flags)
    assert device_flags(Compiler(("gcc",), "gcc", "", ""), device) == device.flags


def test_the_abi_header_stands_alone(store: Cache) -> None:
    device: CpuDevice = detect()
    build([abi_header()], device, store, extra=("-Werror", "-pedantic-errors"))
    assert "SOL_ABI" in abi_header()


def test_warnings_can_be_errors(store: Cache) -> None:
    with pytest.raises(CompilerFailed, match="unused"):
        build(["static int f(void) { return 1; }"], detect(), store, extra=("-Werror",))


def test_the_environment_of_the_compiler(store: Cache, runs: list[tuple[str, ...]]) -> None:
    """Two builds in other directories have the same key: no path is in a command's flags."""
    build([ADD], detect(), store)
    compile_command = runs[0]
    assert compile_command[-4:] == ("-c", "unit.c", "-o", "unit.o")
    assert not any(os.sep in part for part in compile_command[1:])
