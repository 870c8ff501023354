"""The transforms of Winograd's convolution: exact matrices, and their products as statements.

F(m, r) gives m neighbouring results of a filter with r taps by n = m + r - 1 multiplications:

    y = A^T [(G g) * (B^T d)]        d: n inputs, g: r taps, * element by element

A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4; the
matrices follow from n - 1 points of interpolation and infinity by Toom and Cook's construction (S.
Winograd, "Arithmetic Complexity of Computations", SIAM 1980). Points come in pairs +p, -p, so that
both share their even and odd parts. Which points keep float32's rounding small: B. Barabasz et al.,
"Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM
TOMS 2020; the ones here are the best of a grid, on random data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sol.core.dtypes import F32
from sol.ir.expr import Expr, const, walk
from sol.ir.expr import local_value as local
from sol.ir.loop import Let, Stmt

Matrix = tuple[tuple[Fraction, ...], ...]

# the positive points of a transform with n inputs; infinity belongs to each, 0 to those of even n
_POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (),
    3: (Fraction(5, 8),),
    4: (Fraction(1),),
    5: (Fraction(9, 16), Fraction(11, 8)),
    6: (Fraction(5, 8), Fraction(3, 2)),
    7: (Fraction(1, 4), Fraction(13, 16), Fraction(2)),
    8: (Fraction(1, 2), Fraction(1), Fraction(2)),
}


@dataclass(frozen=True, slots=True)
class Transform:
    """F(m, r) along one axis; m = r = 1 is no transform."""

    m: int
    r: int

    @property
    def n(self) -> int:
        """Inputs, and multiplications, of one tile."""
        return self.m + self.r - 1

    @property
    def exists(self) -> bool:
        """Whether there are points for it."""
        return self.n == 1 or (self.m > 1 and self.n in _POINTS)

    @property
    def zero(self) -> int:
        """1 if the first point is 0, else 0: where the pairs of points begin."""
        return 1 - self.n % 2

    def filter(self) -> NDArray[np.float64]:
        """G: (n, r)."""
        return np.array([[float(x) for x in row] for row in self.filter_rows()])

    def filter_rows(self) -> Matrix:
        """G: (n, r)."""
        return _matrices(self)[1]

    def input_rows(self) -> Matrix:
        """B^T: (n, n)."""
        return _matrices(self)[2]

    def output_rows(self) -> Matrix:
        """A^T: (m, n)."""
        return _matrices(self)[0]


@functools.cache
def _matrices(t: Transform) -> tuple[Matrix, Matrix, Matrix]:
    """A^T, G and B^T, the rows of B^T scaled so that their last coefficient is 1."""
    if t.n == 1:
        one = ((Fraction(1),),)
        return one, one, one
    points = [Fraction(0)] * t.zero + [s * p for p in _POINTS[t.n] for s in (1, -1)]
    last = (Fraction(0),) * (t.m - 1) + (Fraction(1),)
    output = [[p**i for p in points] + [last[i]] for i in range(t.m)]
    filters, inputs = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        filters.append([p**k / scale for k in range(t.r)])
        inputs.append([*_polynomial(others), Fraction(0)])
    filters.append([Fraction(0)] * (t.r - 1) + [Fraction(1)])
    inputs.append(_polynomial(points))
    return _frozen(output), _frozen(filters), _frozen(inputs)


def _frozen(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of all (x - root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *found], [-root * c for c in found] + [Fraction(0)]
        found = [a + b for a, b in zip(shifted, scaled)]
    return found


# ---- as statements -------------------------------------------------------------------------------


class Emitter:
    """Collects `Let` statements under fresh names, of values within a loop over `lane`: vectors,
    but for what is the same for all lanes."""

    def __init__(self, prefix: str, lane: Expr) -> None:
        self.stmts: list[Stmt] = []
        self._prefix = prefix
        self._lane = lane

    def let(self, value: Expr) -> Expr:
        """The value under a name of its own."""
        if value.op == "local":
            return value
        name = f"{self._prefix}{len(self.stmts)}"
        self.stmts.append(Let(name, value))
        vector = any(p is self._lane or (p.op == "local" and p.value[1]) for p in walk(value))
        return local(name, F32, vector)

    def inputs(self, t: Transform, x: Sequence[Expr]) -> list[Expr]:
        """B^T x."""
        return list(x) if t.n == 1 else self._paired(t.input_rows(), x)

    def filters(self, t: Transform, g: Sequence[Expr]) -> list[Expr]:
        """G g."""
        return list(g) if t.n == 1 else self._paired(t.filter_rows(), g)

    def _paired(self, rows: Matrix, x: Sequence[Expr]) -> list[Expr]:
        """The product with a matrix whose rows of +p and -p share their even and odd parts."""
        pairs = 1 - len(rows) % 2  # where they begin
        found = [self.let(_combined(row, x)) for row in rows[:pairs]]
        for k in range(pairs, len(rows) - 1, 2):  # equal and opposite coefficients take turns
            even = [(a + b) / 2 for a, b in zip(rows[k], rows[k + 1])]
            odd = [(a - b) / 2 for a, b in zip(rows[k], rows[k + 1])]
            scale = next(c for c in reversed(odd) if c)
            e = self.let(_combined(even, x))
            o = self.let(_combined([c / scale for c in odd], x))
            found.append(self.let(e + _scaled(o, scale)))
            found.append(self.let(e + _scaled(o, -scale)))
        return [*found, self.let(_combined(rows[-1], x))]

    def outputs(self, t: Transform, x: Sequence[Expr]) -> list[Expr]:
        """A^T x."""
        if t.n == 1:
            return list(x)
        pairs = [
            (self.let(x[k] + x[k + 1]), self.let(x[k] - x[k + 1]))
            for k in range(t.zero, t.n - 1, 2)
        ]
        found = []
        for i, row in enumerate(t.output_rows()):
            terms = [(x[k], row[k]) for k in (*range(t.zero), t.n - 1)]
            terms += [(pair[i % 2], row[t.zero + 2 * k]) for k, pair in enumerate(pairs)]
            found.append(self.let(_sum(terms)))
        return found


def over_axes(
    values: Sequence[Expr], shape: Sequence[int], transforms: Sequence[Transform],
    change: Callable[[Transform, Sequence[Expr]], list[Expr]],
) -> list[Expr]:  # fmt: skip
    """A transform along each axis of an array of values of this shape, both in row-major order."""
    array = np.empty(tuple(shape), object)
    array.reshape(-1)[:] = values
    for k, t in enumerate(transforms):
        lines = np.moveaxis(array, k, -1)
        results = [change(t, list(lines[i])) for i in np.ndindex(lines.shape[:-1])]
        made = np.empty((len(results), len(results[0])), object)
        for i, line in enumerate(results):
            made[i] = line
        array = np.moveaxis(made.reshape(*lines.shape[:-1], -1), -1, k)
    return list(array.reshape(-1))


def _combined(coefs: Sequence[Fraction], x: Sequence[Expr]) -> Expr:
    return _sum(list(zip(x, coefs)))


def _sum(terms: Sequence[tuple[Expr, Fraction]]) -> Expr:
    """The sum of value * coefficient, those with coefficient 1 first."""
    present = sorted((t for t in terms if t[1]), key=lambda t: t[1] != 1)
    total = _scaled(*present[0])
    for value, coef in present[1:]:
        total = total + _scaled(value, coef)
    return total


def _scaled(value: Expr, coef: Fraction) -> Expr:
    return value if coef == 1 else value * const(float(coef), F32)
