"""Fit the polynomials and quotients of `tvm_integration/compile/vector_math.py`.

    python scripts/fit_vector_math.py

Each is the best in its largest relative error on Chebyshev nodes, found by Lawson's reweighted
least squares in 40 digits; a minute on one core. Prints the coefficients, the constant first, and
the error that they leave before anything is rounded to float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
from mpmath import mpf

NODES = 160
ROUNDS = 40


@dataclass(frozen=True)
class Fit:
    """What is fitted: value(t) by P(t) / Q(t), Q(0) = 1, for t between low and high.

    Attributes
    ----------
    relative : callable
        Factor from an error of `value` to a relative error of the function.
    numerator, denominator : int
        Degrees.
    """

    value: Callable[[mpf], mpf]
    relative: Callable[[mpf], mpf]
    low: mpf
    high: mpf
    numerator: int
    denominator: int


def of_square(function: Callable[[mpf], mpf], most: str, degrees: tuple[int, int]) -> Fit:
    """An odd function over x, in terms of t = x * x."""

    def value(t: mpf) -> mpf:
        return function(mpmath.sqrt(t)) / mpmath.sqrt(t)

    return Fit(value, lambda t: 1 / value(t), mpf("1e-9"), mpf(most) ** 2, *degrees)


def fitted(fit: Fit) -> tuple[mpf, list[mpf], list[mpf]]:
    """The largest relative error, and the coefficients of P and Q."""
    middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    nodes = [
        middle + half * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * NODES)) for i in range(NODES)
    ]
    values, factors = [fit.value(t) for t in nodes], [fit.relative(t) for t in nodes]
    weights, below = [mpf(1)] * NODES, [mpf(1)] * NODES
    best: tuple[mpf, list[mpf], list[mpf]] = (mpf("inf"), [], [])
    unknowns = fit.numerator + 1 + fit.denominator
    for _ in range(ROUNDS):
        matrix, right = mpmath.matrix(NODES, unknowns), mpmath.matrix(NODES, 1)
        for i, t in enumerate(nodes):
            scale = mpmath.sqrt(weights[i]) * factors[i] / below[i]
            for k in range(fit.numerator + 1):
                matrix[i, k] = scale * t**k
            for k in range(1, fit.denominator + 1):
                matrix[i, fit.numerator + k] = -scale * values[i] * t**k
            right[i] = scale * values[i]
        found = list(mpmath.qr_solve(matrix, right)[0])
        p, q = found[: fit.numerator + 1], [mpf(1), *found[fit.numerator + 1 :]]
        below = [mpmath.polyval(q[::-1], t) for t in nodes]
        errors = [
            abs(factor * (mpmath.polyval(p[::-1], t) / under - value))
            for factor, t, under, value in zip(factors, nodes, below, values, strict=True)
        ]
        largest = max(errors)
        best = min(best, (largest, p, q), key=lambda each: each[0])
        weights = [
            weight * (error / largest + mpf("1e-3"))
            for weight, error in zip(weights, errors, strict=True)
        ]
    return best


def main() -> None:
    """Print the coefficients."""
    mpmath.mp.dps = 40
    reduced = mpmath.log(2) / 2 * mpf("1.01")
    fits = {
        "exp": Fit(
            lambda r: (mpmath.expm1(r) - r) / r**2,
            lambda r: r**2 * mpmath.exp(-r),
            -reduced,
            reduced,
            4,
            0,
        ),
        "erf": of_square(mpmath.erf, "3.93", (5, 5)),
        "tanh": of_square(mpmath.tanh, "9", (4, 4)),
    }
    for name, fit in fits.items():
        error, numerator, denominator = fitted(fit)
        print(f"{name}: relative error up to {mpmath.nstr(error, 3)}")
        for polynomial in (numerator, denominator):
            print("   ", ", ".join(mpmath.nstr(each, 12) for each in polynomial))


if __name__ == "__main__":
    main()
