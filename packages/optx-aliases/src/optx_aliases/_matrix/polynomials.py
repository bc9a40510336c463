"""Coefficients of Newton–Schulz iterations: the best odd polynomial for what the last one leaves.

p(x) = a·x + b·x³ + c·x⁵ minimizes E = max |1 − p(x)| on [l, u] if its error equioscillates; with its extrema
q < r (Remez' algorithm),

p(l) = 1 − E,   p(q) = 1 + E,   p(r) = 1 − E,   p(u) = 1 + E
p(l) = 1 − E,   p(q) = 1 + E,   p(u) = 1 − E            (cubics, c = 0: a closed form)

where q and r are the extrema of p in between. The next polynomial is the best one on [1 − E, 1 + E]; no
other composition comes nearer to 1.

safety s: x is replaced by x / (1 + s) in all steps but the last, since rounding may enlarge singular values.
cushion k: p is the best one on [k·u, u] where l is less, rescaled so that p(l) and max p are as far from 1.

References: Amsel, Persson, Musco, Gower, "The Polar Express: Optimal Matrix Sign Methods and Their
Application to the Muon Algorithm", 2025, algorithm 1; Grishina, Smirnov, Rakhuba, "Accelerating Newton-Schulz
Iteration for Orthogonalization via Chebyshev-type Polynomials", 2025 (CANS: no safety and no cushion).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from optx_core import build

Polynomial: TypeAlias = tuple[float, float, float]


def polar_express_coefficients(
    steps: int = 5,
    lower_bound: float = 1e-3,
    safety: float = 0.02,
    cushion: float = 0.02,
    *,
    degree: Literal[3, 5] = 5,
) -> tuple[Polynomial, ...]:
    """Computes coefficients for `newton_schulz` and `muon`: the best polynomial for each step.

    Args:
      steps: the number of steps, a positive int.
      lower_bound: the smallest singular value to bring near 1, relative to the norm, in (0, 1].
      safety: by how much rounding may enlarge singular values beyond their bound at each step, at least 0;
        0.01 or 0.02 for bfloat16.
      cushion: the shortest relative interval that a polynomial is computed for, in [0, 1).
      degree: 5, or 3 for c = 0: steps with one product less.

    Returns:
      A tuple of (a, b, c) for each step, for the argument `ns_coeffs`. By default the table of dion and
      modded-nanogpt.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> from optx_aliases import muon, polar_express_coefficients
      >>> table = polar_express_coefficients(6, lower_bound=1e-4)
      >>> [round(x, 3) for x in table[0]]
      [8.187, -22.568, 15.938]
      >>> tx = muon(0.02, ns_coeffs=table)
    """
    where = "polar_express_coefficients"
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"{where}: steps must be a positive int, not {steps!r}")
    if degree not in (3, 5):
        raise ValueError(f"{where}: degree must be 3 or 5, not {degree!r}")
    build.check_number(where, above=0, high=1, lower_bound=lower_bound)
    build.check_number(where, low=0, safety=safety)
    build.check_number(where, low=0, below=1, cushion=cushion)
    low, high, table = float(lower_bound), 1.0, []
    for k in range(steps):
        raised = max(low, cushion * high)
        best = _cubic(raised / high) if degree == 3 else _quintic(raised / high)
        p = _stretched(best, high)
        if raised > low:
            scale = 2 / (_value(p, low) + 2 - _value(p, raised))
            p = (scale * p[0], scale * p[1], scale * p[2])
        if k < steps - 1:
            p = _stretched(p, 1 + safety)
        table.append(p)
        low = _value(p, low)
        high = 2 - low
    return tuple(table)


def _value(p: Polynomial, x: float) -> float:
    a, b, c = p
    return x * (a + x * x * (b + x * x * c))


def _stretched(p: Polynomial, factor: float) -> Polynomial:
    """Returns p(x / factor)."""
    return p[0] / factor, p[1] / factor**3, p[2] / factor**5


def _cubic(low: float) -> Polynomial:
    """Returns the best cubic on [low, 1]: equal at both ends, with its maximum at q."""
    q = ((1 + low + low * low) / 3) ** 0.5
    b = 2 / (low**3 - 3 * q * q * low - 2 * q**3)
    return -3 * q * q * b, b, 0.0


def _quintic(low: float) -> Polynomial:
    """Returns the best quintic on [low, 1], by Remez' algorithm.

    With d = 1 − x² it is x·(1 + d/2 + 3·d²/8 + e(d)): the first terms are those of 1/x, whose remainder keeps
    its digits however close low is to 1. e(d) = e₀ + e₁·d/D + e₂·(d/D)², D = 1 − low².
    """
    D = (1 - low) * (1 + low)
    if D == 0:
        return 1.875, -1.25, 0.375
    first, last = (low, D), (1.0, 0.0)
    q, r = (((1 - d) ** 0.5, d) for d in (0.75 * D, 0.25 * D))
    error, before = 0.0, -1.0
    while error > before:  # it grows with each exchange of q and r, until rounding stops it
        # p(low) + p(q) = p(q) + p(r) = p(r) + p(1) = 2
        pairs = ((first, q), (q, r), (r, last))
        rows = [[x * (d / D) ** n + y * (f / D) ** n for n in range(3)] for (x, d), (y, f) in pairs]
        e = _solved(rows, [_remainder(*one) + _remainder(*other) for one, other in pairs])
        before, error = error, abs(_remainder(*first) - low * sum(e))
        e0, e1, e2 = e[0], e[1] / D, e[2] / D**2
        # p' = (15/8 + 5·e₂)·d² + (3·e₁ − 4·e₂)·d + e₀ − 2·e₁ = 0 at q and r
        square, linear, constant = 1.875 + 5 * e2, 3 * e1 - 4 * e2, e0 - 2 * e1
        root = max(linear**2 - 4 * square * constant, 0) ** 0.5
        extrema = ((-linear + sign * root) / (2 * square) for sign in (1, -1))
        q, r = (((1 - d) ** 0.5, d) for d in extrema)
    return 1.875 + e0 + e1 + e2, -1.25 - e1 - 2 * e2, 0.375 + e2


def _remainder(x: float, d: float) -> float:
    """Returns 1 − x·(1 + d/2 + 3·d²/8), x² = 1 − d; as a series in d where it is small."""
    if d > 0.05:
        return 1 - x * (1 + d / 2 + 3 * d * d / 8)
    total, term = 0.0, 5 * d**3 / 16
    for n in range(3, 20):
        total, term = total + term, term * d * (2 * n + 1) / (2 * n + 2)
    return x * total


def _solved(rows: list[list[float]], right: list[float]) -> list[float]:
    """Solves three equations, by Cramer's rule."""
    columns = [*zip(*rows, strict=True)]
    whole = _determinant(columns)
    return [_determinant([*columns[:k], right, *columns[k + 1 :]]) / whole for k in range(3)]


