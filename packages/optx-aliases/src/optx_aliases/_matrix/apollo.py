"""APOLLO-Mini: SGD whose learning rate for each matrix comes from Adam on one random direction.

R = P·G,   P random, rank × (the shorter side), entries N(0, 1/rank), drawn anew every update_proj_gap
m ← b1·m + (1 − b1)·R,   v ← b2·v + (1 − b2)·R²,   R̃ = m̂ / (√v̂ + eps)
u = scale·(‖R̃‖ / ‖R‖)·G         one factor for the whole matrix (for each channel with per_channel)
u ← u·min(1, growth_limit·‖u₋₁‖ / ‖u‖)      u₋₁ the update before

P is never stored: its key is, so that a matrix of m × n, m ≤ n, keeps 2·rank·n numbers and one
norm. Leaves that are no matrices are Adam's. The paper's code keeps the moments when P is drawn anew;
so do we. There the bias correction multiplies the learning rate, as here, up to the place of eps.

Reference: Zhu, Zhang, Cong, Liu, Park, Chandra, Long, Pan, Wang, Lee, "APOLLO: SGD-like Memory,
AdamW-level Performance", 2024, algorithm 1 and section 4.2 (Mini: rank 1, scale √128).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._matrix.explicit_mesh import on_whole_arrays
from optx_aliases._matrix.matrices import default_axes, from_stack, is_stack, to_stack
from optx_aliases._matrix.matrix_slots import slots_from, stack_of
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    add_decayed_weights,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByApolloState(NamedTuple):
    """State of `scale_by_apollo`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      key: the key of `jax.random` that the projections are drawn from.
      mu: m of each leaf, (batch, rank, longer side); of its shape where it is Adam's.
      nu: v, likewise; real where the parameters are complex.
      norm: ‖u₋₁‖ of each leaf, a real scalar.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    key: jax.Array
    mu: PyTree
    nu: PyTree
    norm: PyTree


def _norm(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    """The Euclidean norm, with the derivative 0 at 0 and no overflow."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x))) if x.size else jnp.ones((), x.real.dtype)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    total = jnp.sum(tree.abs_squared(x / unit.astype(x.dtype)), axis=axis, keepdims=keepdims)
    zero = total == 0
    return unit * jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, total)))


def _ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1), 0)


@on_whole_arrays
def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    norm: jax.Array,
    index: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    scale: Scalar,
    growth_limit: Scalar,
    count: jax.Array,
    key: jax.Array,
    update_proj_gap: int,
    per_channel: bool,
) -> tuple[jax.Array, ...]:
    whole = mu.shape == g.shape
    r = g
    if not whole:
        axes = default_axes(g.ndim)
        G = to_stack(g, axes)
        wide = G.shape[1] <= G.shape[2]
        drawn = jax.random.fold_in(jax.random.fold_in(key, (count - 1) // update_proj_gap), index)
        P = jax.random.normal(drawn, (mu.shape[1], min(G.shape[1:])), g.real.dtype)
        P = (P / mu.shape[1] ** 0.5).astype(g.dtype)
        r = P[None] @ G if wide else P[None] @ jnp.swapaxes(G, 1, 2)
    mu = b1.value * mu + b1.complement * r
    nu = b2.value * nu + b2.complement * tree.abs_squared(r)
    step = mu / bias_correction(b1, count)
    step = step / (jnp.sqrt(nu / bias_correction(b2, count)) + eps)
    if whole:
        return step, mu, nu, norm
    if per_channel:  # a factor for each entry of the longer side
        factor = _ratio(_norm(step, 1, keepdims=True), _norm(r, 1, keepdims=True))
        u = G * (factor if wide else jnp.swapaxes(factor, 1, 2)).astype(g.dtype)
    else:
        u = G * _ratio(_norm(step), _norm(r)).astype(g.dtype)
    size = _norm(u)
    limit = growth_limit * norm
    too_long = (norm > 0) & (size > limit)
    factor = jnp.where(too_long, limit / jnp.where(size > 0, size, 1), 1)
    size = jnp.where(too_long, limit, size)
    u = from_stack(u * (scale * factor).astype(g.dtype), g.shape, axes)
    return u, mu, nu, size.astype(norm.dtype)


@recorded
@schedulable("b1", "b2", "eps", "scale", "growth_limit")
def scale_by_apollo(
    rank: int = 1,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 128**0.5,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    growth_limit: ScalarOrSchedule = 1.01,
    per_channel: bool = False,
    key: Any = 0,
) -> GradientTransformationExtraArgs:
    """Scales each matrix by how much Adam would scale a random projection of it.

    With the defaults APOLLO-Mini, whose state is about that of plain gradient descent; with
    `rank=256`, `per_channel=True` and `scale=1.0` APOLLO.

    Args:
      rank: the number of random directions, a positive int.
      update_proj_gap: after how many steps they are drawn anew, a positive int.
      scale: multiplies the updates of matrices; a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      growth_limit: a matrix's update is at most this times as long as the one before; inf for no limit.
      per_channel: whether each entry of the longer side has a factor of its own.
      key: an int, or a key of `jax.random`.

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
    check_number("scale_by_apollo", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_apollo", low=0, eps=eps, scale=scale, growth_limit=growth_limit)
    for name, value in (("rank", rank), ("update_proj_gap", update_proj_gap)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"scale_by_apollo: {name} must be a positive int, not {value!r}")

    def init(params: Params) -> ScaleByApolloState:
        def moments(real: bool) -> PyTree:
            def slot(p: jax.Array) -> jax.Array:
                zeros = jnp.zeros_like(p, dtype=tree.slot_dtype(p, real=real))
                if not is_stack(p.shape):
                    return zeros
                stack = stack_of(zeros)
                longer = stack.sum(1) if stack.shape[1] <= stack.shape[2] else stack.sum(2)
                k = min(rank, *stack.shape[1:])
                return jnp.broadcast_to(longer[:, None], (len(longer), k, longer.shape[1]))

            return slots_from(slot, params)

        def zero(p: jax.Array) -> jax.Array:
            return jnp.zeros((), tree.slot_dtype(p, real=True))

        start = jax.random.key(key) if isinstance(key, int) else jnp.copy(key)
        return ScaleByApolloState(
            zero_count(), start, moments(False), moments(True), slots_from(zero, params)
        )

    def step(flow: Flow, state: ScaleByApolloState, params: Params = None, **_: Any) -> LeafStep:
        del params
        count = safe_increment(state.count)
        leaves, structure = tree.flatten(flow.skeleton)
        numbers = [jnp.asarray(k, jnp.int32) for k in range(len(leaves))]
        return LeafStep(
            _leaf,
            reduced=(state.mu, state.nu, state.norm),
            reads=(structure.unflatten(numbers),),
            close=lambda *slots: ScaleByApolloState(count, state.key, *slots),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "scale": scale,
                "growth_limit": growth_limit,
                "count": count,
                "key": state.key,
                "update_proj_gap": update_proj_gap,
                "per_channel": per_channel,
            },
        )

    return leafwise(step, init)


@recorded
def apollo_mini(
    learning_rate: ScalarOrSchedule,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 128**0.5,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    growth_limit: ScalarOrSchedule = 1.01,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    key: Any = 0,
) -> GradientTransformationExtraArgs:
    """APOLLO-Mini (Zhu et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      update_proj_gap: after how many steps the random direction is drawn anew, a positive int.
      scale: multiplies the updates of matrices; a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      growth_limit: a matrix's update is at most this times as long as the one before.
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
