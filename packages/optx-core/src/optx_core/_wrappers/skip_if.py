"""Skipping of steps at which the loss or the gradient norm spikes.

skip where measure > factor · average,   average ← decay·average + (1 − decay)·measure otherwise

Reference: Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, section 5.1, which
skips the batches around a loss spike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    Params,
    Updates,
    build,
    global_norm,
    safe_increment,
    with_extra_args_support,
)
from optx_core._wrappers.apply_if_finite import updates_or_zeros


class SkipIfState(NamedTuple):
    """State of `skip_if`.

    Attributes:
      count: int32 scalar, the number of steps that were not skipped.
      average: float32 scalar, the running average of the measure before debiasing.
      last_skipped: boolean scalar, whether the last step was skipped.
      total_skipped: int32 scalar, the number of skipped steps.
      inner_state: the inner transformation's state.
    """

    count: build.Count
    average: jax.Array
    last_skipped: build.Measured
    total_skipped: build.Measured
    inner_state: build.InnerState


@build.recorded
def skip_if(
    inner: Any,
    measure: str | Callable[..., Any] = "norm",
    factor: float = 3.0,
    decay: float = 0.99,
    warmup_steps: int = 20,
) -> build.Transformation:
    """Skips steps whose gradient norm, or loss, is far above its running average.

    Args:
      inner: the transformation; at a skipped step its state is unchanged and the updates are zero.
      measure: "norm" for the global norm of the gradients; "value" for the loss, to be passed as
        `update(..., value=loss)`; or a function `f(updates, params, **extra_args)` that returns
        whether to skip the step, in which case the arguments below are ignored.
      factor: a step is skipped if its measure exceeds this multiple of the average. A step with a
        non-finite measure is always skipped.
      decay: the weight of the past in the average, in [0, 1).
      warmup_steps: the number of initial steps that are skipped only if their measure is not finite.

    Returns:
      A transformation with a `SkipIfState`.

    Raises:
      ValueError: if a number is out of its range, or, from `update`, if the loss was not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale, skip_if
      >>> tx = skip_if(scale(-1.0), "norm", factor=3.0, warmup_steps=1)
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (1.0, 1.0, 100.0):
      ...     updates, state = tx.update(jnp.array([g]), state)
      >>> float(updates[0]), int(state.total_skipped)
      (0.0, 1)
    """
    build.check_transformation_like("skip_if", inner)
    if not callable(measure) and measure not in ("norm", "value"):
        raise ValueError(f"skip_if: measure must be 'norm', 'value' or a function, not {measure!r}")
    build.check_number("skip_if", above=1, finite=False, factor=factor)
    build.check_number("skip_if", low=0, below=1, decay=decay)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> SkipIfState:
        return SkipIfState(
            build.zero_count(),
            jnp.zeros((), jnp.float32),
            jnp.zeros((), jnp.bool_),
            build.zero_count(),
            inner.init(params),
        )

    def update(
        updates: Updates, state: SkipIfState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, SkipIfState]:
        average = state.average
        if callable(measure):
            skip = jnp.asarray(measure(updates, params, **extra_args), jnp.bool_)
        else:
            if measure == "value" and extra_args.get("value") is None:
                raise ValueError(
                    "skip_if needs the loss: call update(updates, state, params, value=loss)"
                )
            size = global_norm(updates) if measure == "norm" else jnp.asarray(extra_args["value"])
            size = size.astype(jnp.float32)
            rate = build.rate_of(decay)
            weight = jnp.where(state.count > 0, 1 - rate**state.count, 1)
            spiked = size > factor * (average / weight.astype(jnp.float32))
            skip = ~jnp.isfinite(size) | (spiked & (state.count >= warmup_steps))
            average = jnp.where(skip, average, rate * average + (1 - rate) * size)
        new, inner_state = updates_or_zeros(
            ~skip, inner, updates, state.inner_state, params, **extra_args
        )
        return new, SkipIfState(
            jnp.where(skip, state.count, safe_increment(state.count)),
            average,
            skip,
            jnp.where(skip, safe_increment(state.total_skipped), state.total_skipped),
            inner_state,
        )

    return build.wrapping(init, update)
