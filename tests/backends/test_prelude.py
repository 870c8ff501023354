"""The prelude's text, lanes, masks, reductions and integers; the mathematics is in test_math.py."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sol.backends.prelude import functions, prelude
from sol.backends.toolchain import FLAGS
from sol.core.errors import VerifyError
from sol.ir.expr import SCALAR_OPS

ROOT = Path(__file__).parents[2]
Floats = npt.NDArray[np.float32]
WIDTHS = (1, 2, 4, 8, 16, 32)
COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)] or ["cc"]
NATIVE = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
# What the C language itself has for vectors, so the printer writes it in place.
OPERATORS = {"add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor"}
OPERATORS |= {"where", "shl", "shr"}  # sel and seli; shifts are of integers only


def library(folder: Path, text: str, compiler: str) -> ctypes.CDLL:
    """The compiled text; a warning is an error."""
    source, output = folder / "unit.c", folder / "unit.so"
    source.write_text(text)
    command = [compiler, *FLAGS, "-Werror", NATIVE, "-shared", str(source), "-o", str(output)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(output))


def test_every_scalar_operation_has_a_function() -> None:
    assert set(SCALAR_OPS) - OPERATORS <= functions()


def test_each_definition_stands_once_and_after_what_it_uses() -> None:
    text = prelude([(name, width) for name in functions() for width in (1, 4, 16)])
    defined = re.findall(r"^(?:SOL_INLINE|static)[^(\[={;]*?(\w+)[(\[]", text, re.MULTILINE)
    defined = [d for d in defined if d != "__attribute__"]
    assert len(defined) == len(set(defined)) > 200
    position = {name: text.index(f" {name}(") for name in defined if f" {name}(" in text}
    for name, start in position.items():
        uses = [m.start() for m in re.finditer(rf"\b{name}\(", text)]
        assert min(uses) > start, f"{name} is used before it is defined"


def test_only_what_is_called() -> None:
    text = prelude([("max", 16)])
    assert re.findall(r"SOL_INLINE \w+ (\w+)\(", text) == ["sel_16", "larger_16", "max_16"]
    assert "max_16" in text
    assert "exp" not in text
    assert "vf8" not in text
    assert len(text.splitlines()) < 16


def test_equal_calls_give_equal_text() -> None:
    calls = [("exp", 16), ("hsum", 8), ("load", 1), ("sin", 4)]
    assert len({prelude(order) for order in itertools.permutations(calls)}) == 1
    assert prelude(set(calls)) == prelude(calls)


def test_types_of_every_width_that_is_named() -> None:
    text = prelude([("load", 8), ("abs_i64", 0)])
    assert "} vf8" not in text
    assert re.search(r"typedef float vf8\b", text)
    assert re.search(r"typedef int32_t vi8\b", text)


def test_unknown_function() -> None:
    with pytest.raises(VerifyError, match="no function of the prelude is called gamma"):
        prelude([("gamma", 8)])


@pytest.mark.parametrize("width", [3, -1, 12])
def test_width_that_is_no_power_of_two(width: int) -> None:
    with pytest.raises(VerifyError, match=f"exp for {width} lanes"):
        prelude([("exp", width)])


@pytest.mark.parametrize("compiler", COMPILERS)
def test_undefined_behaviour(compiler: str, tmp_path: Path) -> None:
    """Every function on edges, one lane and four, with the compiler's checks on."""
    check = ["-O1", "-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    link = [compiler, *check, str(tmp_path / "empty.c"), "-o", str(tmp_path / "empty")]
    if subprocess.run(link, capture_output=True).returncode:
        pytest.skip(f"{compiler} has no sanitizers here")
    source = tmp_path / "edges.c"
    source.write_text("".join(edge_program()))
    command = [compiler, *FLAGS, "-Wno-unused-function", *check, NATIVE, str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "edges")], check=True)
    ran = subprocess.run([str(tmp_path / "edges")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def edge_program() -> Iterator[str]:
    """A C program that calls each operation of expressions on pairs of edges."""
    calls = [
        (name, SCALAR_OPS[name].arity) for name in sorted(set(SCALAR_OPS) - OPERATORS - {"not"})
    ]
    widths = (1, 4)
    yield prelude([(n, w) for n, _ in calls for w in widths] + [("set", w) for w in widths])
    yield "static const float edge[] = {0, -0.0f, 1, -1, 2.5f, -0.5f, 1e-45f, -1e-45f, 3.4e38f,\n"
    yield "    -3.4e38f, 1e5f, -3e9f, 88.7f, -104, 1e30f, __builtin_inff(), -__builtin_inff(),\n"
    yield '    __builtin_nanf("")};\nvolatile float keep;\nint main(void) {\n'
    yield "    for (int i = 0; i < 18; i++) for (int j = 0; j < 18; j++) {\n"
    for (name, arity), width in itertools.product(calls, widths):
        arguments = ", ".join(f"set_{width}(edge[{i}])" for i in "ij"[:arity])
        value = f"{name}_{width}({arguments})"
        yield f"        keep = (float){value}{'[0]' if width > 1 else ''};\n"
    yield "    }\n    return 0;\n}\n"


def test_coefficients_are_those_of_the_fits() -> None:
    pytest.importorskip("mpmath")
    place = importlib.util.spec_from_file_location("fit_math", ROOT / "benchmarks" / "fit_math.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules["fit_math"] = module  # dataclasses look their module up
    place.loader.exec_module(module)
    texts = [f.read_text() for f in (ROOT / "sol" / "backends" / "math").glob("*.h")]
    numbers = re.findall(r"-?0x1\.?[0-9a-f]*p[+-]\d+|-?\d+\.\d+", " ".join(texts))
    known = np.array([float.fromhex(n) if "x" in n else float(n) for n in numbers])
    for fit in module.FITS:
        coefficients, error = module.fitted(fit)
        assert error < 2.0**-25, fit.name
        for c in coefficients[len(fit.first) :]:  # the last ones differ a little between machines
            nearest = known[np.abs(known - c).argmin()]
            assert nearest == pytest.approx(c, rel=1e-2), fit.name


LANES = """
#define API __attribute__((visibility("default")))
API void reduce(float *y, const float *x) {
    vfW v = load_W(x);
    y[0] = hsum_W(v), y[1] = hprod_W(v), y[2] = hmax_W(v), y[3] = hmin_W(v);
    y[4] = (float)hany_W(v > 1.5f), y[5] = (float)hall_W(v > -100.0f);
    y[6] = (float)hany_W(v > 1e9f), y[7] = (float)hall_W(v != x[0]);
}
API void lanes(float *y, const float *x, const uint8_t *b, uint8_t *c, int64_t stride) {
    viW m = loadb_W(b);
    vfW v = load_W(x);
    store_W(y, gather_W(x, stride));
    store_W(y + W, sel_W(m, v, set_W(-5.0f)));
    store_W(y + 2 * W, tofloat_W(seli_W(not_W(m), iota_W(3), seti_W(-7))));
    store_W(y + 3 * W, maskf_W(m));
    store_W(y + 4 * W, tofloat_W(toint_W(v * 1.75f)));
    storeb_W(c, (v > 2.0f) & m);
}
"""
LANE_CALLS = (
    *("load", "store", "gather", "sel", "seli", "seti", "set", "tofloat", "toint", "not", "iota"),
    *("maskf", "loadb", "storeb", "hsum", "hprod", "hmax", "hmin", "hany", "hall"),
)


def lane_library(folder: Path, width: int, compiler: str) -> ctypes.CDLL:
    text = prelude([(name, width) for name in LANE_CALLS])
    body = LANES.replace("_W", f"_{width}").replace("vfW", f"vf{width}")
    body = body.replace("viW", f"vi{width}").replace("W", str(width))
    return library(folder, text + body, compiler)


def pointer(x: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("width", WIDTHS)
def test_lanes(width: int, compiler: str, tmp_path: Path) -> None:
    compiled = lane_library(tmp_path, width, compiler)
    random = np.random.default_rng(width)
    x = (random.standard_normal(3 * width + 1) * 3).astype(np.float32)[1:]  # not aligned
    b = random.integers(0, 3, width).astype(np.uint8)
    y, c = np.zeros(5 * width, np.float32), np.full(width + 1, 9, np.uint8)
    compiled.lanes(pointer(y), pointer(x), pointer(b), pointer(c), ctypes.c_int64(3))
    m, v = b != 0, x[:width]
    np.testing.assert_array_equal(y[:width], x[::3])
    np.testing.assert_array_equal(y[width : 2 * width], np.where(m, v, -5))
    np.testing.assert_array_equal(y[2 * width : 3 * width], np.where(m, -7, np.arange(width) + 3))
    np.testing.assert_array_equal(y[3 * width : 4 * width], m)
    np.testing.assert_array_equal(y[4 * width :], np.trunc(v * np.float32(1.75)))
    np.testing.assert_array_equal(c, [*((v > 2) & m), 9])


def tree(x: Floats, pick: Callable[[Floats, Floats], Floats]) -> np.float32:
    while len(x) > 1:
        half = len(x) // 2
        x = pick(x[:half], x[half:])
    return np.float32(x[0])


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("width", WIDTHS)
def test_horizontal(width: int, compiler: str, tmp_path: Path) -> None:
    compiled = lane_library(tmp_path, width, compiler)
    x = (np.random.default_rng(width).standard_normal(width) * 3).astype(np.float32)
    y = np.zeros(8, np.float32)
    compiled.reduce(pointer(y), pointer(x))
    wanted = [tree(x, pick) for pick in (np.add, np.multiply, np.maximum, np.minimum)]
    np.testing.assert_array_equal(y[:4], wanted)
    np.testing.assert_array_equal(y[4:], [(x > 1.5).any(), True, False, False])
    for lane in range(width):
        x[lane] = np.nan
        compiled.reduce(pointer(y), pointer(x))
        assert np.isnan(y[:4]).all(), f"NaN in lane {lane} is lost: {y[:4]}"
        assert y[5] == 0
        x[lane] = 1


INTEGERS = ["max", "min", "floordiv", "mod", "fmod", "pow"]


def python_integer(name: str, a: int, b: int) -> int:
    match name:
        case "max" | "min":
            return max(a, b) if name == "max" else min(a, b)
        case "floordiv" | "mod":
            return (a // b if name == "floordiv" else a % b) if b else 0
        case "fmod":
            return (abs(a) % abs(b) if a >= 0 else -(abs(a) % abs(b))) if b else 0
    return a**b if b >= 0 else {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)


def test_integers(tmp_path: Path) -> None:
    names = [f"{n}_i64" for n in INTEGERS] + ["abs_i64", "sign_i64"]
    text = prelude([(n, 0) for n in names])
    for n in names:
        two = n[:-4] in INTEGERS
        text += f'__attribute__((visibility("default"))) int64_t run_{n}(int64_t a, int64_t b) '
        text += f"{{ (void)b; return {n}(a{', b' if two else ''}); }}\n"
    compiled = library(tmp_path, text, COMPILERS[0])
    values = [0, 1, -1, 2, -2, 3, -3, 7, -7, 100, 2**40 + 1, -(2**40), -(2**63), 2**63 - 1]
    for name in INTEGERS:
        run = getattr(compiled, f"run_{name}_i64")
        run.restype, run.argtypes = ctypes.c_int64, [ctypes.c_int64] * 2
        for a in values:
            for b in values if name != "pow" else [v for v in values if abs(v) < 64]:
                wanted = ctypes.c_int64(python_integer(name, a, b)).value
                assert run(a, b) == wanted, f"{name}({a}, {b})"
    for a in values:
        for name, wanted in (("abs", abs(a)), ("sign", (a > 0) - (a < 0))):
            run = getattr(compiled, f"run_{name}_i64")
            run.restype, run.argtypes = ctypes.c_int64, [ctypes.c_int64] * 2
            assert run(a, 0) == ctypes.c_int64(wanted).value
