"""Value and gradient of a loss, taken from the state of a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._line_search.line import search_states
from optx_core import OptState, Params, PyTree, tree


def value_and_grad_from_state(
    value_fn: Callable[..., Any],
) -> Callable[..., tuple[Array, PyTree]]:
    """Like `jax.value_and_grad`, but reuses the evaluation of a line search.

    The search ended at the point at which the next step starts, and kept value and gradient in its state.
    For losses that are the same function at each step: with new data they must be evaluated anew.

    Args:
      value_fn: the loss; takes the parameters, returns a scalar.

    Returns:
      A function `value_and_grad(params, *args, state=state, **kwargs)`; `state` is that of an optimizer
      that holds one line search, at any depth. It returns the stored value and gradient if the value
      is finite; otherwise, as at the first step, it evaluates `value_fn(params, *args, **kwargs)`.

    Raises:
      KeyError: from that function, if the state holds no line search, or several.
      ValueError: likewise, if the search does not keep the gradient.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import lbfgs, value_and_grad_from_state
      >>> def loss(p):
      ...     return jnp.sum(p**2)
      >>> state = lbfgs().init(jnp.ones(2))
      >>> value, grad = value_and_grad_from_state(loss)(jnp.ones(2), state=state)
      >>> float(value)
      2.0
    """
    if not callable(value_fn):
        raise TypeError(f"value_and_grad_from_state takes a function, not {value_fn!r}")

    def value_and_grad(
        params: Params, *args: Any, state: OptState, **kwargs: Any
    ) -> tuple[Array, PyTree]:
        searches = search_states(state)
        if len(searches) != 1:
            raise KeyError(
                f"value_and_grad_from_state: the state holds {len(searches)} line searches, not one; use "
                "jax.value_and_grad, or an optimizer such as lbfgs()"
            )
        kept = searches[0]
        if kept.grad is None and params is not None:
            raise ValueError(
                "value_and_grad_from_state: the line search does not keep the gradient; make it with "
                "scale_by_backtracking_linesearch(..., store_grad=True)"
            )

        def anew() -> tuple[Array, PyTree]:
            value, grad = jax.value_and_grad(value_fn, allow_int=True)(params, *args, **kwargs)
            return value, jax.tree.map(lambda g: None if tree.is_absent(g) else g, grad)

        def stored() -> tuple[Array, PyTree]:
            return jax.tree.map(
                lambda like, x: x.reshape(like.shape).astype(like.dtype),
                jax.eval_shape(anew),
                (kept.value, kept.grad),
            )

        return jax.lax.cond(jnp.isfinite(kept.value), stored, anew)

    return value_and_grad
