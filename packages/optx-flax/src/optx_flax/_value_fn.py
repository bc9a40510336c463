"""The loss as a function of the parameters alone, for line searches.

`nnx.merge(graphdef, params)` fails as soon as a model holds more than parameters. Here the rest of the
state (batch statistics, random streams) is kept, so that each evaluation of a search sees the same
function: the same dropout mask, the same statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from flax import nnx
from optx_flax._paths import structure_of


def value_fn(
    model: Any, loss_fn: Callable[..., Any], *args: Any, wrt: Any = nnx.Param, has_aux: bool = False
) -> Callable[[Any], jax.Array]:
    """The loss of a model on a batch, as a function of its parameters.

    Call it *before* the gradient is taken, so that both draw the same dropout mask. It does not change
    the model.

    Args:
      model: the model.
      loss_fn: `loss_fn(model, *args)` returns a scalar; with `has_aux` a pair of the scalar and
        auxiliary output.
      *args: the batch.
      wrt: which Variables are parameters; as given to `nnx.Optimizer`.
      has_aux: whether `loss_fn` returns auxiliary output, which is ignored.

    Returns:
      A function of the parameters, for `optimizer.update(model, grads, value=loss, grad=grads,
      value_fn=value_fn)` with `lbfgs` and the line searches.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_flax import value_fn
      >>> model = nnx.Sequential(nnx.Linear(2, 8, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
      >>> loss_fn = lambda model, x: jnp.mean(model(x) ** 2)
      >>> f = value_fn(model, loss_fn, jnp.ones((4, 2)))
      >>> loss, grads = nnx.value_and_grad(loss_fn)(model, jnp.ones((4, 2)))
      >>> bool(loss == f(nnx.state(model, nnx.Param)))
      True
    """
    graphdef, params, rest = nnx.split(model, wrt, ...)
    kept = nnx.as_pure(rest)
    structure = structure_of(nnx.as_pure(params))

    def value(params: Any) -> jax.Array:
        pure = nnx.as_pure(params)
        if structure_of(pure) != structure:
            leaves = jax.tree_util.tree_leaves(pure)
            if len(leaves) != structure.num_leaves:
                raise ValueError(
                    f"value_fn: the model has {structure.num_leaves} parameters, got {len(leaves)}; "
                    "wrt= must be that of the optimizer"
                )
            pure = structure.unflatten(leaves)
        out = loss_fn(nnx.merge(graphdef, pure, kept), *args)
        return out[0] if has_aux else out

    return value
