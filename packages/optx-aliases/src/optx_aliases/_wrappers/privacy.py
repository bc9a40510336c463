"""Differentially private gradients: clipped for each example, summed, noised and averaged.

u = (Σᵢ gᵢ·min(1, l2_norm_clip / ‖gᵢ‖) + l2_norm_clip·noise_multiplier·ε) / B,   ε ~ N(0, 1)

with N the normal distribution and the norm of the whole tree for each of B examples. The clip bounds the
contribution of an example and the noise hides it; an accountant computes the privacy from B, the size of
the data and the number of steps.

Reference: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy",
2016, algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases import per_example_global_norm_clip
from optx_core import (
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    build,
    chain,
    identity,
    scale_by_learning_rate,
    trace,
    tree,
)


class DifferentiallyPrivateAggregateState(NamedTuple):
    """State of `differentially_private_aggregate`.

    Attributes:
      rng_key: the key of the noise to come.
    """

    rng_key: build.Key


@build.recorded
@build.schedulable("l2_norm_clip", "noise_multiplier")
def differentially_private_aggregate(
    l2_norm_clip: ScalarOrSchedule,
    noise_multiplier: ScalarOrSchedule,
    key: Array | int | None = None,
    *,
    seed: int | None = None,
) -> build.Transformation:
    """Aggregates gradients of single examples with differential privacy (Abadi et al., 2016).

    Its incoming updates are one gradient for each example, `jax.vmap(jax.grad(loss), (None, 0))(params,
    batch)`: arrays of shape (B, *shape); it returns one gradient. Nothing before it in a chain may mix
    examples.

    Args:
      l2_norm_clip: C, the largest norm of one example's gradient, greater than 0, or a schedule.
      noise_multiplier: the standard deviation of the noise over C, a scalar at least 0, or a schedule.
      key: a key of `jax.random`, or a seed.
      seed: a seed, in place of `key`.

    Returns:
      A transformation with a `DifferentiallyPrivateAggregateState`. The noise is drawn in at least
      float32, for the real and imaginary parts of complex gradients independently.

    Raises:
      ValueError: if neither or both of `key` and `seed` are given, a number is out of its range, or, from
        `update`, if the gradients have no common leading axis.

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
    build.check_number(where, above=0, l2_norm_clip=l2_norm_clip)
    build.check_number(where, low=0, noise_multiplier=noise_multiplier)
    start = seed if key is None else key
    clip: Any = l2_norm_clip  # schedules have been evaluated
    multiplier: Any = noise_multiplier

    def init(_params: Params) -> DifferentiallyPrivateAggregateState:
        first = jax.random.key(start) if isinstance(start, int) else jnp.copy(start)  # type: ignore[arg-type]
        return DifferentiallyPrivateAggregateState(first)

    def update(
        updates: Updates, state: DifferentiallyPrivateAggregateState, *_params: Any, **_extra: Any
    ) -> tuple[Updates, DifferentiallyPrivateAggregateState]:
        given: list[Any] = jax.tree.leaves(updates)
        structure: Any = jax.tree.structure(updates)
        wide = [jnp.asarray(g).astype(tree.slot_dtype(g)) for g in given]
        totals, _ = per_example_global_norm_clip(wide, clip)
        now, later = jax.random.split(state.rng_key)
        keys = jax.random.split(now, max(len(totals), 1))
        noised = [
            _noised(total, k, clip, multiplier, g)
            for total, k, g in zip(totals, keys, given, strict=False)
        ]
        return structure.unflatten(noised), DifferentiallyPrivateAggregateState(later)

    return build.wrapping(init, update, per_example=True)


def _noised(total: Array, key: Array, clip: Scalar, multiplier: Scalar, given: Any) -> Array:
    real = build.real_dtype(build.at_least_float32(total.dtype))
    deviation = jnp.asarray(clip).astype(real) * jnp.asarray(multiplier).astype(real)
    if jnp.iscomplexobj(total):
        deviation = deviation * math.sqrt(2)  # jax gives each part half of the variance
    noise = jax.random.normal(key, total.shape, total.dtype)
    return ((total + deviation.astype(total.dtype) * noise) / given.shape[0]).astype(given.dtype)


@build.recorded
def dpsgd(
    learning_rate: ScalarOrSchedule,
    l2_norm_clip: ScalarOrSchedule,
    noise_multiplier: ScalarOrSchedule,
    seed: Array | int | None = None,
    momentum: ScalarOrSchedule | None = None,
    nesterov: bool = False,
    *,
    key: Array | int | None = None,
) -> build.Transformation:
    """SGD with differential privacy (Abadi et al., 2016).

    Args:
      learning_rate: a scalar, or a schedule.
      l2_norm_clip, noise_multiplier: as for `differentially_private_aggregate`.
      seed: a seed, or a key of `jax.random`.
      momentum: as for `sgd`; None for none.
      nesterov: whether to use Nesterov's momentum.
      key: a key of `jax.random`, or a seed, in place of `seed`.

    Returns:
      A transformation; its state is that of `chain(differentially_private_aggregate(...), trace(...),
      scale_by_learning_rate(...))`. Its updates are one gradient for each example.

    Raises:
      ValueError: as from `differentially_private_aggregate`, and for `nesterov` without a momentum.

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
    if (key is None) == (seed is None):
        raise ValueError("dpsgd: give a key (or a seed), such as key=0")
    return chain(
        differentially_private_aggregate(
            l2_norm_clip, noise_multiplier, seed if key is None else key
        ),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )
