"""Lookahead: fast weights explore, slow weights move part of the way to them every k steps.

slow ← slow + slow_step_size·(fast − slow),  fast ← slow     every sync_period steps

The parameters are the fast weights, and the slow ones are in the state; or the parameters are a pair of both.

Reference: Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", 2019,
algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    OptState,
    Params,
    PyTree,
    Scalar,
    Updates,
    apply_updates,
    build,
    tree,
    with_extra_args_support,
)


class LookaheadParams(NamedTuple):
    """The two sets of parameters of `lookahead`.

    Attributes:
      fast: the parameters at which the loss is evaluated.
      slow: the final parameters, of the same structure and shapes.
    """

    fast: PyTree
    slow: PyTree

    @classmethod
    def init_synced(cls, params: Params) -> LookaheadParams:
        """Returns both sets with equal values, in separate buffers."""
        return cls(fast=params, slow=jax.tree.map(jnp.copy, params))


class LookaheadState(NamedTuple):
    """State of `lookahead` for `LookaheadParams`.

    Attributes:
      fast_state: the fast optimizer's state.
      steps_since_sync: int32 scalar, the number of steps since the last synchronization.
    """

    fast_state: build.InnerState
    steps_since_sync: jax.Array


class SlowWeightsState(NamedTuple):
    """State of `lookahead` for all other parameters, which are the fast weights.

    Attributes:
      slow: the slow weights, the ones to evaluate, in at least float32; None where the parameters are not
        floating-point.
      inner_state: a `LookaheadState`.
    """

    slow: Annotated[PyTree, build.slot(fill="params", exact=True)]
    inner_state: build.InnerState


@build.recorded
def lookahead(
    fast_optimizer: Any, sync_period: int, slow_step_size: Scalar, reset_state: bool = False
) -> build.Transformation:
    """Wraps an optimizer in Lookahead (Zhang et al., 2019).

    Args:
      fast_optimizer: the transformation of the fast weights.
      sync_period: k, the number of fast steps between synchronizations, a positive int.
      slow_step_size: α, the fraction of the way that the slow weights move, a scalar in [0, 1].
      reset_state: whether to reset the fast optimizer's state at each synchronization.

    Returns:
      A transformation with a `SlowWeightsState`: the parameters are the fast weights, and the slow ones,
      which are the ones to evaluate, are `eval_params(state, params)`. `update` needs the parameters.

      If `init` is given `LookaheadParams`, it has a `LookaheadState`: the parameters, and the updates, are
      pairs, and the gradients are those at the fast weights.

    Raises:
      ValueError: if `sync_period` is below 1.
      TreeMismatchError: from `update`, if the state was made for `LookaheadParams` and the parameters are
        others.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_updates, eval_params, lookahead, scale
      >>> tx, params = lookahead(scale(-1.0), sync_period=2, slow_step_size=0.5), jnp.array([1.0])
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0]), state, params)
      ...     params = apply_updates(params, updates)
      >>> params, eval_params(state)
      (Array([-1.], dtype=float32), Array([0.], dtype=float32))
    """
    build.check_transformation_like("lookahead", fast_optimizer)
    if not isinstance(sync_period, int) or sync_period < 1:
        raise ValueError(f"lookahead: sync_period must be a positive int, not {sync_period!r}")
    build.check_number("lookahead", low=0, high=1, slow_step_size=slow_step_size)
    inner = with_extra_args_support(fast_optimizer)

    def steps(
        updates: Updates, state: LookaheadState, fast: Params, slow: Params, **extra_args: Any
    ) -> tuple[LookaheadParams, LookaheadState]:
        moves, fast_state = inner.update(updates, state.fast_state, fast, **extra_args)
        sync = state.steps_since_sync == sync_period - 1

        def leaf(u: Any, f: Any, s: Any) -> tuple[Any, Any]:
            if tree.is_absent(u):
                return u, u
            real = build.common_real_dtype(u.dtype, s.dtype)
            step, f, s = (build.cast_to_compute(jnp.asarray(x), real) for x in (u, f, s))
            ahead = f + step - s
            back = jnp.asarray(slow_step_size, ahead.dtype) * ahead
            fast_step = jnp.where(sync, step - (ahead - back), step)
            return fast_step.astype(u.dtype), jnp.where(sync, back, jnp.zeros_like(ahead))

        leaves, structure = build.tree_flatten(moves, is_leaf=tree.is_placeholder)
        of_fast, of_slow = structure.flatten_up_to(fast), structure.flatten_up_to(slow)
        pairs = list(map(leaf, leaves, of_fast, of_slow))
        both = LookaheadParams(
            fast=structure.unflatten([step for step, _ in pairs]),
            slow=structure.unflatten([step for _, step in pairs]),
        )
        if reset_state:
            initial = inner.init(fast)
            fast_state = jax.tree.map(lambda a, b: jnp.where(sync, a, b), initial, fast_state)
        since = jnp.where(sync, build.zero_count(), state.steps_since_sync + 1)
        return both, LookaheadState(fast_state, since)

    def init_kept(params: Params) -> SlowWeightsState:
        return SlowWeightsState(
            build.copy_of(params), LookaheadState(inner.init(params), build.zero_count())
        )

    def update_kept(
        updates: Updates, state: SlowWeightsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, SlowWeightsState]:
        build.need_params("lookahead", params)
        moves, inner_state = steps(updates, state.inner_state, params, state.slow, **extra_args)
        return moves.fast, SlowWeightsState(apply_updates(state.slow, moves.slow), inner_state)

    kept = build.wrapping(init_kept, update_kept)

    def init(params: Params) -> OptState:
        if not _is_pair(params):
            return kept.init(params)
        return LookaheadState(inner.init(params[0]), build.zero_count())

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        if _is_pair(params):
            return steps(updates, state, *params, **extra_args)
        return kept.update(updates, state, params, **extra_args)

    return build.Transformation(init, update)


def _is_pair(params: Any) -> bool:
    """Returns whether parameters are `LookaheadParams`, ours or optax's."""
    return isinstance(params, tuple) and getattr(params, "_fields", ()) == ("fast", "slow")
