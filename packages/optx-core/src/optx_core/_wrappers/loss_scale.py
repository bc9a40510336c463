"""Dynamic loss scaling, for gradients in float16.

The loss is multiplied by S before it is differentiated, and the gradients are divided by S. A step with
non-finite gradients is skipped and S is reduced; after enough consecutive finite steps S grows, up to a
maximum.

Reference: Micikevicius et al., "Mixed Precision Training", 2018, section 3.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    OptState,
    Params,
    Updates,
    all_finite,
    build,
    safe_increment,
    with_extra_args_support,
)
from optx_core._wrappers.apply_if_finite import updates_or_zeros


class LossScaleState(NamedTuple):
    """State of `dynamic_loss_scale`.

    Attributes:
      loss_scale: S, float32 scalar, the factor of the next loss.
      good_steps: int32 scalar, the number of finite steps since S last changed.
      total_notfinite: int32 scalar, the number of skipped steps.
      last_finite: boolean scalar, whether the last step was finite.
      inner_state: the inner transformation's state.
    """

    loss_scale: build.Measured
    good_steps: jax.Array
    total_notfinite: build.Measured
    last_finite: build.Measured
    inner_state: build.InnerState


@build.recorded
def dynamic_loss_scale(
    inner: Any,
    initial_scale: float = 2.0**15,
    growth_interval: int = 2000,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    min_scale: float = 1.0,
    max_scale: float = 2.0**24,
) -> build.Transformation:
    """Divides gradients by an adaptive loss scale, and skips steps that overflowed.

    Multiply the loss by `loss_scale(state)` before differentiating it.

    Args:
      inner: the optimizer; it receives the gradients of the unscaled loss, in at least float32.
      initial_scale: the initial scale.
      growth_interval: the number of consecutive finite steps after which the scale grows.
      growth_factor: the factor of growth, above 1.
      backoff_factor: the factor after a skipped step, in (0, 1).
      min_scale: the minimum of the scale.
      max_scale: the maximum of the scale.

    Returns:
      A transformation with a `LossScaleState`. Its updates are zero at a skipped step.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import dynamic_loss_scale, loss_scale, scale
      >>> tx = dynamic_loss_scale(scale(-1.0), initial_scale=8.0)
      >>> updates, state = tx.update(jnp.array([jnp.inf]), tx.init(jnp.zeros(1)))
      >>> float(updates[0]), float(loss_scale(state))
      (0.0, 4.0)
    """
    where = "dynamic_loss_scale"
    build.check_transformation_like(where, inner)
    build.check_number(
        where, above=0, min_scale=min_scale, max_scale=max_scale, backoff_factor=backoff_factor
    )
    build.check_number(where, low=min_scale, high=max_scale, initial_scale=initial_scale)
    build.check_number(where, above=1, growth_factor=growth_factor)
    build.check_number(where, below=1, backoff_factor=backoff_factor)
    build.check_number(where, low=1, growth_interval=growth_interval)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> LossScaleState:
        return LossScaleState(
            jnp.full((), initial_scale, jnp.float32),
            build.zero_count(),
            build.zero_count(),
            jnp.ones((), jnp.bool_),
            inner.init(params),
        )

    def update(
        updates: Updates, state: LossScaleState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, LossScaleState]:
        def unscale(g: jax.Array) -> jax.Array:
            wide = g.astype(build.at_least_float32(g.dtype))
            real = wide.real.dtype
            return wide * (1 / state.loss_scale).astype(real).astype(wide.dtype)

        finite = all_finite(updates)
        new, inner_state = updates_or_zeros(
            finite,
            inner,
            jax.tree.map(unscale, updates),
            state.inner_state,
            params,
            **extra_args,
        )
        new = jax.tree.map(lambda u, g: u.astype(g.dtype), new, updates)
        good = jnp.where(finite, safe_increment(state.good_steps), build.zero_count())
        grow = good >= growth_interval
        scale = jnp.where(
            finite,
            jnp.where(grow, state.loss_scale * growth_factor, state.loss_scale),
            state.loss_scale * backoff_factor,
        )
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        return new, LossScaleState(
            jnp.clip(scale, min_scale, max_scale),
            jnp.where(grow, build.zero_count(), good),
            total,
            finite,
            inner_state,
        )

    return build.wrapping(init, update)


def loss_scale(state: OptState) -> jax.Array:
    """Returns the loss scale in an optimizer's state, the factor of the next loss.

    Args:
      state: a state that contains one of `dynamic_loss_scale`, at any depth.

    Returns:
      A float32 scalar.

    Raises:
      KeyError: if the state contains none, or several.

    Example:
      >>> from optx_core import dynamic_loss_scale, loss_scale, scale
      >>> float(loss_scale(dynamic_loss_scale(scale(-1.0), 8.0).init(1.0)))
      8.0
    """
    from optx_core.tree import get_all_with_path

    matches = get_all_with_path(state, "LossScaleState")
    if len(matches) != 1:
        raise KeyError(
            f"loss_scale: the state contains {len(matches)} states of dynamic_loss_scale, not one"
        )
    return matches[0][1].loss_scale
