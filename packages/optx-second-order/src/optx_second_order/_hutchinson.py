"""Hutchinson's estimates of the diagonal and the trace of any symmetric matrix.

diag(A) = E[v·(A v)],   tr(A) = E[vᵀ A v]

where E is the expectation over random v with independent entries of mean 0 and variance 1, and A the matrix.
With Rademacher signs the variance of entry i is Σ_{j≠i} A_ij²; normal entries add 2·A_ii².

References: Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian
smoothing splines", 1990; Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a matrix", 2007.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import check_choice, check_count
from optx_second_order._leaves import Leaves, as_wide
from optx_second_order._samples import (
    DISTRIBUTIONS,
    Distribution,
    Estimate,
    mean_of_samples,
    random_like,
)

Matvec = Callable[[PyTree], PyTree]


def hutchinson_diag(
    matvec: Matvec,
    like: PyTree,
    key: jax.Array,
    num_samples: int = 1,
    *,
    distribution: Distribution = "rademacher",
) -> Estimate:
    """Estimates the diagonal of a symmetric matrix from products with random vectors.

    Args:
      matvec: `v ↦ A v` on trees like `like`, such as `linearize_hessian_vp(...)`.
      like: a tree of real arrays with the structure and shapes of v.
      key: a random key.
      num_samples: the number of products.
      distribution: the distribution of the entries of v, "rademacher" or "normal".

    Returns:
      An `Estimate` of trees like `like`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import hutchinson_diag
      >>> hutchinson_diag(lambda v: 3.0 * v, jnp.zeros(2), jax.random.key(0)).value
      Array([3., 3.], dtype=float32)
    """
    where = "hutchinson_diag"
    leaves = _checked(where, like, num_samples, distribution)

    def sample(key: jax.Array) -> list[jax.Array]:
        v = random_like(key, leaves.arrays, distribution)
        image = leaves.vector(matvec(leaves.tree(v)), "the product")
        return [as_wide(a) * as_wide(b) for a, b in zip(v, image, strict=True)]

    value, stderr = mean_of_samples(sample, key, num_samples)
    return Estimate(leaves.tree(value), None if stderr is None else leaves.tree(stderr))


def hutchinson_trace(
    matvec: Matvec,
    like: PyTree,
    key: jax.Array,
    num_samples: int = 1,
    *,
    distribution: Distribution = "rademacher",
) -> Estimate:
    """Estimates the trace of a symmetric matrix from products with random vectors.

    Args:
      matvec: `v ↦ A v` on trees like `like`.
      like: a tree of real arrays with the structure and shapes of v.
      key: a random key.
      num_samples: the number of products.
      distribution: the distribution of the entries of v, "rademacher" or "normal".

    Returns:
      An `Estimate` of scalars.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_second_order import hutchinson_trace
      >>> hutchinson_trace(lambda v: 3.0 * v, jnp.zeros(2), jax.random.key(0)).value
      Array(6., dtype=float32)
    """
    where = "hutchinson_trace"
    leaves = _checked(where, like, num_samples, distribution)

    def sample(key: jax.Array) -> list[jax.Array]:
        v = random_like(key, leaves.arrays, distribution)
        image = leaves.vector(matvec(leaves.tree(v)), "the product")
        parts = [jnp.sum(as_wide(a) * as_wide(b)) for a, b in zip(v, image, strict=True)]
        return [sum(parts[1:], parts[0]) if parts else jnp.zeros(())]

    value, stderr = mean_of_samples(sample, key, num_samples)
    return Estimate(value[0], None if stderr is None else stderr[0])


def _checked(where: str, like: PyTree, num_samples: int, distribution: str) -> Leaves:
    check_count(where, "num_samples", num_samples)
    check_choice(where, "distribution", distribution, DISTRIBUTIONS)
    return Leaves(where, like, name="like")
