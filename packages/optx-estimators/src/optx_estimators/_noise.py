"""Sources of randomness.

A noise draws n rows of uniform numbers. Each row is uniform on the cube; the noises differ in how the rows
depend on one another. Dependent rows form one unit; different units are independent.

iid:         independent rows
antithetic:  rows 2i and 2i + 1 are u and 1 − u
orthogonal:  rows are orthogonal normal vectors, from random orthogonal matrices

References: Hammersley, Morton, "A new Monte Carlo technique: antithetic variates", 1956; Yu, Suresh,
Choromanski, Holtmann-Rice, Kumar, "Orthogonal Random Features", 2016, for the last.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import special

from optx_core.build import Recorded, recorded
from optx_estimators._errors import EstimatorError


class Noise(Recorded):
    """A source of rows of uniform numbers.

    Attributes:
      unit: the number of rows that depend on one another; None if all do.
    """

    unit: int | None = 1
    plain: bool = False  # whether distributions may draw their base noise with their own samplers

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        """Draws rows of uniform numbers in the open unit cube.

        Args:
          key: a PRNG key.
          n: the number of rows.
          dim: the length of a row.
          dtype: float32 or float64.

        Returns:
          An array of shape (n, dim).
        """
        raise NotImplementedError


def open_unit(bits: jax.Array, dtype: Any) -> jax.Array:
    """Numbers strictly between 0 and 1, from 32 random bits each: the centers of equal cells."""
    keep = 23 if jnp.finfo(dtype).bits == 32 else 32
    return ((bits >> (32 - keep)).astype(dtype) + 0.5) * 2.0**-keep


class _Iid(Noise):
    plain = True

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        return open_unit(jax.random.bits(key, (n, dim), "uint32"), dtype)


class _Antithetic(Noise):
    unit = 2

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        if n % 2:
            raise EstimatorError(
                f"antithetic noise comes in pairs: num_samples must be even, not {n}"
            )
        u = open_unit(jax.random.bits(key, (n // 2, dim), "uint32"), dtype)
        return jnp.stack([u, 1 - u], axis=1).reshape(n, dim)


class _Orthogonal(Noise):
    unit = None

    def uniforms(self, key: jax.Array, n: int, dim: int, dtype: Any) -> jax.Array:
        key_turn, key_length = jax.random.split(key)
        blocks = -(-n // max(dim, 1))
        columns = min(n, dim)
        gauss = jax.random.normal(key_turn, (blocks, dim, columns), dtype)
        q, r = jnp.linalg.qr(gauss)
        signs = jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))
        directions = jnp.swapaxes(q * signs[:, None, :], -1, -2).reshape(-1, dim)[:n]
        squares = 2 * jax.random.gamma(key_length, jnp.asarray(dim / 2, dtype), (n, 1), dtype)
        normals = directions * jnp.sqrt(squares)
        edge = jnp.finfo(dtype).eps / 4
        return jnp.clip(special.ndtr(normals), edge, 1 - 2 * edge)


@recorded
def iid() -> Noise:
    """Independent noise, the default.

    Returns:
      A `Noise`.

    Example:
      >>> from optx_estimators import iid
      >>> iid()
      iid()
    """
    return _Iid()


@recorded
def antithetic() -> Noise:
    """Pairs of opposite noise, u and 1 − u; for symmetric families, z and −z.

    It reduces the variance of gradients that are odd in the noise (locations) and increases that of
    even ones (scales, near the mode). The number of samples must be even.

    Returns:
      A `Noise` whose unit is the pair.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import antithetic
      >>> u = antithetic().uniforms(jax.random.key(0), 2, 1, jnp.float32)
      >>> u.sum()
      Array(1., dtype=float32)
    """
    return _Antithetic()


@recorded
def orthogonal() -> Noise:
    """Normal noise with orthogonal rows, in blocks of as many rows as dimensions.

    It costs a QR decomposition per block: use it in up to about a thousand dimensions.

    Returns:
      A `Noise`.

    Example:
      >>> from optx_estimators import orthogonal
      >>> orthogonal()
      orthogonal()
    """
    return _Orthogonal()