def _determinant(m: list[Any]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = m
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _amsel(steps: int, safety: float) -> list[Polynomial]:
    """Returns the table that Amsel et al. list, with the safety factor put in afterwards."""
    cushion = 0.02407327424182761
    table = polar_express_coefficients(steps, safety=0, cushion=cushion)
    return [_stretched(p, safety) for p in table]


STANDARD = (3.4445, -4.7750, 2.0315)
NAMED: dict[str, Callable[[], Any]] = {
    "standard": lambda: STANDARD,
    "dion": lambda: (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "polar_express": lambda: [*_amsel(7, 1.01), (1.875, -1.25, 0.375)],
    "polar_express_5": polar_express_coefficients,
    "polar_express_gram": lambda: _amsel(5, 1.05),
    "cans": lambda: polar_express_coefficients(safety=0, cushion=0),
    "deepseek_v4": lambda: [STANDARD] * 8 + [(2.0, -1.5, 0.5)] * 2,
    "cubic": lambda: polar_express_coefficients(7, cushion=0, degree=3),
}
"""Functions that return the tables in use, by name.

"standard" is Jordan's polynomial for every step; "dion" has one for each of five steps. Three tables are
called Polar Express: the authors' (eight steps), that of dion and modded-nanogpt (five), and that of Gram
Newton–Schulz (five, with more safety). "cans" is CANS, of five steps. "deepseek_v4" takes ten: eight towards
1, two to get there. "cubic" is of seven steps without the fifth power.
"""
