"""Programs that update parameters (kernels/update.py): compiled once for each rule, for tensors of
any size.

A parameter is a batch of elements, so threads share out pieces of all parameters (runtime/each.c).
Frontends connect it with their framework's optimisers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache as cached

from sol.backends.c import Step, Table, TableBuffer, generate
from sol.backends.toolchain import build
from sol.core.device import detect
from sol.core.dtypes import F32
from sol.kernels.update import Rule, update_kernel
from sol.runtime.cache import cache
from sol.runtime.program import Program

_PIECE = 1 << 14  # elements that a thread takes at a time


def update_program(make: Callable[..., Rule], *choices: bool) -> Updates:
    """The program of the rule that make(*choices) is. Raises CompilerNotFound, CompilerFailed."""
    return _program(make, choices)


class Updates:
    """A compiled rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        device = detect()
        kernel = update_kernel(rule, [w for w in (16, 8, 4) if w <= device.vector_lanes(4)])
        tensors = range(len(rule.tensors))
        rows = tuple(
            TableBuffer("external", k, image_stride=F32.bytes if k else 0) for k in tensors
        )
        table = Table(rows, len(rows), ((0, 1, False),), (0, 0), (0, 0), 0, True)
        source = generate([Step(kernel, tuple(tensors))], table)
        self._program = Program(build(source.units, device, cache), group=_PIECE)

    def run(self, sets: Sequence[Sequence[int]], sizes: Sequence[int], threads: int) -> None:
        """Update parameters: for each the addresses of `rule.tensors`, float32 without gaps in the
        same order, and how many elements it has. Parameters and states must not overlap."""
        addresses = array("Q", [a for tensors in sets for a in tensors])
        self._program.run_each(addresses, array("q", sizes), threads, _PIECE)


@cached
def _program(make: Callable[..., Rule], choices: tuple[bool, ...]) -> Updates:
    return Updates(make(*choices))
