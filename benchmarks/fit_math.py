"""The polynomials of sol/backends/math: where their coefficients come from.

    python benchmarks/fit_math.py            # fits all rows, prints coefficients and errors
    python benchmarks/fit_math.py exp erf    # some of them

Each row of `FITS` is one polynomial: a function, an interval, a degree, and what its error is
relative to. Fits are minimax by C. L. Lawson's iteration (Contributions to the Theory of Linear
Least Maximum Approximations, 1961): least squares whose weights are multiplied by the errors.
Coefficients are rounded to float one after the other, constant term first, and those that remain
are fitted again each time, so that rounding costs almost nothing. Needs mpmath.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import numpy.typing as npt

mp.mp.dps = 50
Real = mp.mpf
Function = Callable[[Real], Real]
Vector = npt.NDArray[np.float64]
POINTS, ROUNDS = 600, 300
NOTHING = mp.mpf(10) ** -20  # where formulas with 0/0 take their limit


@dataclass(frozen=True)
class Fit:
    """`target(x)` on [low, high] by a polynomial of a degree, the error relative to `scale(x)`.

    `first` are leading coefficients that are fixed; coefficients are floats (`single`) or doubles.
    """

    name: str
    form: str
    target: Function
    low: float
    high: float
    degree: int
    scale: Function
    first: tuple[float, ...] = ()
    single: bool = True


def fitted(fit: Fit) -> tuple[list[float], float]:
    """Rounded coefficients, constant term first, and the largest relative error."""
    middle, half = (fit.high + fit.low) / 2, (fit.high - fit.low) / 2
    points = middle - half * np.cos(np.pi * np.arange(POINTS + 1) / POINTS)
    target = [fit.target(mp.mpf(float(x))) for x in points]
    scale = [fit.scale(mp.mpf(float(x))) for x in points]
    known = list(fit.first)
    while len(known) <= fit.degree:
        free = minimax(fit, points, relative(points, target, scale, known), scale, len(known))
        known.extend([float(np.float32(free[0]))] if fit.single else free)
    return known, float(np.abs(relative(points, target, scale, known)).max())


def relative(points: Vector, target: list[Real], scale: list[Real], known: list[float]) -> Vector:
    """What the coefficients of `known` leave, divided by the scale."""
    rest = []
    for x, f, s in zip(points, target, scale):
        rest.append(float((f - mp.polyval(known[::-1] or [0], mp.mpf(float(x)))) / s))
    return np.array(rest)


def minimax(fit: Fit, points: Vector, rest: Vector, scale: list[Real], start: int) -> list[float]:
    """Coefficients from degree `start` on whose largest error against `rest` is smallest."""
    size = max(abs(fit.low), abs(fit.high))
    powers = np.arange(start, fit.degree + 1)
    basis = (points[:, None] / size) ** powers / np.array(scale, dtype=np.float64)[:, None]
    weights = np.ones(len(points))
    best, answer = np.inf, np.zeros(len(powers))
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(basis * root[:, None], rest * root, rcond=None)[0]
        errors = np.abs(basis @ solution - rest)
        if errors.max() < best:
            best, answer = errors.max(), solution
        weights *= errors / errors.max() + 1e-9
        weights /= weights.sum()
    return [float(c) for c in answer / size**powers]


def at_zero(function: Function, limit: Real) -> Function:
    """The function with its limit at 0, where its formula divides 0 by 0."""
    return lambda x: mp.mpf(limit) if abs(x) < NOTHING else function(x)


def odd(function: Function, slope: Real) -> Function:
    """function(x) / x of an odd function, by y = x^2; `slope` is its derivative at 0."""
    return at_zero(lambda y: function(mp.sqrt(y)) / mp.sqrt(y), slope)


def minus(function: Function, constant: float) -> Function:
    """function(x) - constant."""
    return lambda x: function(x) - constant


def erf_exponent(x: Real) -> Real:
    """-log(1 - erf(x)) / x."""
    return -mp.log(mp.erfc(x)) / x


def erf_exponent_scale(x: Real) -> Real:
    """An error of the exponent w counts exp(-w) |dw| / erf(x)."""
    return erf_exponent(x) * mp.erf(x) / (-mp.log(mp.erfc(x)) * mp.erfc(x))


LN2, LN10 = mp.log(2), mp.log(10)
OCTAVE = float(LN2 / 2) * 1.0006  # exp: x reduced may lie a little outside
ROOT_LOW, ROOT_HIGH = float(mp.sqrt(0.5) - 1) - 1e-6, float(mp.sqrt(2) - 1) + 1e-6
QUADRANT = float((mp.pi / 4) ** 2) * 1.0002
TANH_SPLIT, ERF_SPLIT, ERF_END = 0.65, 0.8, 3.95
HALF_ATANH = float((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * 1.0001
log_slope = at_zero(lambda f: mp.log1p(f) / f, 1)
tanh_slope, erf_slope = odd(mp.tanh, 1), odd(mp.erf, 2 / mp.sqrt(mp.pi))
log2_slope = odd(lambda s: 2 * mp.atanh(s) / LN2, 2 / LN2)

FITS: tuple[Fit, ...] = (
    Fit("exp", "p(r)", mp.exp, -OCTAVE, OCTAVE, 6, mp.exp, (1.0, 1.0)),
    Fit("log", "f p(f)", log_slope, ROOT_LOW, ROOT_HIGH, 9, log_slope, (1.0, -0.5)),
    Fit(
        "log2",
        "f + f p(f)",
        lambda f: log_slope(f) / LN2 - 1,
        ROOT_LOW,
        ROOT_HIGH,
        9,
        lambda f: log_slope(f) / LN2,
    ),
    Fit(
        "log10",
        "f p(f)",
        lambda f: log_slope(f) / LN10,
        ROOT_LOW,
        ROOT_HIGH,
        9,
        lambda f: log_slope(f) / LN10,
    ),
    Fit("tanh", "x p(x^2)", tanh_slope, 0, TANH_SPLIT**2, 5, tanh_slope, (1.0,)),
    Fit("erf", "x + x p(x^2)", minus(erf_slope, 1.0), 0, ERF_SPLIT**2, 5, erf_slope),
    Fit(
        "erf_exponent",
        "1 - exp(-x p(x))",
        erf_exponent,
        ERF_SPLIT,
        ERF_END,
        5,
        erf_exponent_scale,
    ),
    Fit("sin", "x p(x^2)", odd(mp.sin, 1), 0, QUADRANT, 3, odd(mp.sin, 1), (1.0,)),
    Fit(
        "cos",
        "p(x^2)",
        lambda y: mp.cos(mp.sqrt(y)),
        0,
        QUADRANT,
        4,
        lambda y: mp.cos(mp.sqrt(y)),
        (1.0, -0.5),
    ),
    Fit("asin", "x p(x^2)", odd(mp.asin, 1), 0, 0.25, 5, odd(mp.asin, 1), (1.0,)),
    Fit("atan", "x p(x^2)", odd(mp.atan, 1), 0, 1, 9, odd(mp.atan, 1), (1.0,)),
    Fit("sinh", "x p(x^2)", odd(mp.sinh, 1), 0, 1, 4, odd(mp.sinh, 1), (1.0,)),
    Fit("log2_double", "s p(s^2)", log2_slope, 0, HALF_ATANH, 4, log2_slope, single=False),
)


def main(names: Sequence[str]) -> None:
    """Prints the rows of the given names, or all."""
    for fit in FITS:
        if names and fit.name not in names:
            continue
        coefficients, error = fitted(fit)
        print(f"{fit.name} = {fit.form}: relative error {error:.3g} (2^-24 = 5.96e-08)")
        for k, value in enumerate(coefficients):
            print(f"    p{k} = {value.hex()}{'f' if fit.single else ''}  {value:.9g}")


if __name__ == "__main__":
    main(sys.argv[1:])
