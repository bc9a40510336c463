"""Rank-1 lattice points with a random shift.

u_{i,j} = {i·aʲ/n + Δ_j},  folded to 1 − |2u − 1|

where u_{i,j} is coordinate j of point i of n, {·} the fractional part, and Δ the random shift. The
multiplier a is the best of 128 candidates for n points by the worst-case error over smooth periodic
functions in twelve dimensions, with weights 1/(j+1)²:

P(a) = −1 + (1/n) Σ_i Π_j (1 + 2π²·w_j·B₂({i·aʲ/n})),   B₂(x) = x² − x + 1/6

with B₂ the second Bernoulli polynomial and w_j the weights.

References: Korobov, "The approximate computation of multiple integrals", 1959; Sloan, Joe, "Lattice
Methods for Multiple Integration", 1994; Hickernell, "Obtaining O(N^(−2+ε)) convergence for lattice
quadrature rules", 2002, for the folding.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core.build import recorded
from optx_estimators._noise import Noise, open_unit

_CANDIDATES = 128
_JUDGED = 12
_BLOCK = 64


@functools.lru_cache(maxsize=64)
def lattice_multiplier(n: int) -> int:
    """The best of the candidate multipliers for n points."""
    if n < 3:
        return 1
    units = [a for a in range(2, n) if math.gcd(a, n) == 1] if n < 4096 else None
    random = np.random.default_rng(0)
    tried = random.integers(2, n, 4 * _CANDIDATES) if units is None else np.array(units or [1])
    if units is not None and len(units) > _CANDIDATES:
        tried = random.choice(tried, _CANDIDATES, replace=False)
    coprime = [int(a) for a in tried if math.gcd(int(a), n) == 1][:_CANDIDATES]
    index = np.arange(n, dtype=np.int64)

    def error(a: int) -> float:
        product, power = np.ones(n), 1
        for j in range(_JUDGED):
            x = index * power % n / n
            product *= 1 + 2 * math.pi**2 * (x * x - x + 1 / 6) / (j + 1) ** 2
            power = power * a % n
        return float(product.mean())

    return min(coprime, key=error)


class _Lattice(Noise):
    unit = None

    def __init__(self, fold: bool) -> None:
        self.fold = fold

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        a, power = lattice_multiplier(n), 1
        powers = []
        for _ in range(min(dim, _BLOCK)):
            powers.append(power)
            power = power * a % n
        # i·aʲ mod n in integers, scaled to 2³², plus the shift.
        index = np.arange(n, dtype=np.uint64)[:, None]
        steps = index * np.array(powers, np.uint64)[None] % np.uint64(n)
        grid = jnp.asarray((steps * np.uint64(2**32) // np.uint64(n)).astype(np.uint32))
        blocks = []
        for start in range(0, dim, _BLOCK):
            key, key_shift, key_order = jax.random.split(key, 3)
            here = grid[:, : dim - start]
            bits = here + jax.random.bits(key_shift, (1, here.shape[1]), "uint32")
            blocks.append(jax.random.permutation(key_order, bits) if start else bits)
        bits = jnp.concatenate(blocks, axis=1) if blocks else jnp.zeros((n, 0), jnp.uint32)
        if self.fold:
            bits = jnp.where(bits >> 31 == 1, ~bits, bits) << 1
        return open_unit(bits, dtype)


@recorded
def lattice(fold: bool = True) -> Noise:
    """Lattice points with a random shift, for smooth integrands in up to about ten dimensions.

    Any number of samples is accepted.

    Args:
      fold: whether to fold the cube, which suits functions that are not periodic.

    Returns:
      A `Noise` whose rows all form one unit.

    Example:
      >>> from optx_estimators import lattice
      >>> lattice()
      lattice(fold=True)
    """
    return _Lattice(fold)
