"""Losses on preferences between two answers to the same prompt, given their log-probabilities.

h = (log π(chosen) − log π(rejected)) − (log ref(chosen) − log ref(rejected))

DPO (Rafailov et al., 2023, equation 7):       −log σ(beta·h)
  with label_smoothing ε (Mitchell, 2023):     −(1 − ε)·log σ(beta·h) − ε·log σ(−beta·h)
IPO (Azar et al., 2023, equation 17):          (h − 1 / (2·beta))²
SLiC (Zhao et al., 2023), on the same margin:  max(0, 1 − beta·h)
SimPO (Meng et al., 2024, equation 6):         −log σ(beta·(mean log π(c) − mean log π(r)) − gamma)
ORPO (Hong et al., 2024, equations 6 and 7):   −log σ(log odds(c) − log odds(r))

Without a reference, log ref is 0. `_preference_variants.py` and `_kto.py` hold the others.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import check_number, check_together, keep, matching


def dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    label_smoothing: Scalar = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Direct preference optimization.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape: sums over their
        tokens, or means for a loss that is normalized by the lengths (`answer_log_probs`).
      rejected: log-probabilities of the other answers under the policy, of the same shape.
      reference_chosen: log-probabilities of the preferred answers under the reference, of the same
        shape; None, as `reference_rejected`, for a loss without a reference.
      reference_rejected: log-probabilities of the other answers under the reference, of the same shape.
      beta: the strength of the regularization towards the reference, greater than 0.
      label_smoothing: the probability that a preference label is flipped, in [0, 0.5).
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dpo_loss
      >>> zero = jnp.zeros(1)
      >>> dpo_loss(jnp.array([10.0]), zero, zero, zero)
      Array([0.3132617], dtype=float32)
    """
    name = "dpo_loss"
    check_number(name, low=0, below=0.5, label_smoothing=label_smoothing)
    a, b, beta, mask = log_ratios(
        name, chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    return keep(mask, logistic((a - b) * beta, label_smoothing))


def ipo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Identity preference optimization: the margin is driven to 1 / (2·beta), not to infinity.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape.
      rejected: log-probabilities of the other answers under the policy, of the same shape.
      reference_chosen: log-probabilities of the preferred answers under the reference, of the same
        shape; None, as `reference_rejected`, for a loss without a reference.
      reference_rejected: log-probabilities of the other answers under the reference, of the same shape.
      beta: the strength of the regularization towards the reference, greater than 0.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or `beta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ipo_loss
      >>> zero = jnp.zeros(1)
      >>> ipo_loss(jnp.array([5.0]), zero, zero, zero)
      Array([0.], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "ipo_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    return keep(mask, (a - b - 0.5 / beta) ** 2)


def slic_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The hinge loss of the preference margin.

    Args:
      chosen: log-probabilities of the preferred answers under the policy, of any shape.
      rejected: log-probabilities of the other answers under the policy, of the same shape.
      reference_chosen: log-probabilities of the preferred answers under the reference, of the same
        shape; None, as `reference_rejected`, for a loss without a reference.
      reference_rejected: log-probabilities of the other answers under the reference, of the same shape.
      beta: the factor of the margin, greater than 0.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or `beta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import slic_loss
      >>> zero = jnp.zeros(1)
      >>> slic_loss(jnp.array([5.0]), zero, zero, zero)
      Array([0.5], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "slic_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    return keep(mask, jnp.maximum(0, 1 - beta * (a - b)))


def simpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    beta: Scalar = 2.0,
    gamma: Scalar = 1.0,
    label_smoothing: Scalar = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Simple preference optimization: without a reference, with a target margin.

    Args:
      chosen: mean log-probabilities per token of the preferred answers, of any shape
        (`answer_log_probs` with reduction "mean").
      rejected: mean log-probabilities per token of the other answers, of the same shape.
      beta: the factor of the difference, greater than 0.
      gamma: the target margin, at least 0.
      label_smoothing: the probability that a preference label is flipped, in [0, 0.5).
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import simpo_loss
      >>> simpo_loss(jnp.array([-1.0]), jnp.array([-1.5]))
      Array([0.6931472], dtype=float32)
    """
    name = "simpo_loss"
    check_number(name, above=0, beta=beta)
    check_number(name, low=0, gamma=gamma)
    check_number(name, low=0, below=0.5, label_smoothing=label_smoothing)
    c, r, mask = _pair(name, chosen, rejected, where)
    h = jnp.asarray(beta, c.dtype) * (c - r) - jnp.asarray(gamma, c.dtype)
    return keep(mask, logistic(h, label_smoothing))


def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The odds-ratio term of ORPO, which is added with a weight to the likelihood of the chosen answers.

    Args:
      chosen: mean log-probabilities per token of the preferred answers, less than 0, of any shape
        (`answer_log_probs` with reduction "mean").
      rejected: mean log-probabilities per token of the other answers, less than 0, of the same shape.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0. A rejected answer with
      log-probability 0, whose odds are infinite, is treated as that of the next smaller probability,
      and its pair has no gradient.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import orpo_loss
      >>> orpo_loss(jnp.array([-1.0]), jnp.array([-1.0]))
      Array([0.6931472], dtype=float32)
    """
    c, r, mask = _pair("orpo_loss", chosen, rejected, where)
    return keep(mask, _odds_ratio_loss(*keep(mask, c, r, fill=-1)))


@jax.custom_jvp
def _odds_ratio_loss(c: jax.Array, r: jax.Array) -> jax.Array:
    """−log σ(log odds(c) − log odds(r)) of log-probabilities."""
    least = -jnp.finfo(c.dtype).tiny
    c, r = jnp.minimum(c, least), jnp.minimum(r, least)
    log_odds_c = c - jnp.log(-jnp.expm1(c))
    log_odds_r = r - jnp.log(-jnp.expm1(r))
    return jax.nn.softplus(log_odds_r - log_odds_c)


@_odds_ratio_loss.defjvp
def _odds_ratio_loss_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # With p = exp c, q = exp r and D = p·(1 − q) + q·(1 − p):
    # dloss/dc = −q / D,   dloss/dr = q·(1 − p) / ((1 − q)·D),   without a pole at p = 1.
    c, r = primals
    dc, dr = tangents
    possible = r < 0
    r_inner = jnp.where(possible, r, -1)
    top = lax.stop_gradient(jnp.maximum(c, r_inner))
    top = jnp.where(jnp.isfinite(top), top, 0)
    p, q = jnp.exp(c - top), jnp.exp(r_inner - top)
    not_p, not_q = -jnp.expm1(c), -jnp.expm1(r_inner)
    ratio = q / (p * not_q + q * not_p)
    tangent = ratio * (not_p / not_q * dr - dc)
    return _odds_ratio_loss(c, r), jnp.where(possible, tangent, 0)


def logistic(h: jax.Array, label_smoothing: Scalar) -> jax.Array:
    """−(1 − ε)·log σ(h) − ε·log σ(−h)."""
    share = jnp.asarray(label_smoothing, h.dtype)
    return (1 - share) * jax.nn.softplus(-h) + share * jax.nn.softplus(h)


def _pair(
    name: str, chosen: ArrayLike, rejected: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    (c, r), mask, _ = matching(name, where, chosen=chosen, rejected=rejected)
    return c, r, mask


def log_ratios(
    name: str,
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None,
    reference_rejected: ArrayLike | None,
    beta: Scalar,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """log π − log ref of both answers, log π without a reference; beta in their dtype; and the mask."""
    check_number(name, above=0, beta=beta)
    check_together(name, reference_chosen=reference_chosen, reference_rejected=reference_rejected)
    if reference_chosen is None or reference_rejected is None:
        c, r, mask = _pair(name, chosen, rejected, where)
        return c, r, jnp.asarray(beta, c.dtype), mask
    (c, r, ref_c, ref_r), mask, _ = matching(
        name,
        where,
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )
    return c - ref_c, r - ref_r, jnp.asarray(beta, c.dtype), mask
