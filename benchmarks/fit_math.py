"""The polynomials and rational functions of sol/backends/math: where their coefficients come from.

    python benchmarks/fit_math.py            # fits all rows, prints coefficients and errors
    python benchmarks/fit_math.py exp erf    # some of them

Each row of `FITS` is one approximation: a function, an interval, the form of the approximation and
what its error is relative to. Minimax fits by the exchange algorithm of E. Y. Remez (1934), for
rational functions with the denominator of the round before (A. Ralston and P. Rabinowitz, A First
Course in Numerical Analysis, 1978, section 7.8), in 60 digits. Coefficients are rounded to float
one after the other, constant term first, and the others fitted again each time, so that rounding
costs almost nothing. Needs mpmath.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Real = mp.mpf
Function = Callable[[Real], Real]


@dataclass(frozen=True)
class Fit:
    """`target(x)` on [low, high] by sum(p_k x^k) / sum(q_k x^k), the error relative to `scale(x)`.

    `fixed` names coefficients that keep a value, by ("p" or "q", k). q_0 is 1 unless it is there.
    """

    name: str
    target: Function
    low: float
    high: float
    numerator: int
    scale: Function
    denominator: int = 0
    fixed: dict[tuple[str, int], float] = field(default_factory=dict)


Coefficients = dict[tuple[str, int], Real]


def evaluate(c: Coefficients, part: str, x: Real) -> Real:
    """The numerator ("p") or denominator ("q") at x."""
    return mp.fsum(v * x**k for (p, k), v in c.items() if p == part)


def error(fit: Fit, c: Coefficients, x: Real) -> Real:
    """Relative error of the approximation at x."""
    return (evaluate(c, "p", x) / evaluate(c, "q", x) - fit.target(x)) / fit.scale(x)


def solve(
    fit: Fit, points: Sequence[Real], known: Coefficients, last: Coefficients
) -> Coefficients:
    """Coefficients whose error alternates in sign and is equal in size at `points`."""
    every = [("p", k) for k in range(fit.numerator + 1)]
    every += [("q", k) for k in range(fit.denominator + 1)]
    free = [key for key in every if key not in known]
    rows, right = [], []
    for i, x in enumerate(points):
        f, q = fit.target(x), evaluate(last, "q", x)
        rows.append([x**k if p == "p" else -f * x**k for p, k in free])
        rows[-1].append((-1) ** i * q * fit.scale(x))
        right.append(-mp.fsum(v * x**k * (1 if p == "p" else -f) for (p, k), v in known.items()))
    answer = mp.lu_solve(mp.matrix(rows), mp.matrix(right))
    return known | {key: answer[i] for i, key in enumerate(free)}


def extremes(fit: Fit, c: Coefficients, count: int) -> list[Real]:
    """The `count` places, in order, where the error is largest with alternating signs."""
    n = 60 * count
    middle, half = (mp.mpf(fit.high) + fit.low) / 2, (mp.mpf(fit.high) - fit.low) / 2
    grid = [middle - half * mp.cos(mp.pi * i / n) for i in range(n + 1)]
    values = [error(fit, c, x) for x in grid]
    runs: list[tuple[Real, Real]] = []
    for x, e in zip(grid, values):
        if runs and (runs[-1][1] > 0) == (e > 0):
            runs[-1] = max(runs[-1], (x, e), key=lambda pair: abs(pair[1]))
        else:
            runs.append((x, e))
    while len(runs) > count:  # drop the smaller end
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    return [x for x, _ in runs]


def remez(fit: Fit, known: Coefficients) -> Coefficients:
    """The minimax coefficients with those of `known` held."""
    unknown = fit.numerator + fit.denominator + 2 - len(known)
    if unknown == 0:
        return known
    middle, half = (mp.mpf(fit.high) + fit.low) / 2, (mp.mpf(fit.high) - fit.low) / 2
    points = [
        middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * unknown + 2)) for i in range(unknown + 1)
    ]
    c: Coefficients = {("q", 0): mp.mpf(1)}
    for _ in range(30):
        before = c
        c = solve(fit, points, known, c)
        found = extremes(fit, c, unknown + 1)
        if len(found) == unknown + 1:
            points = found
        if all(abs(c[k] - before.get(k, 0)) <= abs(c[k]) * mp.mpf("1e-12") for k in c):
            break
    return c


def to_float(x: Real) -> Real:
    """The nearest float32."""
    return mp.mpf(float(np.float32(float(x))))


def fitted(fit: Fit) -> tuple[Coefficients, float, float]:
    """Float coefficients, the largest error before rounding them, and after."""
    known: Coefficients = {("q", 0): mp.mpf(1)} | {k: mp.mpf(v) for k, v in fit.fixed.items()}
    best = remez(fit, known)
    for key in sorted(best, key=lambda k: k[1]):
        if key not in known:
            known[key] = to_float(remez(fit, known)[key])
    return known, worst(fit, best), worst(fit, known)


def worst(fit: Fit, c: Coefficients) -> float:
    """The largest relative error on a grid of the interval."""
    grid = np.linspace(fit.low, fit.high, 801)
    return float(max(abs(error(fit, c, mp.mpf(float(x)))) for x in grid))


def near_zero(f: Function, limit: float) -> Function:
    """f with its limit at 0, where its formula divides by zero or cancels."""
    return lambda x: mp.mpf(limit) if abs(x) < mp.mpf("1e-25") else f(x)


LN2 = mp.log(2)

FITS: tuple[Fit, ...] = (
    # exp(r) on half an octave: 1 + r + r^2 p(r)
    Fit(
        "exp", lambda r: mp.exp(r), -0.3468, 0.3468, 6, mp.exp, fixed={("p", 0): 1.0, ("p", 1): 1.0}
    ),
)


def main(names: Sequence[str]) -> None:
    """Prints the rows of the given names, or all."""
    for fit in FITS:
        if names and fit.name not in names:
            continue
        c, before, after = fitted(fit)
        print(
            f"{fit.name}: error {before:.3g}, with float coefficients {after:.3g}  (2^-24 = 5.96e-08)"
        )
        for (part, k), value in sorted(c.items()):
            print(f"    {part}{k} = {float(value).hex()}f  {float(value):.9g}")


if __name__ == "__main__":
    main(sys.argv[1:])
