"""Lookahead: fast weights explore, slow weights move part of the way to them every k steps.

slow ← slow + slow_step_size·(fast − slow),  fast ← slow     every sync_period steps

Reference: Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", 2019,
algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import Params, PyTree, Scalar, Updates, build, with_extra_args_support


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
    """State of `lookahead`.

    Attributes:
      fast_state: the fast optimizer's state.
      steps_since_sync: int32 scalar, the number of steps since the last synchronization.
    """

    fast_state: build.InnerState
    steps_since_sync: jax.Array


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
      A transformation with a `LookaheadState`. Its parameters, and the updates it returns, are
      `LookaheadParams`; the gradients it takes are those at the fast weights.

    Raises:
      ValueError: if `sync_period` is below 1.
      TypeError: from `init` and `update`, if the parameters are not `LookaheadParams`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import LookaheadParams, apply_updates, lookahead, scale
      >>> tx = lookahead(scale(-1.0), sync_period=2, slow_step_size=0.5)
      >>> params = LookaheadParams.init_synced(jnp.array([1.0]))
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([1.0]), state, params)
      ...     params = apply_updates(params, updates)
      >>> params.slow, params.fast
      (Array([0.], dtype=float32), Array([0.], dtype=float32))
    """
    build.check_transformation_like("lookahead", fast_optimizer)
    if not isinstance(sync_period, int) or sync_period < 1:
        raise ValueError(f"lookahead: sync_period must be a positive int, not {sync_period!r}")
    build.check_number("lookahead", low=0, high=1, slow_step_size=slow_step_size)
    inner = with_extra_args_support(fast_optimizer)

    def init(params: LookaheadParams) -> LookaheadState:
        fast = _check(params).fast
        return LookaheadState(inner.init(fast), build.zero_count())

    def update(
        updates: Updates, state: LookaheadState, params: Any = None, **extra_args: Any
    ) -> tuple[LookaheadParams, LookaheadState]:
        fast, slow = _check(params)
        steps, fast_state = inner.update(updates, state.fast_state, fast, **extra_args)
        sync = state.steps_since_sync == sync_period - 1

        def leaf(u: Any, f: Any, s: Any) -> tuple[Any, Any]:
            if u is None:
                return None, None
            ahead = f + u - s
            back = jnp.asarray(slow_step_size, ahead.dtype) * ahead
            zero = jnp.zeros_like(ahead)
            return jnp.where(sync, u - (ahead - back), u), jnp.where(sync, back, zero)

        pairs = jax.tree.map(leaf, steps, fast, slow, is_leaf=lambda x: x is None)
        is_pair = lambda x: type(x) is tuple  # noqa: E731
        moves = LookaheadParams(
            fast=jax.tree.map(lambda pair: pair[0], pairs, is_leaf=is_pair),
            slow=jax.tree.map(lambda pair: pair[1], pairs, is_leaf=is_pair),
        )
        if reset_state:
            initial = inner.init(fast)
            fast_state = jax.tree.map(lambda a, b: jnp.where(sync, a, b), initial, fast_state)
        since = jnp.where(sync, build.zero_count(), state.steps_since_sync + 1)
        return moves, LookaheadState(fast_state, since)

    return build.Transformation(init, update)


def _check(params: Any) -> LookaheadParams:
    if not isinstance(params, LookaheadParams) and not (
        isinstance(params, tuple) and getattr(params, "_fields", ()) == ("fast", "slow")
    ):
        raise TypeError(
            "lookahead: the parameters must be LookaheadParams: pass "
            f"LookaheadParams.init_synced(params) to init and to update, not {type(params).__name__}"
        )
    return LookaheadParams(*params)
