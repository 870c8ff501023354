"""The C program of a network: one translation unit per distinct kernel, and one with the table that
the runtime reads.

Equal kernels have equal text (names are numbered in order of appearance), so a network's repeated
layers share one function, and networks share compiled objects through the cache. In: steps with
kernels and buffer numbers. Out: C texts for backends/toolchain.py.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sol.backends.clike import print_kernel
from sol.backends.prelude import prelude
from sol.backends.toolchain import abi_header
from sol.core.dims import coefficients
from sol.ir.loop import Kernel


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call of the program: buffers are numbers into the program's table."""

    kernel: Kernel
    buffers: tuple[int, ...]


Kind = Literal["external", "arena", "own"]


@dataclass(frozen=True, slots=True)
class TableBuffer:
    """One row of the buffer table (sol_buffer of sol_runtime.h):

    `index` is the caller's tensor; offsets in bytes; bytes per image where images are slices.
    """

    kind: Kind
    index: int = 0
    offset_coef: int = 0
    offset_const: int = 0
    image_stride: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """What the table of a program holds beside its steps.

    segments: (first step, step after the last, whether images go apart); arena, own: bytes of
    intermediates (per image, constant) that images share, and that one image has in a segment.
    """

    buffers: tuple[TableBuffer, ...]
    tensors: int
    segments: tuple[tuple[int, int, bool], ...]
    arena: tuple[int, int]
    own: tuple[int, int]
    scratch: int
    splittable: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The C texts of a program, and for each step the name of its kernel's function."""

    units: tuple[str, ...]
    functions: tuple[str, ...]


def generate(steps: Sequence[Step], table: Table, more: Sequence[str] = ()) -> Source:
    """The C texts of a program; `more` are texts that its kernels need beside their own."""
    units: dict[str, str] = {}
    texts: dict[Kernel, str] = {}
    functions = []
    for step in steps:
        if step.kernel not in texts:
            name, text = kernel_unit(step.kernel)
            texts[step.kernel] = name
            units.setdefault(name, text)
        functions.append(texts[step.kernel])
    texts_of_program = (*units.values(), *more, table_unit(steps, functions, table))
    return Source(texts_of_program, tuple(functions))


@functools.lru_cache(maxsize=256)
def kernel_unit(kernel: Kernel) -> tuple[str, str]:
    """(name, C text) of a kernel's translation unit; the name follows from the text."""
    body, calls = print_kernel(kernel, "KERNEL")
    widths = {width for _, width in calls if width > 1}
    text = prelude(calls | {("set", w) for w in widths}) + body
    name = "sol_k_" + hashlib.sha256(text.encode()).hexdigest()[:16]
    return name, text.replace(
        "void KERNEL(",
        f"void {name}(char *const *, int64_t, int64_t, int64_t, char *);\nvoid {name}(",
    )


def table_unit(steps: Sequence[Step], functions: Sequence[str], table: Table) -> str:
    """The translation unit with the program's table."""
    lines = [abi_header()]
    lines += [
        f"void {name}(char *const *, int64_t, int64_t, int64_t, char *);"
        for name in dict.fromkeys(functions)
    ]
    for number, step in enumerate(steps):
        arguments = ", ".join(map(str, step.buffers)) or "0"
        lines.append(f"static const int32_t args_{number}[] = {{{arguments}}};")
    lines.append("static const sol_step steps[] = {")
    for number, (step, name) in enumerate(zip(steps, functions)):
        coef, const = coefficients(step.kernel.units)
        work = f"{step.kernel.grain}, {coef}, {const}"
        lines.append(f"    {{{name}, args_{number}, {len(step.buffers)}, {work}}},")
    lines.append("};" if steps else "    {0, 0, 0, 0, 0, 0}};")
    lines.append("static const sol_segment segments[] = {")
    lines += [f"    {{{begin}, {end}, {int(apart)}}}," for begin, end, apart in table.segments]
    lines.append("};" if table.segments else "    {0, 0, 0}};")
    lines.append("static const sol_buffer buffers[] = {")
    for b in table.buffers:
        place = f"{b.offset_coef}, {b.offset_const}, {b.image_stride}"
        lines.append(f"    {{SOL_{b.kind.upper()}, {b.index}, {place}}},")
    lines.append("};" if table.buffers else "    {SOL_ARENA, 0, 0, 0, 0}};")
    lines.append(
        f"const sol_program sol_program_table = {{SOL_ABI, {len(steps)}, steps, "
        f"{len(table.segments)}, segments, {len(table.buffers)}, buffers, {table.tensors}, "
        f"{table.arena[0]}, {table.arena[1]}, {table.own[0]}, {table.own[1]}, "
        f"{table.scratch}, {int(table.splittable)}}};"
    )
    return "\n".join([*lines, ""])
