"""Differentially private gradients: each example's clipped, the sum noised, then averaged.

u = (Σᵢ gᵢ·min(1, l2_norm_clip / ‖gᵢ‖) + l2_norm_clip·noise_multiplier·ε) / B,   ε ~ N(0, 1)

with the norm of the whole tree for each of B examples. What an example can contribute is bounded, and the
noise hides it; how much privacy that is, an accountant says, from B, the size of the data and the number
of steps.

Reference: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy",
2016, algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases import per_example_global_norm_clip
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    chain,
    identity,
    scale_by_learning_rate,
    trace,
    tree,
)
from optx_core.build import (
    at_least_float32,
    check_number,
    real_dtype,
    recorded,
    schedulable,
    wrapping,
)


class DifferentiallyPrivateAggregateState(NamedTuple):
    """State of `differentially_private_aggregate`.

    Attributes:
      rng_key: the key of the noise to come.
    """

    rng_key: jax.Array


@recorded
@schedulable("l2_norm_clip", "noise_multiplier")
def differentially_private_aggregate(
    l2_norm_clip: ScalarOrSchedule,
    noise_multiplier: ScalarOrSchedule,
    key: jax.Array | int | None = None,
    *,
    seed: int | None = None,
) -> GradientTransformationExtraArgs:
    """Aggregates gradients of single examples with differential privacy (Abadi et al., 2016).

    Its updates are one gradient for each example, `jax.vmap(jax.grad(loss), (None, 0))(params, batch)`:
    arrays of shape (B, *shape). They come out as one gradient. Give no noise to what makes them small
    beforehand, and put nothing before it that mixes examples.

    Args:
      l2_norm_clip: C, the largest norm of one example's gradient, greater than 0, or a schedule.
      noise_multiplier: the noise's standard deviation over C, a scalar at least 0, or a schedule.
      key: a key of `jax.random`, or a seed.
      seed: a seed, in place of `key`.

    Returns:
      A transformation with a `DifferentiallyPrivateAggregateState`. The noise is drawn in at least
      float32; each of the real and imaginary parts of complex gradients gets its own.

    Raises:
      ValueError: if neither or both of `key` and `seed` are given, a number is out of its range, or, from
        `update`, gradients have no common leading axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import differentially_private_aggregate
      >>> tx = differentially_private_aggregate(1.0, noise_multiplier=0.0, key=0)
      >>> tx.update(jnp.array([[0.0, 4.0], [0.5, 0.0]]), tx.init(None))[0]
      Array([0.25, 0.5 ], dtype=float32)
    """
    where = "differentially_private_aggregate"
    if (key is None) == (seed is None):
        raise ValueError(f"{where}: give a key (or a seed), such as key=0")
    check_number(where, above=0, l2_norm_clip=l2_norm_clip)
    check_number(where, low=0, noise_multiplier=noise_multiplier)
    start = seed if key is None else key
    clip: Any = l2_norm_clip  # schedules have been evaluated
    multiplier: Any = noise_multiplier

    def init(params: Params) -> DifferentiallyPrivateAggregateState:
        del params
        made = jax.random.key(start) if isinstance(start, int) else jnp.copy(start)  # type: ignore[arg-type]
        return DifferentiallyPrivateAggregateState(made)

    def update(
        updates: Updates,
        state: DifferentiallyPrivateAggregateState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, DifferentiallyPrivateAggregateState]:
        del params, extra_args
        given: list[Any] = jax.tree.leaves(updates)
        structure: Any = jax.tree.structure(updates)
        wide = [jnp.asarray(g).astype(tree.slot_dtype(g)) for g in given]
        totals, _ = per_example_global_norm_clip(wide, clip)
        now, later = jax.random.split(state.rng_key)
        keys = jax.random.split(now, max(len(totals), 1))
        made = [
            _noised(total, k, clip, multiplier, g)
            for total, k, g in zip(totals, keys, given, strict=False)
        ]
        return structure.unflatten(made), DifferentiallyPrivateAggregateState(later)

    return wrapping(init, update, per_example=True)


def _noised(
    total: jax.Array, key: jax.Array, clip: Scalar, multiplier: Scalar, given: Any
) -> jax.Array:
    real = real_dtype(at_least_float32(total.dtype))
    deviation = jnp.asarray(clip).astype(real) * jnp.asarray(multiplier).astype(real)
    if jnp.iscomplexobj(total):
        deviation = deviation * math.sqrt(2)  # jax gives each part half of the variance
    noise = jax.random.normal(key, total.shape, total.dtype)
    return ((total + deviation.astype(total.dtype) * noise) / given.shape[0]).astype(given.dtype)


@recorded
def dpsgd(
    learning_rate: ScalarOrSchedule,
    l2_norm_clip: ScalarOrSchedule,
    noise_multiplier: ScalarOrSchedule,
    seed: jax.Array | int,
    momentum: ScalarOrSchedule | None = None,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """SGD with differential privacy (Abadi et al., 2016).

    Args:
      learning_rate: a scalar, or a schedule.
      l2_norm_clip: the largest norm of one example's gradient, greater than 0, or a schedule.
      noise_multiplier: the noise's standard deviation over `l2_norm_clip`, a scalar at least 0, or a
        schedule.
      seed: a seed, or a key of `jax.random`.
      momentum: as for `sgd`; None for none.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation; its state is that of `chain(differentially_private_aggregate(...), trace(...),
      scale_by_learning_rate(...))`. Its updates are one gradient for each example.

    Raises:
      ValueError: as from `differentially_private_aggregate`, and if Nesterov's momentum is asked for
        without a momentum.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import dpsgd
      >>> tx, p = dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=1.1, seed=0), jnp.ones(2)
      >>> loss = lambda p, x: jnp.sum((p - x) ** 2)
      >>> grads = jax.vmap(jax.grad(loss), (None, 0))(p, jnp.zeros((8, 2)))
      >>> updates, state = tx.update(grads, tx.init(p), p)
      >>> updates.shape
      (2,)
    """
    if nesterov and momentum is None:
        raise ValueError("dpsgd: nesterov=True needs a momentum, such as momentum=0.9")
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )
