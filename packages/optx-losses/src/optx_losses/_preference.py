"""Losses on preferences between two answers to the same question, of their log-probabilities.

h = (log π(chosen) − log π(rejected)) − (log ref(chosen) − log ref(rejected))

DPO (Rafailov et al., 2023, equation 7):       −log σ(beta·h)
  with label_smoothing ε (Mitchell, 2023):     −(1 − ε)·log σ(beta·h) − ε·log σ(−beta·h)
IPO (Azar et al., 2023, equation 17):          (h − 1 / (2·beta))²
SLiC (Zhao et al., 2023), on the same margin:  max(0, 1 − beta·h)
SimPO (Meng et al., 2024, equation 6):         −log σ(beta·(mean log π(c) − mean log π(r)) − gamma)
ORPO (Hong et al., 2024, equations 6 and 7):   −log σ(log odds(c) − log odds(r))
KTO (Ethayarajh et al., 2024, equation 8), of single answers: weight·(1 − σ(±beta·(r − z)))
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import as_array, as_floats, as_mask, keep, same_shape


def dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: Scalar = 0.1,
    label_smoothing: Scalar = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Direct preference optimization.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape (sums over
        tokens).
      rejected: those of the others, of the same shape.
      reference_chosen: of the preferred answers under the reference, of the same shape.
      reference_rejected: of the others under the reference, of the same shape.
      beta: the strength of the tie to the reference, greater than 0.
      label_smoothing: the probability that a preference is the wrong way round, in [0, 0.5).
      where: which pairs count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each pair, of the same shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dpo_loss
      >>> zero = jnp.zeros(1)
      >>> dpo_loss(jnp.array([10.0]), zero, zero, zero)
      Array([0.3132617], dtype=float32)
    """
    name = "dpo_loss"
    check_number(name, above=0, beta=beta)
    check_number(name, low=0, below=0.5, label_smoothing=label_smoothing)
    h, mask = _margin(name, chosen, rejected, reference_chosen, reference_rejected, where)
    h = h * jnp.asarray(beta, h.dtype)
    share = jnp.asarray(label_smoothing, h.dtype)
    return keep(mask, (1 - share) * jax.nn.softplus(-h) + share * jax.nn.softplus(h))


def ipo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Identity preference optimization: the margin is drawn to 1 / (2·beta), not to infinity.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape.
      rejected: those of the others, of the same shape.
      reference_chosen: of the preferred answers under the reference, of the same shape.
      reference_rejected: of the others under the reference, of the same shape.
      beta: the strength of the tie to the reference, greater than 0.
      where: which pairs count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each pair, of the same shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or `beta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ipo_loss
      >>> zero = jnp.zeros(1)
      >>> ipo_loss(jnp.array([5.0]), zero, zero, zero)
      Array([0.], dtype=float32)
    """
    check_number("ipo_loss", above=0, beta=beta)
    h, mask = _margin("ipo_loss", chosen, rejected, reference_chosen, reference_rejected, where)
    return keep(mask, (h - 0.5 / jnp.asarray(beta, h.dtype)) ** 2)


def slic_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The hinge loss of the preference margin.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape.
      rejected: those of the others, of the same shape.
      reference_chosen: of the preferred answers under the reference, of the same shape.
      reference_rejected: of the others under the reference, of the same shape.
      beta: what the margin is multiplied by, greater than 0.
      where: which pairs count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each pair, of the same shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or `beta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import slic_loss
      >>> zero = jnp.zeros(1)
      >>> slic_loss(jnp.array([5.0]), zero, zero, zero)
      Array([0.5], dtype=float32)
    """
    check_number("slic_loss", above=0, beta=beta)
    h, mask = _margin("slic_loss", chosen, rejected, reference_chosen, reference_rejected, where)
    return keep(mask, jnp.maximum(0, 1 - jnp.asarray(beta, h.dtype) * h))


def simpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    beta: Scalar = 2.0,
    gamma: Scalar = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Simple preference optimization: no reference, and a margin to reach.

    Args:
      chosen: mean log-probability of a token of the preferred answers, of any shape.
      rejected: that of the others, of the same shape.
      beta: what the difference is multiplied by, greater than 0.
      gamma: the margin, at least 0.
      where: which pairs count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each pair, of the same shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import simpo_loss
      >>> simpo_loss(jnp.array([-1.0]), jnp.array([-1.5]))
      Array([0.6931472], dtype=float32)
    """
    name = "simpo_loss"
    check_number(name, above=0, beta=beta)
    check_number(name, low=0, gamma=gamma)
    c, r, mask = _pair(name, chosen, rejected, where)
    h = jnp.asarray(beta, c.dtype) * (c - r) - jnp.asarray(gamma, c.dtype)
    return keep(mask, jax.nn.softplus(-h))


def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The odds-ratio term of ORPO, to be added, weighted, to the likelihood of the chosen answers.

    Args:
      chosen: mean log-probability of a token of the preferred answers, less than 0, of any shape.
      rejected: that of the others, less than 0, of the same shape.
      where: which pairs count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each pair, of the same shape, float32 or wider, at least 0. A log-probability of 0,
      whose odds are infinite, is taken as the next number below.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import orpo_loss
      >>> orpo_loss(jnp.array([-1.0]), jnp.array([-1.0]))
      Array([0.6931472], dtype=float32)
    """
    c, r, mask = _pair("orpo_loss", chosen, rejected, where)

    def log_odds(log_p: jax.Array) -> jax.Array:
        log_p = jnp.minimum(log_p, -jnp.finfo(log_p.dtype).eps)
        return log_p - jnp.log(-jnp.expm1(log_p))

    c, r = keep(mask, c, r, fill=-1)
    return keep(mask, jax.nn.softplus(log_odds(r) - log_odds(c)))


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
    """Kahneman-Tversky optimization: of single answers, each good or bad.

    Args:
      policy: log-probabilities of the answers under the policy, of any shape.
      reference: under the reference, of the same shape.
      desirable: which answers are good, boolean, of the same shape.
      kl: an estimate of the divergence of the policy from the reference, a scalar; it has no gradient
        and counts as 0 where it is negative.
      beta: the strength of the tie to the reference, greater than 0.
      desirable_weight: the weight of good answers, at least 0.
      undesirable_weight: the weight of bad ones, at least 0.
      where: which answers count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each answer, of the same shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers, or `desirable` not boolean.
      ValueError: if the shapes differ, or a number is out of its range.

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
    good = as_array(name, "desirable", desirable)
    if good.dtype != jnp.bool_:
        raise TypeError(f"{name}: desirable must be boolean, not {good.dtype}")
    if z.ndim:
        raise ValueError(f"{name}: kl is {z.shape}; it must be a scalar")
    same_shape(name, policy=p, reference=r, desirable=good)
    mask = as_mask(name, where, p, "the log-probabilities")
    p, r = keep(mask, p, r)
    z = jnp.maximum(lax.stop_gradient(z), 0)
    gain = jnp.asarray(beta, p.dtype) * (p - r - z)
    weight = jnp.where(good, _as(desirable_weight, p), _as(undesirable_weight, p))
    return keep(mask, weight * jax.nn.sigmoid(jnp.where(good, -gain, gain)))


def _as(x: Any, like: jax.Array) -> jax.Array:
    return jnp.asarray(x, like.dtype)


def _pair(
    name: str, chosen: ArrayLike, rejected: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    c, r = as_floats(name, chosen=chosen, rejected=rejected)
    same_shape(name, chosen=c, rejected=r)
    mask = as_mask(name, where, c, "the log-probabilities")
    c, r = keep(mask, c, r)
    return c, r, mask


def _margin(
    name: str,
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array | None]:
    c, r, ref_c, ref_r = as_floats(
        name,
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )
    same_shape(name, chosen=c, rejected=r, reference_chosen=ref_c, reference_rejected=ref_r)
    mask = as_mask(name, where, c, "the log-probabilities")
    c, r, ref_c, ref_r = keep(mask, c, r, ref_c, ref_r)
    return (c - r) - (ref_c - ref_r), mask
