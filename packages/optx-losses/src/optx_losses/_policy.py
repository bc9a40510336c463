"""Policy-gradient losses of language models: the PPO family.

r_t = π(t) / old(t)        (or for each sequence the geometric mean of its tokens' ratios, GSPO)
loss_t = surrogate + β·KL(π, ref) − c·entropy

clipped:     surrogate = −A·min(r, 1 + ε_high) for A ≥ 0,   −A·max(r, 1 − ε_low) for A < 0
dual clip:   surrogate = −A·min(max(r, 1 − ε_low), dual_clip) for A < 0
CISPO:       surrogate = −sg(clip(r, 1 − ε_low, 1 + ε_high))·A·log π
SAPO:        surrogate = −A·σ(τ·(r − 1))·4 / τ,   τ by the sign of A

k1 = −d,   k2 = d² / 2,   k3 = exp d − 1 − d,   d = log ref − log π

where π, old and ref are the probabilities of token t under the policy, the policy that sampled it and the
reference, r is the ratio, A the advantage, β and c the weights of the penalty and of the entropy, ε_low and
ε_high the bounds of the ratio, σ the sigmoid, τ a temperature and sg a stopped gradient; k1, k2 and k3
estimate KL.

References: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, equation 7 (clipping); Yu et
al., "DAPO", 2025 (separate bounds); Ye et al., "Mastering Complex Control in MOBA Games with Deep
Reinforcement Learning", 2020 (dual clip); Schulman, "Approximating KL Divergence", 2020 (estimators of KL).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    as_floats,
    as_mask,
    as_pair,
    check_number_or_none,
    check_together,
    has_shape,
    keep,
    same_shape,
)
from optx_losses._layout import laid_as
from optx_losses._log_softmax import times_log
from optx_losses._rounding import bounded_exp, not_negative
from optx_losses._sequences import Sequences, sequences

Aggregate: TypeAlias = Literal["token", "sequence", "sequence-sum", "none"]
Ratio: TypeAlias = Literal["token", "sequence"]
KL: TypeAlias = Literal["k1", "k2", "k3"]
Clip: TypeAlias = Scalar | tuple[Scalar | None, Scalar | None] | None
Surrogate: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def policy_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    aggregate: Aggregate,
    max_length: int | None = None,
    ratio: Ratio = "token",
    clip: Clip = 0.2,
    dual_clip: Scalar | None = None,
    as_weight: bool = False,
    reference_log_probs: ArrayLike | None = None,
    kl: KL = "k3",
    kl_coefficient: Scalar | None = None,
    entropy: ArrayLike | None = None,
    entropy_coefficient: Scalar | None = None,
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The policy-gradient loss of sampled tokens, clipped where the policy has moved away.

    `ppo_loss`, `grpo_loss`, `dr_grpo_loss`, `dapo_loss`, `bnpo_loss`, `gspo_loss` and `cispo_loss` are
    settings of it. Its gradient is that of `log_probs` and `entropy` alone.

    Args:
      log_probs: log π, the log-probabilities of the tokens under the policy, shape [..., tokens].
      old_log_probs: those under the policy that sampled the tokens, of the same shape; None if it is the
        same policy (r = 1, with a gradient).
      advantages: A, of the same shape, or shape [...], one for each row that is one sequence.
      aggregate: "token", the mean over all tokens; "sequence", the mean over sequences of the mean over
        their tokens; "sequence-sum", the mean over sequences of the sum over their tokens divided by
        `max_length`; "none", the value of each token. Their gradients differ by the lengths of the
        sequences, so there is no default. Sequences without tokens do not count.
      max_length: the divisor of "sequence-sum", and only of it.
      ratio: "token", or "sequence" for the geometric mean of the ratios of a sequence.
      clip: ε, the bounds of the ratio, [1 − ε, 1 + ε], or a pair (ε_low, ε_high); None, for both or for
        one of the pair, for no bound.
      dual_clip: c, the bound of the ratio where the advantage is negative, greater than 1; None for no
        bound.
      as_weight: whether the clipped ratio is a weight of log π without a gradient, as in CISPO, so that
        clipped tokens have a gradient too.
      reference_log_probs: log ref, of the same shape; with `kl_coefficient`, or neither.
      kl: the estimator of the divergence from the reference.
      kl_coefficient: β, at least 0.
      entropy: the entropy of the policy at each token, of the same shape; with `entropy_coefficient`, or
        neither.
      entropy_coefficient: c, the weight of the entropy, which the loss rewards.
      segment_ids: integers of the same shape, if rows hold several packed sequences, each a run of equal
        integers; None for one sequence per row.
      where: boolean mask of the same shape; tokens that are False (the prompt, padding) do not count.

    Returns:
      A scalar, or for "none" an array of the shape of `log_probs`, at least float32. Ratios beyond
      exp(40) are continued linearly and stay finite.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if shapes differ, a number is out of range, or an argument lacks its partner.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import policy_loss
      >>> log_probs, old = jnp.log(jnp.array([[0.6, 0.5]])), jnp.log(jnp.array([[0.4, 0.5]]))
      >>> policy_loss(log_probs, old, jnp.array([1.0]), aggregate="none", clip=(0.2, 0.28))
      Array([[-1.28, -1.  ]], dtype=float32)
    """
    return policy_objective(
        "policy_loss",
        clipped("policy_loss", clip, dual_clip, as_weight),
        log_probs,
        old_log_probs,
        advantages,
        aggregate=aggregate,
        max_length=max_length,
        ratio=ratio,
        reference_log_probs=reference_log_probs,
        kl=kl,
        kl_coefficient=kl_coefficient,
        entropy=entropy,
        entropy_coefficient=entropy_coefficient,
        segment_ids=segment_ids,
        where=where,
    )


