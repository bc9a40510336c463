"""Value and gradient of a loss, taken from where a line search left them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, PyTree, tree


def value_and_grad_from_state(
    value_fn: Callable[..., Any],
) -> Callable[..., tuple[jax.Array, PyTree]]:
    """Like `jax.value_and_grad`, but without evaluating what a line search has evaluated already.

    The search ended at the point where the next step starts, and kept value and gradient in its state.
    For losses that are the same function at each step: with new data they must be evaluated anew.

    Args:
      value_fn: the loss; takes the parameters, returns a scalar.

    Returns:
      A function `value_and_grad(params, *args, state=state, **kwargs)`; `state` is that of an optimizer
      that holds one line search, at any depth. It returns the stored value and gradient where the value
      is finite, and evaluates `value_fn(params, *args, **kwargs)` where it is not (at the first step).

    Raises:
      KeyError: from that function, if the state holds no line search, or several.
      ValueError: likewise, if the search keeps no gradient.

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
    ) -> tuple[jax.Array, PyTree]:
        found = search_states(state)
        if len(found) != 1:
            raise KeyError(
                f"value_and_grad_from_state: the state holds {len(found)} line searches, not one; use "
                "jax.value_and_grad, or an optimizer such as lbfgs()"
            )
        kept = found[0]
        if kept.grad is None and params is not None:
            raise ValueError(
                "value_and_grad_from_state: the line search keeps no gradient; make it with "
                "scale_by_backtracking_linesearch(..., store_grad=True)"
            )
        evaluate = jax.value_and_grad(value_fn, allow_int=True)
        shapes = jax.eval_shape(evaluate, params, *args, **kwargs)

        def stored() -> tuple[jax.Array, PyTree]:
            value, grad = shapes
            gs, structure = tree.flatten(grad)
            olds = structure.flatten_up_to(kept.grad)
            made = [
                g if tree.is_absent(g) else jnp.asarray(old).astype(g.dtype)
                for g, old in zip(gs, olds, strict=True)
            ]
            return kept.value.reshape(value.shape).astype(value.dtype), drop(
                structure.unflatten(made)
            )

        def anew() -> tuple[jax.Array, PyTree]:
            value, grad = evaluate(params, *args, **kwargs)
            return jnp.asarray(value).astype(shapes[0].dtype), drop(grad)

        def drop(grad: PyTree) -> PyTree:
            """The gradient with None for the float0 leaves of integers."""
            return jax.tree.map(
                lambda g: None if tree.is_absent(g) and not tree.is_placeholder(g) else g,
                grad,
                is_leaf=tree.is_placeholder,
            )

        return jax.lax.cond(jnp.isfinite(kept.value), stored, anew)

    return value_and_grad


def search_states(state: OptState) -> list[Any]:
    """The states of line searches within a state: what keeps a learning rate, a value and a gradient."""

    def is_search(node: Any) -> bool:
        fields = getattr(node, "_fields", ())
        return {"learning_rate", "value", "grad"} <= set(fields)

    return [node for node in jax.tree.leaves(state, is_leaf=is_search) if is_search(node)]
