"""The vector mathematics of the prelude: error in ULP, special values, same bits for every width.

Every function is compiled for every width, by each compiler that is here, for this machine and
for the least that the machine's kind has (no fused multiply-add on x86), and called by ctypes.
References are NumPy's float64, so an error counts against the true value.
"""

from __future__ import annotations

import ctypes
import functools
import math
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sol.backends.prelude import prelude
from sol.backends.toolchain import FLAGS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
WIDTHS = (1, 2, 4, 8, 16, 32)
COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)] or ["cc"]
X86 = platform.machine() in ("x86_64", "AMD64")
NATIVE = "-march=native" if X86 else "-mcpu=native"
MACHINES = (NATIVE, "-march=x86-64") if X86 else (NATIVE,)
TINY = 2.0**-149


@dataclass(frozen=True)
class Case:
    """A function, what it means in float64, and the ULP that it may be off: of its value, or of
    `least` where that is larger."""

    name: str
    reference: Callable[..., Any]
    ulp: float
    mask: bool = False
    least: float = 0.0
    single: bool = False  # the reference rounds to float32 itself, so it is called in float32


def sigmoid(x: Doubles) -> Doubles:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1 + e)


def ndtr(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def sign(x: Doubles) -> Doubles:
    return np.where(x > 0, 1.0, np.where(x < 0, -1.0, 0.0))


UNARY = (
    Case("exp", np.exp, 1.5),
    Case("expm1", np.expm1, 2),
    Case("log", np.log, 1.5),
    Case("log1p", np.log1p, 2),
    Case("log2", np.log2, 1.5),
    Case("log10", np.log10, 2),
    Case("sqrt", np.sqrt, 0.5),
    Case("rsqrt", lambda x: 1 / np.sqrt(x), 1.5),
    Case("sin", np.sin, 2),
    Case("cos", np.cos, 2),
    Case("tan", np.tan, 4),
    Case("asin", np.arcsin, 2.5),
    Case("acos", np.arccos, 1.5),
    Case("atan", np.arctan, 2),
    Case("sinh", np.sinh, 2),
    Case("cosh", np.cosh, 2),
    Case("tanh", np.tanh, 1.5),
    Case("erf", np.vectorize(math.erf, otypes=[np.float64]), 1.5),
    Case("ndtr", np.vectorize(ndtr, otypes=[np.float64]), 2, least=0.5),
    Case("sigmoid", sigmoid, 2),
    Case("silu", lambda x: x * np.where(x < -88.72284, 0.0, sigmoid(x)), 2),
    Case("floor", np.floor, 0),
    Case("ceil", np.ceil, 0),
    Case("round", np.rint, 0),
    Case("trunc", np.trunc, 0),
    Case("abs", np.abs, 0),
    Case("neg", np.negative, 0),
    Case("sign", sign, 0),
    Case("relu", lambda x: np.where(x < 0, 0, x), 0),
    Case("isnan", np.isnan, 0, mask=True),
    Case("isinf", np.isinf, 0, mask=True),
)
BINARY = (
    Case("pow", np.power, 1.5),
    Case("atan2", np.arctan2, 2),
    Case("fmod", np.fmod, 0, single=True),
    Case("mod", np.remainder, 0, single=True),
    Case("floordiv", np.floor_divide, 0, single=True),
    Case("max", np.maximum, 0),
    Case("min", np.minimum, 0),
)
EDGES = np.array(
    (
        *(0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1, -1, 0.5, -0.5, 2, -2, 1.5, 2.5, -2.5, 3),
        *(TINY, -TINY, 2.0**-126, -(2.0**-126), 2.0**-25, -(2.0**-25), 1 - 2.0**-24, 1 + 2.0**-23),
        *(88.72283, 88.72284, 89.4159, 89.4160, -87.33654, -103.97207, -103.97208, -104, -17.32868),
        *(0.65, 0.8, 3.95, 9.0109, 1e4, 10000.001, -1e4, 8388607.5, 8388608, 16777216, 16777217),
        *(3.4028235e38, -3.4028235e38, 1e30, 1 / 3, 7, 127, -149, 150, 4.7123889, 3.1415927, -3),
        *(1.6367e11, 5.5e37, 0.70710677, 0.70710678, 1.4142135, 1.4142137),
    ),
    dtype=np.float32,
)


@functools.cache
def samples() -> Floats:
    """Floats of every size, sign and kind, and more of those around 1 and 100."""
    bits = np.arange(0, 2**32, 24001, dtype=np.uint64).astype(np.uint32)
    normal = np.random.default_rng(0).standard_normal(60000).astype(np.float32)
    return whole(np.concatenate([EDGES, bits.view(np.float32), normal, normal * 40, normal * 2000]))


@functools.cache
def pairs() -> tuple[Floats, Floats]:
    """All pairs of edges, pairs of any floats, and pairs of usual ones."""
    a, b = (x.ravel() for x in np.meshgrid(EDGES, EDGES))
    random = np.random.default_rng(1)
    anything = random.integers(0, 2**32, (2, 60000), dtype=np.uint64).astype(np.uint32)
    normal = random.standard_normal((2, 60000)).astype(np.float32)
    powers = np.exp(normal[0] * 20).astype(np.float32)
    first = np.concatenate([a, anything[0].view(np.float32), normal[0] * 30, powers])
    second = np.concatenate([b, anything[1].view(np.float32), normal[1] * 3, normal[1] * 4])
    return whole(first), whole(second)


def whole(x: Floats) -> Floats:
    """x as far as it fills the widest vectors."""
    return x[: len(x) // max(WIDTHS) * max(WIDTHS)]


def all_functions(width: int) -> str:
    """A C text with one loop over arrays for each case."""
    helpers = ("load", "store", "maskf")
    text = prelude([(c.name, width) for c in UNARY + BINARY] + [(n, width) for n in helpers])
    for case in UNARY + BINARY:
        more = f", load_{width}(b + i)" if case in BINARY else ""
        value = f"{case.name}_{width}(load_{width}(a + i){more})"
        value = f"maskf_{width}({value})" if case.mask else value
        text += (
            f'__attribute__((visibility("default"))) void run_{case.name}('
            "float *restrict y, const float *a, const float *b, int64_t n) {\n    (void)b;\n"
            f"    for (int64_t i = 0; i < n; i += {width}) store_{width}(y + i, {value});\n}}\n"
        )
    return text


class Libraries:
    """Compiled texts by what they were compiled from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[tuple[str, ...], ctypes.CDLL] = {}

    def of(self, text: str, compiler: str, *flags: str) -> ctypes.CDLL:
        key = (text, compiler, *flags)
        if key not in self.done:
            source = self.folder / f"unit{len(self.done)}.c"
            source.write_text(text)
            output = source.with_suffix(".so")
            command = [compiler, *FLAGS, "-Werror", *flags, "-shared", str(source), "-o"]
            subprocess.run([*command, str(output), "-Wl,-z,defs"], check=True)
            self.done[key] = ctypes.CDLL(str(output))
        return self.done[key]

    def call(
        self, case: Case, width: int, compiler: str, machine: str, a: Floats, b: Floats
    ) -> Floats:
        y = np.empty_like(a)
        function = getattr(self.of(all_functions(width), compiler, machine), f"run_{case.name}")
        arrays = (ctypes.c_void_p(x.ctypes.data) for x in (y, a, b))
        function(*arrays, ctypes.c_int64(len(a)))
        return y


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    return Libraries(tmp_path_factory.mktemp("math"))


def error(y: Floats, true: Doubles, least: float = 0.0) -> Doubles:
    """Distance in units of the last place of the float nearest to the true value, or of `least`.

    Infinite where one is NaN and the other is not, where an infinity is missing or too much, and
    where zeros differ in sign.
    """
    rounded = true.astype(np.float32)
    exponent = np.floor(np.log2(np.maximum(np.abs(true), max(least, 2.0**-126))))
    with np.errstate(invalid="ignore"):
        ulps = np.abs(y.astype(np.float64) - true) / np.exp2(np.minimum(exponent, 127) - 23)
    special = ~np.isfinite(rounded) | ~np.isfinite(y)
    ulps = np.where(special, np.where(y == rounded, 0, np.inf), ulps)
    ulps = np.where(np.isnan(true) & np.isnan(y), 0, ulps)
    zeros = (true == 0) & (y == 0) & (np.signbit(true) != np.signbit(y))
    return np.where(zeros, np.inf, ulps)


def check(case: Case, y: Floats, *arguments: Floats) -> None:
    with np.errstate(all="ignore"):
        wide = arguments if case.single else tuple(x.astype(np.float64) for x in arguments)
        true = np.asarray(case.reference(*wide)).astype(np.float64)
        ulps = error(y, true, case.least)
    if case.name in ("max", "min"):  # which zero is larger is left open
        ulps[(true == 0) & (y == 0)] = 0
    i = int(np.argmax(ulps))
    at = [float(x[i]) for x in arguments]
    assert ulps[i] <= case.ulp, f"{case.name}{at} = {y[i]!r}, want {true[i]!r}: {ulps[i]:.3g} ULP"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("case", UNARY, ids=lambda c: c.name)
def test_unary_error(case: Case, compiler: str, machine: str, libraries: Libraries) -> None:
    x = samples()
    check(case, libraries.call(case, 16, compiler, machine, x, x), x)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("case", BINARY, ids=lambda c: c.name)
def test_binary_error(case: Case, compiler: str, machine: str, libraries: Libraries) -> None:
    a, b = pairs()
    check(case, libraries.call(case, 16, compiler, machine, a, b), a, b)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("width", [w for w in WIDTHS if w != 16])
def test_same_bits_for_every_width(width: int, compiler: str, libraries: Libraries) -> None:
    for case in UNARY + BINARY:
        a, b = pairs() if case in BINARY else (samples(), samples())
        y = libraries.call(case, width, compiler, NATIVE, a, b)
        z = libraries.call(case, 16, compiler, NATIVE, a, b)
        same = (y.view(np.uint32) == z.view(np.uint32)) | (np.isnan(y) & np.isnan(z))
        i = int(np.argmin(same))
        assert same.all(), f"{case.name}({a[i]!r}, {b[i]!r}) = {y[i]!r} and {z[i]!r}"


@pytest.mark.parametrize("name", ["tanh", "erf", "ndtr", "sigmoid"])
def test_never_beyond_one(name: str, libraries: Libraries) -> None:
    case = next(c for c in UNARY if c.name == name)
    x = np.linspace(0, 20, 2**18, dtype=np.float32)
    for machine in MACHINES:
        y = libraries.call(case, 16, COMPILERS[0], machine, x, x)
        assert y.max() == 1


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles(name: str, libraries: Libraries) -> None:
    mpmath = pytest.importorskip("mpmath")
    case = next(c for c in UNARY if c.name == name)
    large = [1e4, 10007.5, 1e7, 16367173e4, 5.4e19, 1e30, 2.0**100, 3.0e38, -2e25, 2.0**127]
    x = np.tile(np.array(large, np.float32), 16)
    with mpmath.workdps(80):
        true = np.array([float(getattr(mpmath, name)(mpmath.mpf(float(v)))) for v in x])
    assert error(libraries.call(case, 16, COMPILERS[0], NATIVE, x, x), true).max() <= case.ulp