def clipped(
    name: str, clip: Clip, dual_clip: Scalar | None = None, as_weight: bool = False
) -> Surrogate:
    """The clipped surrogate, a function of r, log π and A."""
    low, high = as_pair(name, clip=clip if isinstance(clip, tuple | list) else (clip, clip))
    ends: dict[str, Any] = {"clip's lower bound": low, "clip's upper bound": high}
    check_number_or_none(name, low=0, **ends)
    check_number_or_none(name, above=1, dual_clip=dual_clip)
    if as_weight and dual_clip is not None:
        raise ValueError(f"{name}: as_weight has one pair of bounds, clip; omit dual_clip")
    low, high = None if low is None else 1 - low, None if high is None else 1 + high

    def surrogate(r: jax.Array, log_p: jax.Array, a: jax.Array) -> jax.Array:
        if as_weight:
            return -a * times_log(lax.stop_gradient(_limited(r, low, high)), log_p)
        least = _limited(_limited(r, low, None), None, dual_clip)
        return -a * jnp.where(a >= 0, _limited(r, None, high), least)

    return surrogate


def policy_objective(
    name: str,
    surrogate: Surrogate,
    log_probs: ArrayLike,
    old_log_probs: ArrayLike | None,
    advantages: ArrayLike,
    *,
    aggregate: Aggregate,
    max_length: int | None = None,
    ratio: Ratio = "token",
    reference_log_probs: ArrayLike | None = None,
    kl: KL = "k3",
    kl_coefficient: Scalar | None = None,
    entropy: ArrayLike | None = None,
    entropy_coefficient: Scalar | None = None,
    segment_ids: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The aggregate of surrogate(r, log π, A) + β·KL − c·entropy; the arguments are `policy_loss`'s."""
    _check_choice(name, "aggregate", aggregate, ("token", "sequence", "sequence-sum", "none"))
    _check_choice(name, "ratio", ratio, ("token", "sequence"))
    _check_choice(name, "kl", kl, ("k1", "k2", "k3"))
    if (max_length is None) == (aggregate == "sequence-sum"):
        raise ValueError(f"{name}: max_length belongs to aggregate 'sequence-sum', and only to it")
    check_number_or_none(name, above=0, max_length=max_length)
    check_number_or_none(name, low=0, kl_coefficient=kl_coefficient)
    if kl != "k3" and kl_coefficient is None:
        raise ValueError(f"{name}: kl={kl!r} needs kl_coefficient, and reference_log_probs")
    check_number_or_none(name, entropy_coefficient=entropy_coefficient)
    check_together(name, reference_log_probs=reference_log_probs, kl_coefficient=kl_coefficient)
    check_together(name, entropy=entropy, entropy_coefficient=entropy_coefficient)

    log_p, old, a, ref, h = as_floats(
        name,
        log_probs=log_probs,
        old_log_probs=log_probs if old_log_probs is None else old_log_probs,
        advantages=advantages,
        reference_log_probs=log_probs if reference_log_probs is None else reference_log_probs,
        entropy=log_probs if entropy is None else entropy,
    )
    if not log_p.ndim:
        raise ValueError(f"{name}: log_probs is a scalar; it must be [..., tokens]")
    if a.shape == log_p.shape[:-1] and segment_ids is None:
        a = laid_as(jnp.broadcast_to(a[..., None], log_p.shape), log_p)
    why = "one for each token, as rows hold several sequences"
    if segment_ids is None:
        column = a.shape == (*log_p.shape[:-1], 1)
        why = f"or one for each row{': write advantages[..., 0]' if column else ''}"
    has_shape(name, "advantages", a, log_p.shape, why)
    same_shape(name, log_probs=log_p, old_log_probs=old, reference_log_probs=ref, entropy=h)
    mask = as_mask(name, where, log_p, "the log_probs")
    log_p, old, a, ref, h = keep(mask, log_p, old, a, ref, h)
    old, a, ref = lax.stop_gradient((old, a, ref))
    tokens = sequences(name, log_p, mask, segment_ids)

    log_ratio = log_p - old
    if ratio == "sequence":
        log_ratio = tokens.means(log_ratio)
    loss = surrogate(bounded_exp(log_ratio), log_p, a)
    if kl_coefficient is not None:
        loss = loss + jnp.asarray(kl_coefficient, loss.dtype) * _divergence(kl, ref - log_p)
    if entropy_coefficient is not None:
        loss = loss - jnp.asarray(entropy_coefficient, loss.dtype) * h
    return _aggregated(aggregate, max_length, tokens, keep(mask, loss))


def _limited(r: jax.Array, low: Any, high: Any) -> jax.Array:
    """The ratio within bounds that may be None; at a bound it has its own gradient."""
    if low is not None:
        low = jnp.asarray(low, r.dtype)
        r = jnp.where(r < low, low, r)
    if high is not None:
        high = jnp.asarray(high, r.dtype)
        r = jnp.where(r > high, high, r)
    return r


def _divergence(kl: KL, d: jax.Array) -> jax.Array:
    if kl == "k1":
        return -d
    if kl == "k2":
        return d**2 / 2
    return not_negative(bounded_exp(d, jnp.expm1) - d)


def _aggregated(
    aggregate: Aggregate, max_length: int | None, tokens: Sequences, loss: jax.Array
) -> jax.Array:
    if aggregate == "none":
        return loss
    if aggregate == "token":
        return tokens.mean_over_tokens(loss)
    if aggregate == "sequence":
        return tokens.mean_over_sequences(loss / tokens.lengths(loss.dtype))
    return tokens.mean_over_sequences(loss) / jnp.asarray(max_length, loss.dtype)


def _check_choice(name: str, label: str, given: Any, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{name}: {label} must be one of {', '.join(choices)}, not {given!r}")
