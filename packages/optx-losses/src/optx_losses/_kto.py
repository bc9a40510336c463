"""Kahneman-Tversky optimization of single answers.

r = log π − log ref,   z = max(0, mean r′)
desirable:     loss = weight·(1 − σ(beta·(r − z)))
undesirable:   loss = weight·(1 − σ(beta·(z − r)))

where π and ref are the probabilities of an answer under the policy and the reference, r′ are those ratios
for answers to other prompts, and σ is the sigmoid.

References: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", 2024, section 4.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    as_array,
    as_floats,
    as_mask,
    check_number,
    keep,
    matching,
    same_shape,
)
from optx_losses._rounding import divide


def kto_loss(
    policy: ArrayLike,
    reference: ArrayLike,
    desirable: ArrayLike,
    kl: ArrayLike = 0.0,
    *,
    beta: Scalar = 0.1,
    desirable_weight: Scalar = 1.0,
    undesirable_weight: Scalar = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Kahneman-Tversky optimization of single answers, each desirable or undesirable.

    Args:
      policy: log-probabilities of the answers under the policy, of any shape.
      reference: log-probabilities of the answers under the reference, of the same shape.
      desirable: boolean, which answers are desirable, of the same shape.
      kl: an estimate of the divergence of the policy from the reference, a scalar (`kto_kl`); it has no
        gradient, and a negative estimate is treated as 0.
      beta: the strength of the regularization towards the reference, greater than 0.
      desirable_weight: the weight of desirable answers, at least 0.
      undesirable_weight: the weight of undesirable answers, at least 0.
      where: boolean mask of the same shape; answers that are False give 0.

    Returns:
      The loss of each answer, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers, or `desirable` is not boolean.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kto_loss
      >>> kto_loss(jnp.zeros(2), jnp.zeros(2), jnp.array([True, False]))
      Array([0.5, 0.5], dtype=float32)
    """
    name = "kto_loss"
    check_number(name, above=0, beta=beta)
    check_number(
        name, low=0, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )
    p, r, z = as_floats(name, policy=policy, reference=reference, kl=kl)
    desired = as_array(name, "desirable", desirable)
    if desired.dtype != jnp.bool_:
        raise TypeError(f"{name}: desirable must be boolean, not {desired.dtype}")
    if z.ndim:
        raise ValueError(f"{name}: kl is {z.shape}; it must be a scalar")
    same_shape(name, policy=p, reference=r, desirable=desired)
    mask = as_mask(name, where, p, "the log-probabilities")
    p, r = keep(mask, p, r)
    z = jnp.maximum(lax.stop_gradient(z), 0)
    gain = jnp.asarray(beta, p.dtype) * (p - r - z)
    weight = jnp.where(
        desired, jnp.asarray(desirable_weight, p.dtype), jnp.asarray(undesirable_weight, p.dtype)
    )
    return keep(mask, weight * jax.nn.sigmoid(jnp.where(desired, -gain, gain)))


def kto_kl(policy: ArrayLike, reference: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """The batch's estimate of the divergence of the policy from the reference, for `kto_loss`.

    Args:
      policy: log-probabilities under the policy of answers paired with the prompts of other examples,
        such as those of `jnp.roll(answers, 1, axis=0)`, of any shape.
      reference: those under the reference, of the same shape.
      where: boolean mask of the same shape; answers that are False do not count.

    Returns:
      The mean of policy − reference over all answers, at least 0, a scalar without a gradient.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kto_kl
      >>> kto_kl(jnp.array([-1.0, -2.0]), jnp.array([-2.0, -2.0]))
      Array(0.5, dtype=float32)
    """
    (p, r), mask, _ = matching("kto_kl", where, policy=policy, reference=reference)
    included = jnp.ones(p.shape, bool) if mask is None else mask
    mean = divide(jnp.sum(p - r), jnp.sum(included).astype(p.dtype))
    return lax.stop_gradient(jnp.maximum(mean, 0))
