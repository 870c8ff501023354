"""A small program as the code generator would write it, for the tests of the runtime.

    t[i] = x[i] * w[0]                      units: blocks of 16 floats, through scratch
    y[i] = t of the same image, reversed    needs the barrier between the steps
    s[n] = sum over image n of y            one unit per image

x and y are (B, 64), w and s have one float, or one per image; t is at byte 256 + 0*B of the arena.
All steps run together in PROGRAM; in the others of PROGRAMS some run apart, with t in memory of the
thread, or in the arena between two segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sol.backends.toolchain import abi_header, build
from sol.core.device import detect
from sol.runtime.cache import cache

WIDTH = 64
KERNELS = """
static void scale(char *const *b, int64_t batch, int64_t begin, int64_t end, char *scratch) {
    (void)batch;
    float *mine = (float *)scratch;
    for (int64_t u = begin; u < end; u++) {
        const float *x = (const float *)b[0] + u * 16;
        float *t = (float *)b[2] + u * 16;
        for (int i = 0; i < 16; i++) mine[i] = x[i] * *(const float *)b[1];
        for (int i = 0; i < 16; i++) t[i] = mine[i];
    }
}
static void reverse(char *const *b, int64_t batch, int64_t begin, int64_t end, char *scratch) {
    (void)batch, (void)scratch;
    for (int64_t u = begin; u < end; u++)
        for (int64_t i = u * 16; i < u * 16 + 16; i++)
            ((float *)b[1])[i] = ((const float *)b[0])[i / 64 * 64 + 63 - i % 64];
}
static void sum(char *const *b, int64_t batch, int64_t begin, int64_t end, char *scratch) {
    (void)batch, (void)scratch;
    for (int64_t n = begin; n < end; n++) {
        float s = 0;
        for (int i = 0; i < 64; i++) s += ((const float *)b[0])[n * 64 + i];
        ((float *)b[1])[n] = s;
    }
}
"""
TABLE = """
static const int32_t scale_args[] = {0, 1, 2}, reverse_args[] = {2, 3}, sum_args[] = {3, 4};
static const sol_step steps[] = {
    {scale, scale_args, 3, 1, 4, 0},
    {reverse, reverse_args, 2, 2, 4, 0},
    {sum, sum_args, 2, 1, 1, 0},
};
static const sol_segment segments[] = {{0, 3, 0}};
static const sol_buffer buffers[] = {
    {SOL_EXTERNAL, 0, 0, 0, 256}, {SOL_EXTERNAL, 1, 0, 0, 0}, {SOL_ARENA, 0, 0, 256, 0},
    {SOL_EXTERNAL, 2, 0, 0, 256}, {SOL_EXTERNAL, 3, 0, 0, 4},
};
const sol_program sol_program_table = {
    .abi = SOL_ABI, .n_steps = 3, .steps = steps, .n_segments = 1,
    .segments = segments, .n_buffers = 5, .buffers = buffers,
    .n_tensors = 4, .arena_coef = 256, .arena_const = 256, .scratch = 100, .splittable = 1,
};
"""
PROGRAM = abi_header() + KERNELS + TABLE
_OWN = ".own_coef = 256, .own_const = 256"
PROGRAMS = {
    "together": PROGRAM,
    "apart": PROGRAM.replace("{{0, 3, 0}}", "{{0, 3, 1}}")
    .replace("{SOL_ARENA, 0, 0, 256, 0}", "{SOL_OWN, 0, 0, 256, 0}")
    .replace(".arena_coef = 256, .arena_const = 256", _OWN),
    "mixed": PROGRAM.replace("{{0, 3, 0}}", "{{0, 1, 1}, {1, 2, 0}, {2, 3, 1}}")
    .replace("{SOL_ARENA, 0, 0, 256, 0}", "{SOL_ARENA, 0, 0, 256, 256}")
    .replace(".n_segments = 1", ".n_segments = 3"),
}
Floats = NDArray[np.float32]


@dataclass
class Call:
    """The tensors of one call and what must be in them afterwards."""

    x: Floats
    w: Floats
    y: Floats = field(init=False)
    s: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.y = np.full_like(self.x, np.nan)
        self.s = np.full(len(self.x), np.nan, np.float32)

    @property
    def pointers(self) -> list[int]:
        return [a.ctypes.data for a in (self.x, self.w, self.y, self.s)]

    def check(self) -> None:
        expected = (self.x * self.w)[:, ::-1]
        np.testing.assert_array_equal(self.y, expected)
        np.testing.assert_allclose(self.s, expected.sum(1), rtol=1e-4, atol=1e-4)


def make_call(batch: int, seed: int = 0) -> Call:
    values = np.random.default_rng(seed).standard_normal((batch, WIDTH), dtype=np.float32)
    return Call(values, np.float32([seed + 2]))


def build_library(*units: str) -> Path:
    return build(units, detect(), cache, extra=("-Werror",))
