"""Gradient descent with annealed Gaussian noise: u = g + σₜ·ε,  σₜ² = eta / (1 + t)^gamma.

The noise is made where it is added, entry by entry, from the key and the entry's number (threefry), so
that it is never written to memory and does not depend on how an array is laid out over devices.

References: Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks",
2015, equation 1; Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (threefry).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import (
    AddNoiseState,
    GradientTransformationExtraArgs,
    Params,
    Scalar,
    ScalarOrSchedule,
    add_noise,
    chain,
    safe_increment,
    scale_by_learning_rate,
)
from optx_core.build import Flow, LeafStep, check_number, leafwise, recorded, schedulable

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _leaf(g: jax.Array, seed: jax.Array, *, deviation: Scalar) -> jax.Array:
    if not jnp.iscomplexobj(g):
        return g + deviation * _normal(seed, g)
    real, imaginary = _normal(seed, g.real), _normal(seed + jnp.uint32(1), g.real)
    return g + deviation * jnp.sqrt(0.5) * jax.lax.complex(real, imaginary)


def _normal(seed: jax.Array, like: jax.Array) -> jax.Array:
    """Standard normal numbers of the shape and dtype of an array, from two words of seed."""
    number = jnp.zeros_like(like, jnp.uint32)
    stride = 1
    for axis in reversed(range(like.ndim)):
        along = jax.lax.broadcasted_iota(jnp.uint32, like.shape, axis)
        number = number + jnp.uint32(stride % 2**32) * along
        stride *= like.shape[axis]
    bits, _ = _threefry(seed, number)
    # The middle of one of 2²³ intervals of (−1, 1): never an end, where the inverse is infinite.
    uniform = ((bits >> 9).astype(like.dtype) + 0.5) * 2.0**-22 - 1.0
    return jnp.sqrt(jnp.asarray(2.0, like.dtype)) * jax.lax.erf_inv(uniform)


def _threefry(seed: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds, of the counter (number, 0)."""
    keys = (seed[0], seed[1], seed[0] ^ seed[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = number + keys[0], jnp.zeros_like(number) + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return x, y


@recorded
@schedulable("eta", "gamma")
def _add_fused_noise(
    eta: ScalarOrSchedule, gamma: ScalarOrSchedule, key: Any, seed: Any
) -> GradientTransformationExtraArgs:
    """`add_noise`, its state too, without the noise in memory."""
    check_number("noisy_sgd", low=0, eta=eta)
    check_number("noisy_sgd", gamma=gamma)

    def step(flow: Flow, state: AddNoiseState, params: Params = None, **_: Any) -> LeafStep:
        del params
        now, later = jax.random.split(state.rng_key)
        structure: Any = jax.tree.structure(flow.skeleton)
        count = structure.num_leaves
        words = jax.random.bits(now, (max(count, 1), 2), jnp.uint32)
        steps = (1 + state.count).astype(jnp.float32)
        return LeafStep(
            _leaf,
            reads=(structure.unflatten([words[k] for k in range(count)]),),
            close=lambda: AddNoiseState(safe_increment(state.count), later),
            operands={"deviation": jnp.sqrt(jnp.asarray(eta) / steps ** jnp.asarray(gamma))},
        )

    return leafwise(step, add_noise(eta, gamma, key, seed=seed).init)


@recorded
def noisy_sgd(
    learning_rate: ScalarOrSchedule,
    eta: ScalarOrSchedule = 0.01,
    gamma: ScalarOrSchedule = 0.55,
    key: jax.Array | int | None = None,
    *,
    seed: int | None = None,
) -> GradientTransformationExtraArgs:
    """Gradient descent with annealed noise (Neelakantan et al., 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      eta: variance of the noise at the first step, a scalar at least 0, or a schedule.
      gamma: exponent of its decrease, a scalar, or a schedule.
      key: a key of `jax.random`, or a seed; 0 by default.
      seed: a seed, in place of `key`.

    Returns:
      A transformation. Complex parameters get noise whose real and imaginary parts share the
      variance.

    Raises:
      ValueError: if both of `key` and `seed` are given, or a number is out of its range.

    Example:
      >>> from optx_aliases import noisy_sgd
      >>> tx = noisy_sgd(0.1, key=7)
    """
    if key is None and seed is None:
        key = 0
    return chain(_add_fused_noise(eta, gamma, key, seed), scale_by_learning_rate(learning_rate))
