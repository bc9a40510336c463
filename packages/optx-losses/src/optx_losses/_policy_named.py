"""The policy losses of papers, as settings of `policy_loss`.

References: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, equation 7 (PPO); Shao et al.,
"DeepSeekMath", 2024, equation 3 (GRPO); Liu et al., "Understanding R1-Zero-Like Training", 2025, section 3
(Dr.GRPO); Yu et al., "DAPO", 2025, equation 8; Zheng et al., "Group Sequence Policy Optimization", 2025,
equations 5 and 7; MiniMax, "MiniMax-M1", 2025, equations 4 and 5 (CISPO); Gao et al., "Soft Adaptive Policy
Optimization", 2025.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import as_pair, check_number
from optx_losses._policy import Clip, clipped, policy_objective


def ppo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = 0.2,
    dual_clip: Scalar | None = None,
    entropy: ArrayLike | None = None,
    entropy_coefficient: Scalar | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Proximal policy optimization: `policy_loss` with the ratios of tokens and the mean over all tokens.

    Args:
      log_probs, old_log_probs, advantages: as for `policy_loss`.
      clip: ε.
      dual_clip, entropy, entropy_coefficient, where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import ppo_loss
      >>> log_probs, advantages = jnp.array([[-1.0, -2.0]]), jnp.array([[1.0, 3.0]])
      >>> ppo_loss(log_probs, log_probs, advantages)
      Array(-2., dtype=float32)
    """
    return policy_objective(
        "ppo_loss",
        clipped("ppo_loss", clip, dual_clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="token",
        entropy=entropy,
        entropy_coefficient=entropy_coefficient,
        where=where,
    )


def grpo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = 0.2,
    reference_log_probs: ArrayLike | None = None,
    kl_coefficient: Scalar | None = None,
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Group relative policy optimization: `policy_loss` with aggregate "sequence" and the estimator k3.

    Args:
      log_probs, old_log_probs: as for `policy_loss`.
      advantages: as for `policy_loss`, from `group_relative_advantages`.
      clip: ε.
      reference_log_probs: as for `policy_loss`.
      kl_coefficient: β; 0.04 in the paper.
      segment_ids, where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import grpo_loss, group_relative_advantages
      >>> advantages = group_relative_advantages(jnp.array([3.0, 1.0]), scale=None)
      >>> log_probs = jnp.full((2, 3), -1.0)
      >>> is_answer = jnp.array([[True, False, False], [True, True, True]])
      >>> grpo_loss(log_probs, log_probs, 2 + advantages, where=is_answer).round(4)  # 3 and 1 alike
      Array(-2., dtype=float32)
    """
    return policy_objective(
        "grpo_loss",
        clipped("grpo_loss", clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="sequence",
        reference_log_probs=reference_log_probs,
        kl_coefficient=kl_coefficient,
        segment_ids=segment_ids,
        where=where,
    )


def dr_grpo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    max_length: int,
    clip: Clip = 0.2,
    reference_log_probs: ArrayLike | None = None,
    kl_coefficient: Scalar | None = None,
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """GRPO done right: `policy_loss` with aggregate "sequence-sum", without a bias to short answers.

    Args:
      log_probs, old_log_probs: as for `policy_loss`.
      advantages: as for `policy_loss`, from `group_relative_advantages` with scale None.
      max_length: the constant that the sums over tokens are divided by, such as the maximal length.
      clip: ε.
      reference_log_probs, kl_coefficient, segment_ids, where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dr_grpo_loss
      >>> log_probs = jnp.full((2, 3), -1.0)
      >>> dr_grpo_loss(log_probs, log_probs, jnp.array([1.0, 0.0]), max_length=6)
      Array(-0.25, dtype=float32)
    """
    return policy_objective(
        "dr_grpo_loss",
        clipped("dr_grpo_loss", clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="sequence-sum",
        max_length=max_length,
        reference_log_probs=reference_log_probs,
        kl_coefficient=kl_coefficient,
        segment_ids=segment_ids,
        where=where,
    )


def dapo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = (0.2, 0.28),
    where: ArrayLike | None = None,
) -> jax.Array:
    """Decoupled clip: `policy_loss` with a higher upper bound and the mean over all tokens, without KL.

    Args:
      log_probs, old_log_probs, advantages: as for `policy_loss`.
      clip: (ε_low, ε_high).
      where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dapo_loss
      >>> dapo_loss(jnp.log(jnp.array([0.6])), jnp.log(jnp.array([0.4])), jnp.array([1.0]))
      Array(-1.28, dtype=float32)
    """
    return policy_objective(
        "dapo_loss",
        clipped("dapo_loss", clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="token",
        where=where,
    )


def bnpo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = 0.2,
    reference_log_probs: ArrayLike | None = None,
    kl_coefficient: Scalar | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """GRPO's loss normalized by the tokens of the batch: `policy_loss` with aggregate "token".

    The name is that of the loss type in TRL. The advantages of the BNPO paper (Xiao et al., 2025),
    normalized by a Beta distribution, are the caller's.

    Args:
      log_probs, old_log_probs, advantages, clip, reference_log_probs, kl_coefficient, where: as for
        `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import bnpo_loss
      >>> log_probs = jnp.full((2, 2), -1.0)
      >>> is_answer = jnp.array([[True, False], [True, True]])
      >>> bnpo_loss(log_probs, log_probs, jnp.array([3.0, 0.0]), where=is_answer)
      Array(-1., dtype=float32)
    """
    return policy_objective(
        "bnpo_loss",
        clipped("bnpo_loss", clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="token",
        reference_log_probs=reference_log_probs,
        kl_coefficient=kl_coefficient,
        where=where,
    )


def gspo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = (3e-4, 4e-4),
    reference_log_probs: ArrayLike | None = None,
    kl_coefficient: Scalar | None = None,
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Group sequence policy optimization: `policy_loss` with the ratio and the aggregate "sequence".

    Args:
      log_probs, old_log_probs, advantages: as for `policy_loss`.
      clip: (ε_low, ε_high), narrow since the ratio of a sequence is the geometric mean of its tokens'.
      reference_log_probs, kl_coefficient, segment_ids, where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import gspo_loss
      >>> log_probs, old = jnp.log(jnp.array([[0.8, 0.5]])), jnp.log(jnp.array([[0.2, 0.5]]))
      >>> gspo_loss(log_probs, old, jnp.array([1.0]), clip=None)  # √(4·1)
      Array(-2., dtype=float32)
    """
    return policy_objective(
        "gspo_loss",
        clipped("gspo_loss", clip),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="sequence",
        ratio="sequence",
        reference_log_probs=reference_log_probs,
        kl_coefficient=kl_coefficient,
        segment_ids=segment_ids,
        where=where,
    )


def cispo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    clip: Clip = (None, 4.0),
    where: ArrayLike | None = None,
) -> jax.Array:
    """Clipped importance sampling weights: `policy_loss` with `as_weight` and the mean over all tokens.

    Args:
      log_probs, old_log_probs, advantages: as for `policy_loss`.
      clip: (ε_low, ε_high). The paper bounds the ratio above only and tunes ε_high; the default bounds
        it by 5.
      where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32: its gradient is that of a weighted log-likelihood.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import cispo_loss
      >>> cispo_loss(jnp.array([-1.0]), jnp.array([-9.0]), jnp.array([2.0]))
      Array(10., dtype=float32)
    """
    return policy_objective(
        "cispo_loss",
        clipped("cispo_loss", clip, as_weight=True),
        log_probs,
        old_log_probs,
        advantages,
        aggregate="token",
        where=where,
    )


def sapo_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    temperature: tuple[Scalar, Scalar] = (1.0, 1.05),
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Soft adaptive policy optimization: −A·σ(τ·(r − 1))·4 / τ, the mean of sequences' means.

    The weight of a token decays smoothly as its ratio leaves 1; no token is clipped.

    Args:
      log_probs, old_log_probs, advantages: as for `policy_loss`.
      temperature: τ of tokens with a positive advantage, and of the others, greater than 0; larger
        values decay faster.
      segment_ids, where: as for `policy_loss`.

    Returns:
      The loss, a scalar, at least float32.

    Raises:
      TypeError, ValueError: as for `policy_loss`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sapo_loss
      >>> sapo_loss(jnp.array([-1.0]), jnp.array([-1.0]), jnp.array([1.0]))
      Array(-2., dtype=float32)
    """
    positive, negative = as_pair("sapo_loss", temperature=temperature)
    numbers: dict[str, Any] = {"temperature[0]": positive, "temperature[1]": negative}
    check_number("sapo_loss", above=0, **numbers)

    def gated(r: jax.Array, _: jax.Array, a: jax.Array) -> jax.Array:
        tau = jnp.where(a > 0, jnp.asarray(positive, r.dtype), jnp.asarray(negative, r.dtype))
        return -a * jax.nn.sigmoid(tau * (r - 1)) * 4 / tau

    return policy_objective(
        "sapo_loss",
        gated,
        log_probs,
        old_log_probs,
        advantages,
        aggregate="sequence",
        segment_ids=segment_ids,
        where=where,
    )
