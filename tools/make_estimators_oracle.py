"""Writes tests/estimators/oracle.npz: densities and implicit derivatives in sixty digits of mpmath.

Every family of optx-estimators at parameters from 1e-3 to 1e9, at points over its bulk and its tails. All
inputs are float32 numbers, so that float32 and float64 see the same problem. A row holds the inputs
(parameters, then the point), the log-density, its first derivatives in the inputs, and the matrix of its
second derivatives: what rounding the inputs may change is known from them.

    uv pip install mpmath && python tools/make_estimators_oracle.py
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Sequence

import mpmath as mp
import numpy as np

mp.mp.dps = 60
SIZES = (1e-3, 0.3, 1.0, 30.0, 1e3, 1e6, 1e9)
FEW = (1e-3, 1.0, 1e3, 1e9)
SPREADS = (-3.0, -0.5, 0.1, 2.0)


def location_scale(log_density: Callable[[mp.mpf], mp.mpf]) -> Callable[..., mp.mpf]:
    """The density of loc + scale·z."""
    return lambda loc, scale, x: log_density((x - loc) / scale) - mp.log(scale)


def student_t(df: mp.mpf, loc: mp.mpf, scale: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Student's t."""
    z = (x - loc) / scale
    constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return constant - (df + 1) / 2 * mp.log1p(z * z / df) - mp.log(scale)


