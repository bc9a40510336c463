"""Updates that are not finite are left out, and with them the step of the inner transformation."""

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
      notfinite_count: int32 scalar, the bad updates in a row.
      last_finite: boolean scalar, whether the last update was good.
      total_notfinite: int32 scalar, the bad updates in all.
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
    """Skips the steps whose gradients are not finite: zero updates, the inner state kept.

    Args:
      inner: the transformation.
      max_consecutive_errors: how many bad steps in a row to skip in any case.
      when_exceeded: what to do with a bad step after that many: "accept" hands it on to `inner`
        (as optax does, so that a run that is lost is seen to be lost), "skip" goes on skipping,
        "raise" raises a `FloatingPointError` from the running program.

    Returns:
      A transformation with an `ApplyIfFiniteState`.

    Raises:
      ValueError: if `when_exceeded` is none of these, or the number negative.

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
    if max_consecutive_errors < 0:
        raise ValueError(
            f"apply_if_finite: max_consecutive_errors must be at least 0, not {max_consecutive_errors}"
        )
    inner = with_extra_args_support(inner)

    def init(params: Params) -> ApplyIfFiniteState:
        good = jnp.ones((), jnp.bool_)
        return ApplyIfFiniteState(build.zero_count(), good, build.zero_count(), inner.init(params))

    def update(
        updates: Updates, state: ApplyIfFiniteState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, ApplyIfFiniteState]:
        finite = all_finite(updates)
        in_a_row = jnp.where(finite, build.zero_count(), safe_increment(state.notfinite_count))
        exceeded = in_a_row > max_consecutive_errors
        apply = finite | exceeded if when_exceeded == "accept" else finite
        if when_exceeded == "raise":
            jax.debug.callback(_raise_if, exceeded, in_a_row)
        updates, inner_state = updates_or_zeros(
            apply, inner, updates, state.inner_state, params, **extra_args
        )
        total = jnp.where(finite, state.total_notfinite, safe_increment(state.total_notfinite))
        return updates, ApplyIfFiniteState(in_a_row, finite, total, inner_state)

    return build.wrapping(init, update)


def updates_or_zeros(
    condition: jax.Array,
    inner: Any,
    updates: Updates,
    inner_state: OptState,
    params: Params,
    **extra_args: Any,
) -> tuple[Updates, OptState]:
    """The inner transformation's updates and state where a condition holds, else zeros and the old state.

    Args:
      condition: a boolean scalar.
      inner: the transformation; it runs only where the condition holds.
      updates: its updates.
      inner_state: its state.
      params: the parameters, or None.
      **extra_args: passed on to it.

    Returns:
      The updates and the state.
    """

    def run(carry: tuple[Updates, OptState]) -> tuple[Updates, OptState]:
        zeros, inner_state = carry
        made, inner_state = inner.update(updates, inner_state, params, **extra_args)
        return jax.tree.map(lambda u, z: u.astype(z.dtype), made, zeros), inner_state

    zeros = jax.tree.map(jnp.zeros_like, updates)
    return build.run_if(condition, run, (zeros, inner_state))


def _raise_if(exceeded: Any, in_a_row: Any) -> None:
    if exceeded:
        raise FloatingPointError(
            f"apply_if_finite: the gradients were not finite {int(in_a_row)} times in a row"
        )
