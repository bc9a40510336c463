"""Gradient descent with annealed Gaussian noise.

u = g + σₜ·ε,   σₜ² = eta / (1 + t)^gamma

where ε has independent standard normal entries, σₜ is their standard deviation, and t counts from 0. The
noise is generated where it is added, entry by entry, from the key and the entry's index (threefry), so that
it is never written to memory and does not depend on the array's layout over devices.

References: Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks",
2015, equation 1; Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (threefry).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_core import (
    AddNoiseState,
    ScalarOrSchedule,
    add_noise,
    build,
    chain,
    safe_increment,
    scale_by_learning_rate,
)

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _leaf(g: Array, seed: Array, *, deviation: Array) -> Array:
    if not jnp.iscomplexobj(g):
        return g + deviation * _normal(seed, g)
    real, imaginary = _normal(seed, g.real), _normal(seed + jnp.uint32(1), g.real)
    return g + deviation * jnp.sqrt(0.5) * lax.complex(real, imaginary)


def _normal(seed: Array, like: Array) -> Array:
    """Standard normal numbers of the shape and dtype of an array, from a seed of two words."""
    number = jnp.zeros_like(like, jnp.uint32)
    stride = 1
    for axis in reversed(range(like.ndim)):
        index = lax.broadcasted_iota(jnp.uint32, like.shape, axis)
        number = number + jnp.uint32(stride % 2**32) * index
        stride *= like.shape[axis]
    bits, _ = _threefry(seed, number)
    # The midpoint of one of 2²³ intervals of (−1, 1): never ±1, where the inverse is infinite.
    uniform = ((bits >> 9).astype(like.dtype) + 0.5) * 2.0**-22 - 1.0
    return jnp.sqrt(jnp.asarray(2.0, like.dtype)) * lax.erf_inv(uniform)


def _threefry(seed: Array, number: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds, applied to the counter (number, 0)."""
    keys = (seed[0], seed[1], seed[0] ^ seed[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = number + keys[0], jnp.zeros_like(number) + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return x, y


@build.recorded
@build.schedulable("eta", "gamma")
def _add_fused_noise(eta: Any, gamma: Any, key: Any, seed: Any) -> build.Transformation:
    """`add_noise` with the same state, without the noise in memory."""
    build.check_number("noisy_sgd", low=0, eta=eta)
    build.check_number("noisy_sgd", gamma=gamma)

    def step(flow: build.Flow, state: AddNoiseState, *_: Any, **__: Any) -> build.LeafStep:
        now, later = jax.random.split(state.rng_key)
        structure: Any = jax.tree.structure(flow.skeleton)
        count = structure.num_leaves
        seeds = jax.random.bits(now, (max(count, 1), 2), jnp.uint32)
        t = (1 + state.count).astype(jnp.float32)
        return build.LeafStep(
            _leaf,
            reads=(structure.unflatten([seeds[k] for k in range(count)]),),
            close=lambda: AddNoiseState(safe_increment(state.count), later),
            operands={"deviation": jnp.sqrt(jnp.asarray(eta) / t ** jnp.asarray(gamma))},
        )

    return build.leafwise(step, add_noise(eta, gamma, key, seed=seed).init)


@build.recorded
def noisy_sgd(
    learning_rate: ScalarOrSchedule,
    eta: ScalarOrSchedule = 0.01,
    gamma: ScalarOrSchedule = 0.55,
    key: Array | int | None = None,
    *,
    seed: int | None = None,
) -> build.Transformation:
    """Gradient descent with annealed noise (Neelakantan et al., 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      eta: variance of the noise at the first step, a scalar at least 0, or a schedule.
      gamma: exponent of the variance's decay, a scalar, or a schedule.
      key: a key of `jax.random`, or a seed; 0 by default.
      seed: a seed, in place of `key`.

    Returns:
      A transformation. For complex parameters, the variance is split evenly between the real and
      imaginary parts of the noise.

    Raises:
      ValueError: if both `key` and `seed` are given, or a number is out of its range.

    Example:
      >>> from optx_aliases import noisy_sgd
      >>> tx = noisy_sgd(0.1, key=7)
    """
    if key is None and seed is None:
        key = 0
    return chain(_add_fused_noise(eta, gamma, key, seed), scale_by_learning_rate(learning_rate))
