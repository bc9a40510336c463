"""Stateless transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, Updates, build, tree
from optx_core._engine.staged import without_state


@build.recorded
def identity() -> build.Transformation:
    """Returns the updates unchanged.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> from optx_core import identity
      >>> identity().update({"w": 1.0}, identity().init(None))
      ({'w': 1.0}, EmptyState())
    """

    def stages(
        flow: build.Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        del flow, params, extra_args
        return lambda: state

    return without_state(stages)


@build.rule()
def set_to_zero(g: jax.Array, /) -> jax.Array:
    """Sets all updates to zero.

    Returns:
      A transformation with an `EmptyState`. To save the computation too, use `partition` or `masked`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import set_to_zero
      >>> set_to_zero().update(jnp.ones(2), set_to_zero().init(None))[0]
      Array([0., 0.], dtype=float32)
    """
    return jnp.zeros_like(g)


@build.recorded
def stateless(f: Callable[[Updates, Params], Updates]) -> build.Transformation:
    """Makes a transformation from a function of the updates and the parameters.

    Args:
      f: `f(updates, params)` returns new updates of the same structure and shapes; `params` is None
        if `update` was called without them.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax
      >>> from optx_core import stateless
      >>> double = stateless(lambda updates, params: jax.tree.map(lambda g: 2 * g, updates))
      >>> double.update({"w": 1.0}, double.init(None))[0]
      {'w': 2.0}
    """

    def stages(
        flow: build.Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        del extra_args
        flow.updates = flow.restore(f(flow.present, params))
        return lambda: state

    return without_state(stages)


@build.recorded
def stateless_with_tree_map(f: Callable[[Any, Any], Any]) -> build.Transformation:
    """Makes a transformation from a function of one update and its parameter.

    Args:
      f: `f(g, p)` returns the new update of one array, of the same shape; `p` is None if `update`
        was called without parameters.

    Returns:
      A transformation with an `EmptyState`. None leaves pass unchanged; `f` is not called for them.

    Example:
      >>> from optx_core import stateless_with_tree_map
      >>> decay = stateless_with_tree_map(lambda g, p: g + 0.5 * p)
      >>> decay.update({"w": 1.0}, decay.init(None), {"w": 4.0})[0]
      {'w': 3.0}
    """

    def leaf(g: Any, p: Any = None) -> Any:
        return g if tree.is_placeholder(g) else f(g, p)

    def stages(
        flow: build.Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        del extra_args
        trees = (flow.present,) if params is None else (flow.present, params)
        flow.updates = flow.restore(jax.tree.map(leaf, *trees, is_leaf=tree.is_placeholder))
        return lambda: state

    return without_state(stages)
