"""Transformations applied at some steps only.

conditionally_transform: at the other steps the updates pass unchanged.
conditionally_mask:      at the other steps the updates are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, Updates, build, safe_increment, with_extra_args_support
from optx_core._wrappers.apply_if_finite import updates_or_zeros

Condition = Callable[..., Any]


class ConditionallyTransformState(NamedTuple):
    """State of `conditionally_transform`.

    Attributes:
      inner_state: the inner transformation's state.
      step: int32 scalar, the number of updates so far.
    """

    inner_state: build.InnerState
    step: build.Count


class ConditionallyMaskState(NamedTuple):
    """State of `conditionally_mask`.

    Attributes:
      step: int32 scalar, the number of updates so far.
      inner_state: the inner transformation's state.
    """

    step: build.Count
    inner_state: build.InnerState


@build.recorded
def conditionally_transform(
    inner: Any, should_transform_fn: Condition, forward_extra_args: bool = False
) -> build.Transformation:
    """Applies a transformation at some steps; at the others the updates pass unchanged.

    Args:
      inner: the transformation; at the other steps it does not run and its state is unchanged.
      should_transform_fn: `f(step)` returns whether to apply it; `step` counts updates from 0.
      forward_extra_args: whether `f` also takes the extra arguments of `update`, by keyword.

    Returns:
      A transformation with a `ConditionallyTransformState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import conditionally_transform, scale
      >>> tx = conditionally_transform(scale(10.0), lambda step: step % 2 == 1)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state)
      ...     print(float(updates[0]))
      1.0
      10.0
    """
    build.check_transformation_like("conditionally_transform", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> ConditionallyTransformState:
        return ConditionallyTransformState(inner.init(params), build.zero_count())

    def update(
        updates: Updates,
        state: ConditionallyTransformState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, ConditionallyTransformState]:
        build.check_state("conditionally_transform", ConditionallyTransformState, state)

        def run(carry: tuple[Updates, OptState]) -> tuple[Updates, OptState]:
            before, inner_state = carry
            new, inner_state = inner.update(before, inner_state, params, **extra_args)
            return jax.tree.map(lambda u, g: u.astype(g.dtype), new, before), inner_state

        holds = _holds(should_transform_fn, state.step, forward_extra_args, extra_args)
        updates, inner_state = build.run_if(holds, run, (updates, state.inner_state))
        return updates, ConditionallyTransformState(inner_state, safe_increment(state.step))

    return build.wrapping(init, update)


@build.recorded
def conditionally_mask(
    inner: Any, should_transform_fn: Condition, forward_extra_args: bool = False
) -> build.Transformation:
    """Applies a transformation at some steps; at the others the updates are zero.

    Args:
      inner: the transformation; at the other steps it does not run and its state is unchanged.
      should_transform_fn: `f(step)` returns whether to apply it; `step` counts updates from 0.
      forward_extra_args: whether `f` also takes the extra arguments of `update`, by keyword.

    Returns:
      A transformation with a `ConditionallyMaskState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import conditionally_mask, scale
      >>> tx = conditionally_mask(scale(-1.0), lambda step: step >= 1)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state)
      ...     print(float(updates[0]))
      0.0
      -1.0
    """
    build.check_transformation_like("conditionally_mask", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> ConditionallyMaskState:
        return ConditionallyMaskState(build.zero_count(), inner.init(params))

    def update(
        updates: Updates, state: ConditionallyMaskState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, ConditionallyMaskState]:
        build.check_state("conditionally_mask", ConditionallyMaskState, state)
        holds = _holds(should_transform_fn, state.step, forward_extra_args, extra_args)
        updates, inner_state = updates_or_zeros(
            holds, inner, updates, state.inner_state, params, **extra_args
        )
        return updates, ConditionallyMaskState(safe_increment(state.step), inner_state)

    return build.wrapping(init, update)


def _holds(condition: Condition, step: jax.Array, forward: bool, extra: dict[str, Any]) -> Any:
    return jnp.asarray(condition(step, **extra) if forward else condition(step), jnp.bool_)
