"""Advantages of sampled actions or answers.

generalized:      A_t = δ_t + γ_t·λ·A_{t+1},   δ_t = r_t + γ_t·V_{t+1} − V_t
group-relative:   A_i = (r_i − mean r) / (std r + ε)   or   A_i = r_i − mean r

where r_t, V_t and γ_t are the reward, the value and the discount of step t, λ is the decay, r_i is the reward
of answer i of one prompt, and ε is `epsilon`.

References: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
2016, equation 16; Shao et al., "DeepSeekMath", 2024, section 4.1.2; Liu et al., "Understanding R1-Zero-Like
Training", 2025 (without the division).
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    as_count,
    as_floats,
    as_mask,
    axes_of,
    check_number,
    has_shape,
    keep,
    matching,
    same_shape,
)
from optx_losses._layout import all_true, laid_as, whole


def group_relative_advantages(
    rewards: ArrayLike,
    *,
    group_size: int | None = None,
    axis: int = -1,
    scale: Literal["std", "batch-std"] | None = "std",
    epsilon: Scalar = 1e-4,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The rewards of answers relative to those of the other answers to the same prompt.

    Args:
      rewards: r, shape [..., answers].
      group_size: the number of answers to each prompt, which follow one another along the axis; None if
        all of them answer the same prompt.
      axis: the axis of the answers.
      scale: the divisor of the differences from the group's mean: "std", the standard deviation of the
        group, with n − 1 degrees of freedom; "batch-std", that of all rewards; None for none (Dr.GRPO).
      epsilon: added to the standard deviation, at least 0.
      where: boolean mask of the same shape; answers that are False give 0 and do not count.

    Returns:
      The advantages, of the shape of the rewards, at least float32; 0 for a group of equal rewards.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or `group_size` does not divide the number of answers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import group_relative_advantages
      >>> rewards = jnp.array([1.0, 0.0, 5.0, 5.0])
      >>> group_relative_advantages(rewards, group_size=2, scale=None)
      Array([ 0.5, -0.5,  0. ,  0. ], dtype=float32)
    """
    name = "group_relative_advantages"
    check_number(name, low=0, epsilon=epsilon)
    if scale not in ("std", "batch-std", None):
        raise ValueError(f"{name}: scale must be 'std', 'batch-std' or None, not {scale!r}")
    (r,), mask, axes = matching(name, where, axis, rewards=rewards)
    at = _single(name, axis, axes)
    size = r.shape[at]
    if group_size is not None:
        size = as_count(name, "answers", group_size=group_size)
    if size and r.shape[at] % size:
        raise ValueError(
            f"{name}: group_size={size} does not divide the {r.shape[at]} rewards of axis {axis}"
        )
    included = all_true(r) if mask is None else mask
    arrays = (r, included)
    if group_size is not None:  # a group may lie on several devices
        arrays = (whole(r, at), whole(included, at))
    x, there = (_grouped(array, at, size) for array in arrays)
    difference = _less_mean(x, there, (-1,))
    if scale == "std":
        difference = difference / (_std(x, there, (-1,)) + jnp.asarray(epsilon, r.dtype))
    if scale == "batch-std":
        everywhere = tuple(range(x.ndim))
        difference = difference / (_std(x, there, everywhere) + jnp.asarray(epsilon, r.dtype))
    moved = jnp.moveaxis(r, at, -1).shape
    return laid_as(jnp.moveaxis(difference.reshape(moved), -1, at), r)


def _single(name: str, axis: int, axes: tuple[int, ...]) -> int:
    """The only one of the axes."""
    if len(axes) != 1:
        raise ValueError(f"{name}: axis={axis} must be a single axis")
    return axes[0]


