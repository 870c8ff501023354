"""The runtime's C: as strict as compilers and sanitizers can be, and mirrored rightly in Python."""

from __future__ import annotations

import ctypes
import re
import subprocess
from array import array
from pathlib import Path

import pytest

from sol.backends import compilers
from sol.backends.compilers import Compiler, probe
from sol.backends.toolchain import FLAGS, abi_header
from sol.runtime.native import (
    ABI,
    UNITS,
    AgainTable,
    ProgramTable,
    SegmentTable,
    look,
    runtime,
    source,
)
from tests.runtime.sample_program import PROGRAMS, build_library

CLEAN = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion")


def command_of(kind: str) -> tuple[str, ...]:
    command = compilers._zig_command() if kind == "zig" else (kind,)
    found = probe(command)
    if not isinstance(found, Compiler) or found.kind != kind:
        pytest.skip(f"{kind}: {found if isinstance(found, str) else 'is ' + found.kind}")
    return command


def test_there_is_one_runtime() -> None:
    assert runtime() is runtime()


def test_sources_stand_alone() -> None:
    for name in UNITS:
        text = source(name)
        assert '#include "' not in text
        assert "#ifndef SOL_" in text  # the headers are there, each once
        for guard in re.findall(r"#ifndef (SOL_\w+_H)", text):
            assert text.count(f"#ifndef {guard}") == 1


@pytest.mark.parametrize(
    ("table", "name"),
    [(ProgramTable, "sol_program"), (SegmentTable, "sol_segment"), (AgainTable, "sol_again")],
)
def test_a_python_table_is_the_c_table(table: type[ctypes.Structure], name: str) -> None:
    names = [field[0] for field in table._fields_]
    offsets = ", ".join(f"offsetof({name}, {field})" for field in names)
    library = ctypes.CDLL(
        str(
            build_library(
                f"#include <stddef.h>\n{abi_header()}\n"
                f"SOL_EXPORT const int64_t layout[] = {{SOL_ABI, sizeof({name}), {offsets}}};"
            )
        )
    )
    layout = list((ctypes.c_int64 * (2 + len(names))).in_dll(library, "layout"))
    assert layout == [ABI, ctypes.sizeof(table), *(getattr(table, n).offset for n in names)]


def test_a_look_at_words() -> None:
    """The others are nowhere once the first ones have changed, and are not read then."""
    first, others = array("Q", [1, 2]), array("Q", [3])
    a = look(addresses(first), addresses(others))
    b = look(addresses(others), array("Q"))
    both = b.joined(a)
    assert (both.first, len(both.places)) == (3, 4)
    assert [both(), a(), b()] == [True] * 3
    others[0] = 4
    assert [both(), a(), b()] == [False] * 3
    others[0] = 3
    assert both()
    first[1] = 7
    both.places[3] = 8
    assert not both()


def addresses(values: array[int]) -> array[int]:
    at, count = values.buffer_info()
    return array("Q", range(at, at + 8 * count, 8))


@pytest.mark.parametrize("kind", ["gcc", "clang", "zig"])
@pytest.mark.parametrize("extra", [(), ("-DSOL_NO_FUTEX",)], ids=["futex", "condition"])
def test_no_compiler_warns(
    kind: str, extra: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    for name in UNITS:
        (tmp_path / name).write_text(source(name))
        run = subprocess.run(
            [*command_of(kind), *CLEAN, "-Werror", *extra, "-O3", "-c", name, "-o", "x.o"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def link_stress(
    command: tuple[str, ...], flags: tuple[str, ...], folder: Path, segments: str
) -> Path:
    """An executable of runtime, program and stress.c, or skip: sanitizers are optional."""
    units = {name: source(name) for name in UNITS}
    stress = (Path(__file__).parent / "stress.c").read_text()
    units["stress.c"] = PROGRAMS[segments] + stress
    for name, text in units.items():
        (folder / name).write_text(text)
    common = [flag for flag in FLAGS if flag not in ("-O3", "-fvisibility=hidden")]
    run = subprocess.run(
        [*command, *common, "-g", "-O1", *flags, *units, "-o", "stress", "-lm"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode and ("cannot find" in run.stderr or "unable to find" in run.stderr):
        pytest.skip(f"{command[0]} has no {flags[0]}: {run.stderr.splitlines()[-1]}")
    assert run.returncode == 0, run.stderr
    return folder / "stress"


@pytest.mark.parametrize("kind", ["gcc", "clang"])
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.parametrize("extra", [(), ("-DSOL_NO_FUTEX",)], ids=["futex", "condition"])
@pytest.mark.parametrize("segments", ["mixed", "apart"])
def test_sanitizers(
    kind: str, sanitizer: str, extra: tuple[str, ...], segments: str, tmp_path: Path
) -> None:
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", *extra)
    program = link_stress(command_of(kind), flags, tmp_path, segments)
    run = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    if "unexpected memory mapping" in run.stderr:
        pytest.skip("this kernel places memory where the thread sanitizer cannot be")
    assert run.stdout == "right\n", run.stderr
    assert run.returncode == 0, run.stderr
