"""Skipping of steps at which the loss or the gradient norm spikes.

skip where measure > factor · average,   average ← decay·average + (1 − decay)·measure otherwise
skip where measure > mean + sigmas · std  of the last `window` measures

References: Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, section 5.1, which
skips the batches around a loss spike; the skipped steps of OLMo's training code (the window).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    Params,
    Scalar,
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


class SkipIfWindowState(NamedTuple):
    """State of `skip_if` with a window.

    Attributes:
      count: int32 scalar, the number of steps with finite measures.
      history: the last measures, a float32 array of shape (measures, window), each at its step modulo window.
      last_skipped: boolean scalar, whether the last step was skipped.
      total_skipped: int32 scalar, the number of skipped steps.
      inner_state: the inner transformation's state.
    """

    count: build.Count
    history: jax.Array
    last_skipped: build.Measured
    total_skipped: build.Measured
    inner_state: build.InnerState


@build.recorded
def skip_if(
    inner: Any,
    measure: str | tuple[str, ...] | Callable[..., Any] = "norm",
    factor: float = 3.0,
    decay: float = 0.99,
    warmup_steps: int = 20,
    *,
    window: int | None = None,
    sigmas: float = 6.0,
) -> build.Transformation:
    """Skips steps whose gradient norm, or loss, is far above those before.

    `skip_if(tx, ("value", "norm"), window=128)` is OLMo's rule.

    Args:
      inner: the transformation; at a skipped step its state is unchanged and the updates are zero.
      measure: "norm" for the global norm of the gradients; "value" for the loss, to be passed as
        `update(..., value=loss)`; with a window a tuple of both, either of which may skip the step; or a
        function `f(updates, params, **extra_args)` that returns whether to skip the step, in which case the
        arguments below are ignored.
      factor: a step is skipped if its measure exceeds this multiple of the average. A step with a
        non-finite measure is always skipped.
      decay: the weight of the past in the average, in [0, 1).
      warmup_steps: the number of initial steps that are skipped only if their measure is not finite.
      window: the number of last steps whose mean and standard deviation take the place of the average, an int
        of at least 4; `factor`, `decay` and `warmup_steps` are then ignored. Skipped steps are in it, so that
        a lasting rise is accepted after a while. Until it is half full only steps with a measure that is not
        finite are skipped.
      sigmas: a step is skipped if its measure exceeds the mean by this many standard deviations.

    Returns:
      A transformation with a `SkipIfState` (a `SkipIfWindowState` with a window).

    Raises:
      ValueError: if a number is out of its range, or there are several measures without a window, or, from
        `update`, if the loss was not passed.

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
    names = () if callable(measure) else measure if isinstance(measure, tuple) else (measure,)
    if not callable(measure) and (not names or not {*names} <= {"norm", "value"}):
        raise ValueError(f"skip_if: measure must be 'norm', 'value' or a function, not {measure!r}")
    build.check_number("skip_if", above=1, finite=False, factor=factor)
    build.check_number("skip_if", low=0, below=1, decay=decay)
    build.check_number("skip_if", above=0, sigmas=sigmas)
    inner = with_extra_args_support(inner)
    if window is not None:
        if not isinstance(window, int) or window < 4:
            raise ValueError(f"skip_if: window must be an int of at least 4, not {window!r}")
        if callable(measure):
            raise ValueError(
                "skip_if: a window needs 'norm' or 'value', not a function that decides"
            )
        return _by_window(inner, names, window, sigmas)
    if names not in ((), (measure,)):
        raise ValueError(
            f"skip_if: several measures need a window, as in window=128, not {measure!r}"
        )

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
            size = _measured(str(measure), updates, extra_args)
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


def _measured(name: str, updates: Updates, extra_args: dict[str, Any]) -> jax.Array:
    """Returns the gradient norm or the loss, a float32 scalar."""
    if name == "norm":
        return global_norm(updates).astype(jnp.float32)
    if extra_args.get("value") is None:
        raise ValueError("skip_if needs the loss: call update(updates, state, params, value=loss)")
    return jnp.asarray(extra_args["value"]).astype(jnp.float32)


def _by_window(
    inner: Any, names: tuple[str, ...], window: int, sigmas: Scalar
) -> build.Transformation:
    """`skip_if` by the mean and standard deviation of a window."""

    def init(params: Params) -> SkipIfWindowState:
        return SkipIfWindowState(
            build.zero_count(),
            jnp.zeros((len(names), window), jnp.float32),
            jnp.zeros((), jnp.bool_),
            build.zero_count(),
            inner.init(params),
        )

    def update(
        updates: Updates, state: SkipIfWindowState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, SkipIfWindowState]:
        sizes = jnp.stack([_measured(name, updates, extra_args) for name in names])
        finite = jnp.all(jnp.isfinite(sizes))
        known = jnp.minimum(state.count, window)
        # OLMo's code counts this step too.
        is_active = known >= max(window // 2 - 1, 2)
        skip = ~finite | (is_active & jnp.any(_exceeds(sizes, state.history, known, sigmas)))
        place = jnp.where(finite, state.count % window, window)  # of a row that is dropped
        history = state.history.at[:, place].set(sizes, mode="drop")
        new, inner_state = updates_or_zeros(
            ~skip, inner, updates, state.inner_state, params, **extra_args
        )
        return new, SkipIfWindowState(
            jnp.where(finite, safe_increment(state.count), state.count),
            history,
            skip,
            jnp.where(skip, safe_increment(state.total_skipped), state.total_skipped),
            inner_state,
        )

    return build.wrapping(init, update)


def _exceeds(sizes: jax.Array, history: jax.Array, known: jax.Array, sigmas: Scalar) -> jax.Array:
    """Returns which measures exceed the mean of their row of the history by some standard deviations."""
    is_known = jnp.arange(history.shape[1], dtype=known.dtype) < known
    count = known.astype(history.dtype)
    largest = jnp.max(jnp.abs(history), axis=1, keepdims=True)
    unit = jnp.where(largest > 0, largest, 1)  # squares do not overflow
    rows = history / unit
    mean = jnp.sum(rows, axis=1, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(is_known, (rows - mean) ** 2, 0), axis=1)
    std = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
    rounding = 16 * jnp.finfo(jnp.float32).eps  # of the mean of equal measures
    return sizes / unit[:, 0] - mean[:, 0] > sigmas * std + rounding
