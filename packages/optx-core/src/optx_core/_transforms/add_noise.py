"""Annealed Gaussian noise.

u = g + σₜ·ε,   σₜ² = eta / (1 + t)^gamma

where ε has independent standard normal entries, σₜ is their standard deviation, and t counts from 0.

Reference: Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks",
2015, equation 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import Params, Scalar, ScalarOrSchedule, build, safe_increment, tree


class AddNoiseState(NamedTuple):
    """State of `add_noise`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      rng_key: the key for the next updates.
    """

    count: build.Count
    rng_key: build.Key


def _leaf(g: jax.Array, key: jax.Array, *, deviation: Scalar) -> jax.Array:
    return g + deviation * jax.random.normal(key, g.shape, g.dtype)


@build.recorded
@build.schedulable("eta", "gamma")
def add_noise(
    eta: ScalarOrSchedule,
    gamma: ScalarOrSchedule,
    key: jax.Array | int | None = None,
    *,
    seed: int | None = None,
) -> build.Transformation:
    """Adds Gaussian noise of decreasing variance eta / (1 + t)^gamma.

    Args:
      eta: variance at the first step, a scalar at least 0, or a schedule.
      gamma: exponent of the decrease, a scalar, or a schedule.
      key: a key of `jax.random`, or a seed.
      seed: a seed, in place of `key`.

    Returns:
      A transformation with an `AddNoiseState`. For complex updates the real and imaginary parts of
      the noise share the variance.

    Raises:
      ValueError: if neither or both of `key` and `seed` are given, or eta is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import add_noise
      >>> tx = add_noise(0.01, 0.55, key=0)
      >>> updates, state = tx.update(jnp.zeros(3), tx.init(jnp.zeros(3)))
      >>> updates.shape
      (3,)
    """
    if (key is None) == (seed is None):
        raise ValueError("add_noise: give a key (or a seed), such as add_noise(eta, gamma, key=0)")
    build.check_number("add_noise", low=0, eta=eta)
    start = seed if key is None else key

    def init(params: Params) -> AddNoiseState:
        del params
        rng_key = jax.random.key(start) if isinstance(start, int) else jnp.copy(start)  # type: ignore[arg-type]
        return AddNoiseState(build.zero_count(), rng_key)

    def step(
        flow: build.Flow, state: AddNoiseState, params: Params = None, **_: Any
    ) -> build.LeafStep:
        del params
        noise_key, next_key = jax.random.split(state.rng_key)
        leaves, structure = build.tree_flatten(flow.skeleton, is_leaf=tree.is_absent)
        keys = jax.random.split(noise_key, max(len(leaves), 1))
        steps = (1 + state.count).astype(jnp.float32)
        return build.LeafStep(
            _leaf,
            reads=(structure.unflatten([keys[k] for k in range(len(leaves))]),),
            close=lambda: AddNoiseState(safe_increment(state.count), next_key),
            operands={"deviation": jnp.sqrt(jnp.asarray(eta) / steps ** jnp.asarray(gamma))},
        )

    return build.leafwise(step, init)
