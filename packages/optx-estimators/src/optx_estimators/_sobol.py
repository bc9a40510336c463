"""Scrambled Sobol points.

Point n in dimension d is ⊕_j g_j(n)·v_{d,j}, g(n) = n ⊕ (n >> 1) the bits of the Gray code. The
direction numbers follow from a primitive polynomial xˢ + a₁xˢ⁻¹ + … + 1 over GF(2):

m_j = 2a₁m_{j−1} ⊕ 4a₂m_{j−2} ⊕ … ⊕ 2ˢm_{j−s} ⊕ m_{j−s},   v_j = m_j·2³²⁻ʲ

Scrambling: each dimension's direction numbers are multiplied by a random lower triangular matrix
over GF(2) and all points shifted by the same random bits, so that each point is uniform by itself.
Beyond the dimensions of the table, further blocks are scrambled independently and put into random order.

References: Joe, Kuo, "Constructing Sobol sequences with better two-dimensional projections", 2008;
Matoušek, "On the L2-discrepancy for anchored boxes", 1998, for the scrambling; Owen, "Latin
supercube sampling for very high-dimensional simulations", 1998, for the blocks.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from optx_core.build import recorded
from optx_estimators._noise import Noise, open_unit
from optx_estimators._sobol_table import INITIAL_NUMBERS

_BITS = 32


def _is_primitive(polynomial: int, degree: int) -> bool:
    """Whether x generates all 2ˢ − 1 units modulo the polynomial."""

    def power(exponent: int) -> int:
        result, base = 1, 2
        while exponent:
            if exponent & 1:
                result = product(result, base)
            base = product(base, base)
            exponent >>= 1
        return result

    def product(a: int, b: int) -> int:
        out = 0
        while b:
            if b & 1:
                out ^= a
            b >>= 1
            a <<= 1
            if a >> degree & 1:
                a ^= polynomial
        return out

    if degree == 1:
        return polynomial == 3
    order = 2**degree - 1
    primes = [p for p in range(2, order + 1) if order % p == 0 and all(p % q for q in range(2, p))]
    return power(order) == 1 and all(power(order // p) != 1 for p in primes)


@functools.cache
def direction_numbers() -> np.ndarray:
    """The direction numbers v, a uint32 array with one row of 32 for each dimension."""
    rows = [[1] * _BITS]
    polynomial = 3
    for numbers in INITIAL_NUMBERS.replace("\n", " ").split(","):
        m = [int(number) for number in numbers.split()]
        degree = len(m)
        while polynomial.bit_length() - 1 < degree or not _is_primitive(polynomial, degree):
            polynomial += 2
        for j in range(degree, _BITS):
            new = m[j - degree]
            for i in range(1, degree + 1):
                if polynomial >> (degree - i) & 1:
                    new ^= m[j - i] << i
            m.append(new)
        rows.append(m[:_BITS])
        polynomial += 2
    shifts = np.arange(_BITS - 1, -1, -1, dtype=np.uint64)
    return (np.array(rows, np.uint64) << shifts).astype(np.uint32)


def sobol_bits(n: int, v: jax.Array) -> jax.Array:
    """The first n points as 32 bits, of shape (n, dimensions)."""
    index = jnp.arange(n, dtype=jnp.uint32)
    gray = index ^ (index >> 1)
    points = jnp.zeros((n, v.shape[0]), jnp.uint32)
    for j in range(max(n - 1, 1).bit_length()):
        bit = (gray >> j) & 1
        points = points ^ jnp.where(bit[:, None] == 1, v[None, :, j], jnp.uint32(0))
    return points


def _scrambled(key: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Direction numbers times random lower triangular matrices, and a random shift."""
    key_matrix, key_shift = jax.random.split(key)
    dim = v.shape[0]
    row = jnp.arange(_BITS, dtype=jnp.uint32)  # row r gives bit r, counted from the highest
    diagonal = jnp.uint32(1) << (_BITS - 1 - row)
    higher = ~((diagonal << 1) - 1)
    matrix = jax.random.bits(key_matrix, (dim, _BITS), "uint32")
    matrix = (matrix & higher[None]) | diagonal[None]
    parity = lax.population_count(matrix[:, :, None] & v[:, None, :]) & 1
    mixed = jnp.sum(parity << (_BITS - 1 - row)[None, :, None], axis=1, dtype=jnp.uint32)
    return mixed, jax.random.bits(key_shift, (dim,), "uint32")


class _Sobol(Noise):
    unit = None

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        table = jnp.asarray(direction_numbers())
        blocks = []
        for start in range(0, dim, table.shape[0]):
            key, key_scramble, key_order = jax.random.split(key, 3)
            v, shift = _scrambled(key_scramble, table[: dim - start])
            bits = sobol_bits(n, v) ^ shift[None]
            blocks.append(jax.random.permutation(key_order, bits) if start else bits)
        bits = jnp.concatenate(blocks, axis=1) if blocks else jnp.zeros((n, 0), jnp.uint32)
        return open_unit(bits, dtype)


@recorded
def sobol() -> Noise:
    """Scrambled Sobol points: for smooth integrands the error falls nearly as 1/N, or faster.

    Use a power of two as the number of samples: only then are the points balanced.

    Returns:
      A `Noise` whose rows all form one unit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import sobol
      >>> u = sobol().uniforms(jax.random.key(0), 8, 2, jnp.float32)
      >>> jnp.sort(jnp.floor(8 * u[:, 0]))   # one point in each eighth
      Array([0., 1., 2., 3., 4., 5., 6., 7.], dtype=float32)
    """
    return _Sobol()
