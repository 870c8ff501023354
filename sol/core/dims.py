"""Sizes of tensors: integers, or linear functions of the one symbolic size B, the batch.

A `Dim(coef, const)` stands for `coef * B + const`, with B >= 1 known only when a program runs.
Linear functions are what batches lead to in practice (B, B * windows, B * heads, B + 1 tokens);
whatever is not linear raises `UnsupportedError`, and the frontend then captures the network for
fixed sizes. Used by types (ir/graph.py), index arithmetic (ir/expr.py), the memory plan and the
printer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sol.core.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Dim:
    """The size `coef * B + const` with coef != 0."""

    coef: int
    const: int = 0

    def __add__(self, other: Size) -> Size:
        coef, const = _parts(other)
        return dim(self.coef + coef, self.const + const)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Dim(-self.coef, -self.const)

    def __sub__(self, other: Size) -> Size:
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        return (-self) + other

    def __mul__(self, other: Size) -> Size:
        if isinstance(other, Dim):
            raise UnsupportedError(
                "dims", f"({self}) * ({other}) is not linear in the batch size B"
            )
        return dim(self.coef * other, self.const * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        if isinstance(other, Dim):
            ratio = self.coef // other.coef
            if ratio * other.coef == self.coef and ratio * other.const == self.const:
                return ratio
        elif other != 0 and self.coef % other == 0 and self.const % other == 0:
            return dim(self.coef // other, self.const // other)
        raise UnsupportedError("dims", f"({self}) // ({other}) is not linear in the batch size B")

    def __str__(self) -> str:
        scale = "B" if self.coef == 1 else f"{self.coef}*B"
        return scale if self.const == 0 else f"{scale}{self.const:+d}"


Size = int | Dim
Shape = tuple[Size, ...]

B = Dim(1)


def dim(coef: int, const: int) -> Size:
    """`coef * B + const` as the simplest Size."""
    return Dim(coef, const) if coef else const


def _parts(size: Size) -> tuple[int, int]:
    return (size.coef, size.const) if isinstance(size, Dim) else (0, size)


def evaluate(size: Size, batch: int) -> int:
    """The size for a given batch."""
    coef, const = _parts(size)
    return coef * batch + const


def coefficients(size: Size) -> tuple[int, int]:
    """(coef, const) of `coef * B + const`."""
    return _parts(size)


def product(sizes: Iterable[Size]) -> Size:
    """Number of elements of a shape."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def concrete(shape: Iterable[Size], batch: int) -> tuple[int, ...]:
    """The shape for a given batch."""
    return tuple(evaluate(size, batch) for size in shape)
