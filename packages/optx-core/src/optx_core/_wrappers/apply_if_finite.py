"""Skipping of steps whose updates are not finite."""

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

GIVING_UP = ("skip", "accept", "raise")


class ApplyIfFiniteState(NamedTuple):
    """State of `apply_if_finite`.

    Attributes:
      notfinite_count: int32 scalar, the number of consecutive non-finite updates.
      last_finite: boolean scalar, whether the last update was finite.
      total_notfinite: int32 scalar, the total number of non-finite updates.
      inner_state: the inner transformation's state.
    """

    notfinite_count: build.Measured
    last_finite: build.Measured
    total_notfinite: build.Measured
    inner_state: build.InnerState


@build.recorded
def apply_if_finite(
    inner: Any, max_consecutive_errors: int, *, when_exceeded: str = "accept"
) -> build.Transformation:
    """Skips steps whose gradients are not finite: the updates are zero, the inner state is unchanged.

    Args:
      inner: the transformation.
      max_consecutive_errors: the number of consecutive non-finite steps that are always skipped.
      when_exceeded: how to handle further non-finite steps: "accept" passes them on to `inner` (as optax
        does, so that divergence becomes visible), "skip" continues to skip, "raise" raises a
        `FloatingPointError` from the running program.

    Returns:
      A transformation with an `ApplyIfFiniteState`.

    Raises:
      ValueError: if `when_exceeded` is invalid, or `max_consecutive_errors` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_if_finite, scale
      >>> tx = apply_if_finite(scale(-1.0), max_consecutive_errors=5)
      >>> updates, state = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
      >>> updates, int(state.total_notfinite)
      (Array([0., 0.], dtype=float32), 1)
    """
    build.check_transformation_like("apply_if_finite", inner)
    if when_exceeded not in GIVING_UP:
        raise ValueError(
            f"apply_if_finite: when_exceeded must be one of {GIVING_UP}, not {when_exceeded!r}"
        )
    build.check_number("apply_if_finite", low=0, max_consecutive_errors=max_consecutive_errors)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> ApplyIfFiniteState:
        finite = jnp.ones((), jnp.bool_)
        return ApplyIfFiniteState(
            build.zero_count(), finite, build.zero_count(), inner.init(params)
        )

    def update(
        updates: Updates, state: ApplyIfFiniteState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, ApplyIfFiniteState]:
        finite = all_finite(updates)
        consecutive = jnp.where(finite, build.zero_count(), safe_increment(state.notfinite_count))
        exceeded = consecutive > max_consecutive_errors
        apply = finite | exceeded if when_exceeded == "accept" else finite
        if when_exceeded == "raise":
            jax.debug.callback(_raise_if, exceeded, consecutive)
        updates, inner_state = updates_or_zeros(
            apply, inner, updates, state.inner_state, params, **extra_args
        )
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        return updates, ApplyIfFiniteState(consecutive, finite, total, inner_state)

    return build.wrapping(init, update)


def updates_or_zeros(
    condition: jax.Array,
    inner: Any,
    updates: Updates,
    inner_state: OptState,
    params: Params,
    **extra_args: Any,
) -> tuple[Updates, OptState]:
    """Returns the inner updates and state if a condition holds, else zeros and the old state.

    Args:
      condition: a boolean scalar.
      inner: the transformation; it runs only where the condition holds.
      updates: its updates.
      inner_state: its state.
      params: the parameters, or None.
      **extra_args: passed on to `inner`.

    Returns:
      The updates and the state.
    """

    def run(carry: tuple[Updates, OptState]) -> tuple[Updates, OptState]:
        zeros, inner_state = carry
        new, inner_state = inner.update(updates, inner_state, params, **extra_args)
        return jax.tree.map(lambda u, z: u.astype(z.dtype), new, zeros), inner_state

    zeros = jax.tree.map(jnp.zeros_like, updates)
    return build.run_if(condition, run, (zeros, inner_state))


def _raise_if(exceeded: Any, consecutive: Any) -> None:
    if exceeded:
        raise FloatingPointError(
            f"apply_if_finite: the gradients were not finite {int(consecutive)} times in a row"
        )
