"""APOLLO-Mini: SGD whose learning rate for each matrix comes from Adam on one random direction.

R = P·G,   P random, rank × (the shorter side), entries N(0, 1/rank), drawn anew every update_proj_gap
m ← b1·m + (1 − b1)·R,   v ← b2·v + (1 − b2)·R²,   R̃ = m / (√v + eps)
u = (‖R̃‖ / ‖R‖)·G         one factor for the whole matrix (for each channel with per_channel)
u ← u·min(1, growth_limit·‖u₋₁‖ / ‖u‖)      u₋₁ the u before
the update is scale·√(1 − b2ᵗ)/(1 − b1ᵗ)·u

where N is the normal distribution. The state holds the key of P, not P itself: a matrix of m × n, m ≤ n,
has 2·rank·n numbers and one norm. On a mesh the matrices stay where they lie: devices exchange R and norms,
which are small. Leaves that are no matrices are Adam's. The moments stay when P is drawn anew, and the
limiter acts before the bias correction, as in the authors' code.

Reference: Zhu, Zhang, Cong, Liu, Park, Chandra, Long, Pan, Wang, Lee, "APOLLO: SGD-like Memory,
AdamW-level Performance", 2024, algorithm 1 and section 4.2 (Mini: rank 1, scale √128).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.explicit_mesh import laid
from optx_aliases._matrix.matrices import default_axes, from_stack, side_lengths
from optx_aliases._matrix.norms import norm_over
from optx_aliases._matrix.sides import stack_of
from optx_core import (
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
    tree,
)


def _moment_slot(*, real: bool = False) -> build.Slot:
    def init(p: Any, *, rank: int, **_: Any) -> Array:
        zeros = jnp.zeros_like(p, dtype=tree.slot_dtype(p, real=real))
        if not any(side_lengths(p.shape)):
            return zeros
        stack = stack_of(zeros)
        longer = stack.sum(1 if stack.shape[1] <= stack.shape[2] else 2)
        k = min(rank, *stack.shape[1:])
        return jnp.broadcast_to(longer[:, None], (len(longer), k, longer.shape[1]))

    return build.slot(init=init, nonnegative=real)


def _zeros(p: Any, **_: Any) -> Array:
    dtype = tree.slot_dtype(p, real=True)
    if not any(side_lengths(p.shape)):
        return jnp.zeros((), dtype)
    return stack_of(jnp.zeros_like(p, dtype=dtype)).sum((1, 2))


class ScaleByApolloState(NamedTuple):
    """State of `scale_by_apollo`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      key: the key of `jax.random` that the projections are drawn from.
      mu: m of each leaf, (batch, rank, longer side); of its shape where it is Adam's.
      nu: v, likewise; real where the parameters are complex.
      norm: ‖u₋₁‖ of each matrix, before the bias correction, (batch,); a scalar where it is Adam's. Real.
    """

    count: build.Count
    key: build.Key
    mu: Annotated[PyTree, _moment_slot()]
    nu: Annotated[PyTree, _moment_slot(real=True)]
    norm: Annotated[PyTree, build.slot(init=_zeros, nonnegative=True)]


def _ratio(x: Array, y: Array) -> Array:
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1), 0)


@attention_as_matrices
@build.rule(ScaleByApolloState)
def scale_by_apollo(
    g: Array,
    s: ScaleByApolloState,
    /,
    rank: build.PositiveInt = 1,
    update_proj_gap: build.PositiveInt = 200,
    scale: build.Nonnegative = 128**0.5,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-8,
    growth_limit: Annotated[Any, build.Number(low=0, finite=False)] = 1.01,
    per_channel: bool = False,
    key: build.Key = 0,
) -> tuple[Array, ScaleByApolloState]:
    """Scales each matrix by how much Adam would scale a random projection of it.

    The defaults are those of APOLLO-Mini, whose state is about as small as that of plain gradient
    descent; `rank=256`, `per_channel=True` and `scale=1.0` give APOLLO. An array of three axes is a stack of
    matrices, except for the kernels of Flax's attention, which are one matrix each; one of more axes is a
    convolution's kernel with its outputs last.

    Args:
      rank: the number of random directions, a positive int.
      update_proj_gap, scale, b1, b2, eps, growth_limit, key: as for `apollo_mini`.
      per_channel: whether each entry of the longer side has a factor of its own.

    Returns:
      A transformation with a `ScaleByApolloState`. A zero gradient from the first step on gives zero
      updates.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_apollo
      >>> scale_by_apollo().init(jnp.zeros((64, 256))).nu.shape
      (1, 1, 256)
    """
    g = build.squarable(g, g.size)
    if not any(side_lengths(g.shape)):
        m = b1 * s.mu + (1 - b1) * g
        v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
        step = m / (1 - b1**s.count) / (jnp.sqrt(v / (1 - b2**s.count)) + eps)
        return step, s._replace(mu=m, nu=v)
    G, t, k = stack_of(g), s.count, s.mu.shape[1]
    wide = G.shape[1] <= G.shape[2]
    P = jax.random.normal(s.key.at((t - 1) // update_proj_gap), (k, min(G.shape[1:])), g.real.dtype)
    P = (P / k**0.5).astype(g.dtype)
    R = jnp.einsum("ki,bij->bkj" if wide else "kj,bij->bki", P, G)
    m = b1 * s.mu + (1 - b1) * R
    v = b2 * s.nu + (1 - b2) * build.abs_squared(R)
    step = m / (jnp.sqrt(v) + eps)
    if per_channel:  # a factor for each entry of the longer side
        factor = _ratio(norm_over(step, (1,)), norm_over(R, (1,)))
        factor = factor if wide else jnp.swapaxes(factor, 1, 2)
    else:
        factor = _ratio(norm_over(step, (1, 2)), norm_over(R, (1, 2)))
    u = G * factor.astype(g.dtype)
    before, size = s.norm[:, None, None], norm_over(u, (1, 2))
    limit = growth_limit * before
    too_long = (before > 0) & (size > limit)
    shrink = jnp.where(too_long, limit / jnp.where(size > 0, size, 1), 1)
    norm = jnp.where(too_long, limit, size)[:, 0, 0].astype(s.norm.dtype)
    correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
    u = u * (scale * correction * shrink).astype(g.dtype)
    u = laid(from_stack(u, g.shape, default_axes(g.ndim)), g)
    return u, s._replace(mu=m, nu=v, norm=norm)


@build.recorded
def apollo_mini(
    learning_rate: ScalarOrSchedule,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 128**0.5,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    growth_limit: ScalarOrSchedule = 1.01,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    key: build.Key = 0,
) -> build.Transformation:
    """APOLLO-Mini (Zhu et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      update_proj_gap: the number of steps between two draws of the projection, a positive int.
      scale: multiplies the updates of matrices; a scalar at least 0, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      growth_limit: bounds the norm of a matrix's update relative to the update before; inf for no limit.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      key: an int, or a key of `jax.random`.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import apollo_mini
      >>> tx = apollo_mini(1e-3)
    """
    return chain(
        scale_by_apollo(1, update_proj_gap, scale, b1, b2, eps, growth_limit, key=key),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