def gamma(a: mp.mpf, b: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Gamma, by concentration and rate."""
    return a * mp.log(b) + (a - 1) * mp.log(x) - b * x - mp.loggamma(a)


def beta(a: mp.mpf, b: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Beta."""
    log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    return (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta


def weibull(scale: mp.mpf, k: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Weibull, by scale and concentration."""
    return mp.log(k) - mp.log(x) + k * mp.log(x / scale) - (x / scale) ** k


def poisson(rate: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Poisson."""
    return x * mp.log(rate) - rate - mp.loggamma(x + 1)


DENSITIES: dict[str, Callable[..., mp.mpf]] = {
    "Normal": location_scale(lambda z: -z * z / 2 - mp.log(2 * mp.pi) / 2),
    "Laplace": location_scale(lambda z: -abs(z) - mp.log(2)),
    "Cauchy": location_scale(lambda z: -mp.log1p(z * z) - mp.log(mp.pi)),
    "Logistic": location_scale(lambda z: -z - 2 * mp.log1p(mp.exp(-z))),
    "Gumbel": location_scale(lambda z: -z - mp.exp(-z)),
    "StudentT": student_t,
    "Gamma": gamma,
    "Beta": beta,
    "Exponential": lambda rate, x: mp.log(rate) - rate * x,
    "Weibull": weibull,
    "Poisson": poisson,
}


def about(mean: float, deviation: float, low: float = 0.0, high: float = np.inf) -> list[float]:
    """Points some standard deviations from the mean, inside the support."""
    points = [mean + spread * deviation for spread in SPREADS]
    points += [mean * 1e-3, mean * 5] if high == np.inf else []
    return [x for x in points if low < x < high]


def inputs_of(name: str) -> list[Sequence[float]]:
    """Parameters and points of one family."""
    if name == "StudentT":
        return [(df, 0.25, 1.5, 0.25 + 1.5 * s) for df in SIZES for s in (*SPREADS, 1e3, -1e6)]
    if name in ("Normal", "Laplace", "Cauchy", "Logistic", "Gumbel"):
        locs = [loc for size in FEW for loc in (size, -size)]
        return [(m, s, m + z * s) for m, s in itertools.product(locs, SIZES) for z in SPREADS]
    if name == "Gamma":
        pairs = itertools.product(SIZES, FEW)
        return [(a, b, x) for a, b in pairs for x in about(a / b, np.sqrt(a) / b)]
    if name == "Beta":
        rows = []
        for a, b in itertools.product(SIZES, SIZES):
            n = a + b
            deviation = np.sqrt(a / n * (b / n) / (n + 1))
            points = [*about(a / n, deviation, 0.0, 1.0), 1e-6, 0.5, 0.875]
            rows += [(a, b, x) for x in points]
        return rows
    if name == "Exponential":
        return [(rate, x / rate) for rate in SIZES for x in (1e-6, 0.5, 3.0, 20.0)]
    if name == "Weibull":
        pairs = itertools.product(FEW, SIZES)
        return [
            (s, k, s * np.exp(y / k))
            for s, k in pairs
            for y in (-2.0, -0.01, 1.0)
            if abs(y / k) < 60
        ]
    counts = [(rate, x) for rate in SIZES for x in (0, 1, 5)]
    return counts + [(r, round(r + z * np.sqrt(r))) for r in SIZES[3:] for z in SPREADS]


def derivatives(
    f: Callable[..., mp.mpf], at: Sequence[float]
) -> tuple[float, list[float], list[list[float]]]:
    """The value, the gradient and the matrix of second derivatives, by central differences."""
    point = [mp.mpf(v) for v in at]
    steps = [mp.mpf(10) ** -18 * (abs(v) + (v == 0)) for v in point]

    def moved(*moves: tuple[int, int]) -> mp.mpf:
        args = list(point)
        for i, sign in moves:
            args[i] += sign * steps[i]
        return f(*args)

    n = range(len(point))
    first = [(moved((i, 1)) - moved((i, -1))) / (2 * steps[i]) for i in n]
    second = [
        [
            sum(s * t * moved((i, s), (j, t)) for s in (1, -1) for t in (1, -1))
            / (4 * steps[i] * steps[j])
            for j in n
        ]
        for i in n
    ]
    return float(f(*point)), [float(d) for d in first], [[float(d) for d in row] for row in second]


def implicit(c: float, a: float) -> float:
    """dc/da for c = log(x/a), x ~ Gamma(a, 1), at a fixed level of the distribution function."""
    c, a = mp.mpf(c), mp.mpf(a)
    kappa, x = mp.log(a) - mp.digamma(a), a * mp.exp(c)
    upper = x > max(a, 1)
    sign = 1 if upper else -1
    length = 1 / max(mp.sqrt(x), abs(x - a)) if (x > 1e-3 and a >= 1) or upper else 1 / a

    def phi(t: mp.mpf) -> mp.mpf:
        return mp.expm1(t) - t

    def integrand(s: mp.mpf) -> mp.mpf:
        t = c + sign * s
        return (kappa - phi(t)) * mp.exp(-a * (phi(t) - phi(c)))

    ends = [0] + [length * mp.mpf(2) ** i for i in range(-12, 8)]
    return float(sign * mp.quad(integrand, ends))


def main() -> None:
    """Writes the file."""
    out = {}
    for name, f in DENSITIES.items():
        rows = [tuple(map(float, np.asarray(row, np.float32))) for row in inputs_of(name)]
        if name == "Beta":
            rows = [row for row in rows if 0 < row[2] < 1]
        found = [derivatives(f, row) for row in rows]
        out[f"{name}/inputs"] = np.array(rows)
        for key, values in zip(("value", "first", "second"), zip(*found, strict=True), strict=True):
            out[f"{name}/{key}"] = np.array(values)
        print(name, len(rows))
    mp.mp.dps = 30
    pairs = []
    for a in (1e-3, 0.05, 0.5, 1.0, 2.5, 30.0, 1e3, 1e5, 1e7, 1e9):
        # From far below to far above, in standard deviations or, for small a, in its exponent.
        z = np.array([-4.0, -1.5, -0.4, 0.6, 2.0, 4.0])
        c = (
            z / np.sqrt(a)
            if a >= 1
            else np.array([-8 / a, -1 / a, -0.1 / a, -np.log(a) - 0.5, -np.log(a) + 1])
        )
        pairs += [(float(np.float32(v)), float(np.float32(a))) for v in c]
    out["implicit/inputs"] = np.array(pairs)
    out["implicit/value"] = np.array([implicit(*pair) for pair in pairs])
    np.savez_compressed(pathlib.Path(__file__).parents[1] / "tests/estimators/oracle.npz", **out)


if __name__ == "__main__":
    main()