def _grouped(x: jax.Array, axis: int, size: int) -> jax.Array:
    x = jnp.moveaxis(x, axis, -1)
    return x.reshape(*x.shape[:-1], x.shape[-1] // max(size, 1), size)


def _count(included: jax.Array, axes: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.sum(included, axis=axes, keepdims=True).astype(dtype)


def _less_mean(x: jax.Array, included: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """x less its mean, 0 where excluded; x is 0 there."""
    count = jnp.maximum(_count(included, axes, x.dtype), 1)
    # The first difference is exact for equal entries, whose mean may be rounded.
    low = lax.stop_gradient(
        jnp.min(keep(included, x, fill=jnp.inf), axis=axes, keepdims=True, initial=jnp.inf)
    )
    x = keep(included, x - keep(jnp.isfinite(low), low))
    return keep(included, x - jnp.sum(x, axis=axes, keepdims=True) / count)


def _std(x: jax.Array, included: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The standard deviation with n − 1 degrees of freedom; 1, without a gradient, if it is 0."""
    count = jnp.maximum(_count(included, axes, x.dtype) - 1, 1)
    difference = _less_mean(x, included, axes)
    largest = jnp.max(jnp.abs(difference), axis=axes, keepdims=True, initial=0)
    unit = lax.stop_gradient(
        jnp.where(largest == 0, 1, largest)
    )  # squares neither over- nor underflow
    square = jnp.sum((difference / unit) ** 2, axis=axes, keepdims=True) / count
    return unit * jnp.sqrt(jnp.where(square == 0, 1, square))


def generalized_advantage_estimate(
    rewards: ArrayLike,
    values: ArrayLike,
    *,
    discount: ArrayLike = 1.0,
    trace_decay: Scalar = 1.0,
    bootstrap: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Advantages of the steps of trajectories: sums of temporal differences that decay with γ·λ.

    The targets of the values are the sums of the results and the values.

    Args:
      rewards: r_t, shape [..., steps].
      values: V_t, of the same shape.
      discount: γ in [0, 1], a number, or an array of the same shape that is 0 at the last step of each
        trajectory: `gamma * (1 - done)`. A trajectory also ends at a 0 where `where` is False. One that
        is truncated, not terminated, before the last step has the value of its next state added to its
        last reward, times γ.
      trace_decay: λ, in [0, 1]: 0 for the temporal difference, 1 for the discounted return less V_t.
      bootstrap: the value after the last step, shape [...]; None for 0. Of values with one step more
        than the rewards, `values[..., :-1]` are the values and `values[..., -1]` this one.
      axis: the axis of the steps.
      where: boolean mask of the same shape; steps that are False (padding, the output of a tool) give 0
        and are skipped, as if the trajectory did not have them.

    Returns:
      The advantages, of the shape of the rewards, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import generalized_advantage_estimate
      >>> rewards, values = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.25, 0.5, 0.5])
      >>> generalized_advantage_estimate(rewards, values, trace_decay=0.5)
      Array([0.375, 0.25 , 0.5  ], dtype=float32)
    """
    name = "generalized_advantage_estimate"
    check_number(name, low=0, high=1, trace_decay=trace_decay)
    if isinstance(discount, int | float | np.generic):
        check_number(name, low=0, high=1, discount=discount)
    r, v, gamma, after = as_floats(
        name,
        rewards=rewards,
        values=values,
        discount=discount,
        bootstrap=0 if bootstrap is None else bootstrap,
    )
    if not gamma.ndim:
        gamma = jnp.broadcast_to(gamma, r.shape)
    same_shape(name, rewards=r, values=v, discount=gamma)
    at = _single(name, axis, axes_of(name, axis, r.ndim))
    mask = as_mask(name, where, r, "the rewards")
    included = all_true(r) if mask is None else mask
    goes_on = gamma != 0
    r, v, gamma = keep(mask, r, v, gamma)
    steps = [jnp.moveaxis(whole(x, at), at, 0) for x in (r, v, gamma, included, goes_on)]
    rest = steps[0].shape[1:]
    if bootstrap is None:
        after = jnp.zeros_like(jnp.sum(r, axis=at))
    has_shape(name, "bootstrap", after, rest, "the value after the last step of each trajectory")
    decay = jnp.asarray(trace_decay, r.dtype)

    def step(following: Any, now: Any) -> tuple[Any, jax.Array]:
        r, v, gamma, included, goes_on = now
        advantage, value = keep(goes_on | included, *following)
        delta = r + gamma * value - v
        new = delta + gamma * decay * advantage
        following = jnp.where(included, new, advantage), jnp.where(included, v, value)
        return following, jnp.where(included, new, 0)

    _, advantages = lax.scan(step, (jnp.zeros_like(after), after), tuple(steps), reverse=True)
    return laid_as(jnp.moveaxis(advantages, 0, at), r)
