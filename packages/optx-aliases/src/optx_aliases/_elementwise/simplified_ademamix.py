"""Simplified AdEMAMix: a single sum of gradients, with the newest gradient mixed in.

m ← b1·m + g
v ← b2·v + (1 − b2)·g²
u = (m + alpha·g) / (√(v̂ + eps_root) + eps),   v̂ = v / (1 − b2ᵗ)

m is a sum, not a mean: the learning rate is about (1 − b1) times Adam's.

Reference: Morwani, Vyas, Zhang, Kakade, "Connections between Schedule-Free Optimizers, AdEMAMix, and
Accelerated SGD Variants", 2025, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import PyTree, ScalarOrSchedule, build, chain, scale_by_learning_rate


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """State of `scale_by_simplified_ademamix`.

    Attributes:
      t: int32 scalar, the number of updates so far.
      m: the sum of gradients, a tree of the parameters' structure and shapes.
      n: v, likewise; real where the parameters are complex.
    """

    t: build.Count
    m: Annotated[PyTree, build.slot(dtype="mu_dtype")]
    n: Annotated[PyTree, build.slot(dtype="nu_dtype", nonnegative=True)]


@build.rule(ScaleBySimplifiedAdEMAMixState)
def scale_by_simplified_ademamix(
    g: Array,
    s: ScaleBySimplifiedAdEMAMixState,
    /,
    b1: build.Rate = 0.99,
    b2: build.Rate = 0.95,
    alpha: Annotated[Any, build.Number(low=0, own_count=True)] = 0.0,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> tuple[Array, ScaleBySimplifiedAdEMAMixState]:
    """Divides a sum of gradients, with the newest one mixed in, by their root mean square.

    Args:
      b1, b2, alpha, eps, eps_root, mu_dtype, nu_dtype: as for `simplified_ademamix`.

    Returns:
      A transformation with a `ScaleBySimplifiedAdEMAMixState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_simplified_ademamix
      >>> tx = scale_by_simplified_ademamix(alpha=2.0)
      >>> updates, _ = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 5)
      3.0
    """
    g = build.squarable(g)
    m = b1 * s.m + g
    v = b2 * s.n + (1 - b2) * build.abs_squared(g)
    u = (m + alpha * g) / (jnp.sqrt(v / (1 - b2**s.t) + eps_root) + eps)
    return u, s._replace(m=m, n=v)


@build.recorded
def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.99,
    b2: ScalarOrSchedule = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """Simplified AdEMAMix (Morwani et al., 2025).

    Args:
      learning_rate: a scalar, or a schedule; about (1 − b1) times Adam's.
      b1: decay rate of the sum of gradients, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      alpha: extra weight of the newest gradient, at least 0, or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of the sum; by default the parameters', at least float32.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import simplified_ademamix
      >>> simplified_ademamix(1e-5) == simplified_ademamix(learning_rate=1e-5)
      True
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
