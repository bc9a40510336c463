"""Relatives of DPO, given the log-probabilities of two answers to the same prompt.

a = log π(chosen) − log ref(chosen),   b = log π(rejected) − log ref(rejected),   h = a − b

robust:     loss = [−(1 − ε)·log σ(beta·h) + ε·log σ(−beta·h)] / (1 − 2·ε)
EXO:        loss = KL of (σ(beta·h), σ(−beta·h)) from (1 − ε, ε)
NCA:        loss = −log σ(beta·a) − [log σ(−beta·a) + log σ(−beta·b)] / 2
SPPO:       loss = (a − 1 / (2·beta))² + (b + 1 / (2·beta))²
APO-zero:   loss = 1 − σ(beta·a) + σ(beta·b)
APO-down:   loss = σ(beta·a) + 1 − σ(beta·h)

where π and ref are the probabilities under the policy and the reference, σ is the sigmoid, and ε is
`label_smoothing`.

References: Chowdhury et al., "Provably Robust DPO", 2024, equation 12; Ji et al., "Towards Efficient Exact
Optimization of Language Model Alignment", 2024, for pairs (EXO); Chen et al., "Noise Contrastive
Alignment", 2024, for pairs (NCA); Wu et al., "Self-Play Preference Optimization", 2024, with hard labels
(SPPO); D'Oosterlinck et al., "Anchored Preference Optimization", 2024, equations 5 and 6 (APO).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import check_number, keep
from optx_losses._preference import log_ratios
from optx_losses._rounding import not_negative

softplus, sigmoid = jax.nn.softplus, jax.nn.sigmoid


def robust_dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    label_smoothing: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """DPO with an unbiased correction for flipped preference labels.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      label_smoothing: ε, the probability that a preference label is flipped, in [0, 0.5).
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, which may be negative.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import robust_dpo_loss
      >>> zero = jnp.zeros(1)
      >>> robust_dpo_loss(zero, zero, label_smoothing=0.25)
      Array([0.6931472], dtype=float32)
    """
    name = "robust_dpo_loss"
    check_number(name, low=0, below=0.5, label_smoothing=label_smoothing)
    a, b, beta, mask = log_ratios(
        name, chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    h, share = beta * (a - b), jnp.asarray(label_smoothing, a.dtype)
    return keep(mask, ((1 - share) * softplus(-h) - share * softplus(h)) / (1 - 2 * share))


def exo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    label_smoothing: Scalar = 1e-3,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Exact optimization: the reverse divergence of the policy's preference from the smoothed label.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      label_smoothing: ε, the probability of the rejected answer under the label, in (0, 0.5).
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import exo_loss
      >>> zero = jnp.zeros(1)
      >>> exo_loss(zero, zero, label_smoothing=0.25)
      Array([0.14384103], dtype=float32)
    """
    name = "exo_loss"
    check_number(name, above=0, below=0.5, label_smoothing=label_smoothing)
    a, b, beta, mask = log_ratios(
        name, chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    h, share = beta * (a - b), jnp.asarray(label_smoothing, a.dtype)
    for_chosen = sigmoid(h) * (-softplus(-h) - jnp.log1p(-share))
    for_rejected = sigmoid(-h) * (-softplus(h) - jnp.log(share))
    return keep(mask, not_negative(for_chosen + for_rejected))


def nca_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Noise contrastive alignment: the likelihood of both answers is anchored, not their margin alone.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import nca_loss
      >>> zero = jnp.zeros(1)
      >>> nca_loss(zero, zero)
      Array([1.3862944], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "nca_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    a, b = beta * a, beta * b
    return keep(mask, softplus(-a) + 0.5 * (softplus(a) + softplus(b)))


def sppo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Self-play preference optimization, with hard labels.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sppo_loss
      >>> zero = jnp.zeros(1)
      >>> sppo_loss(zero + 5, zero - 5)
      Array([0.], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "sppo_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    target = 0.5 / beta
    return keep(mask, (a - target) ** 2 + (b + target) ** 2)


def apo_zero_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Anchored preference optimization: the likelihood of the chosen answer rises, that of the other falls.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import apo_zero_loss
      >>> zero = jnp.zeros(1)
      >>> apo_zero_loss(zero, zero)
      Array([1.], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "apo_zero_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    return keep(mask, sigmoid(-beta * a) + sigmoid(beta * b))


def apo_down_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike | None = None,
    reference_rejected: ArrayLike | None = None,
    *,
    beta: Scalar = 0.1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Anchored preference optimization where the chosen answers are worse than the policy's own.

    Args:
      chosen, rejected, reference_chosen, reference_rejected, beta: as for `dpo_loss`.
      where: boolean mask of the same shape; pairs that are False give 0.

    Returns:
      The loss of each pair, of the same shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import apo_down_loss
      >>> zero = jnp.zeros(1)
      >>> apo_down_loss(zero, zero)
      Array([1.], dtype=float32)
    """
    a, b, beta, mask = log_ratios(
        "apo_down_loss", chosen, rejected, reference_chosen, reference_rejected, beta, where
    )
    return keep(mask, sigmoid(beta * a) + sigmoid(-beta * (a - b)))
