"""Which Variables can be trained: a filter for models that hold whole numbers among their parameters."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from flax import nnx


def trainable(path: Any, value: Any) -> bool:
    """Whether a Variable is an `nnx.Param` of real or complex numbers: an nnx filter, for `wrt`.

    With `wrt=nnx.Param`, `nnx.grad` refuses integer and boolean parameters, and `nnx.Optimizer` adds to
    them what has no gradient. With this filter for both they are no parameters.

    Args:
      path: where the Variable stands.
      value: the Variable.

    Returns:
      True for a parameter that has a gradient.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import trainable
      >>> model = nnx.Dict(w=nnx.Param(jnp.ones(2)), table=nnx.Param(jnp.arange(3)))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=trainable)
      >>> grads = nnx.grad(lambda m: m["w"][...].sum(), argnums=nnx.DiffState(0, trainable))(model)
      >>> _ = optimizer.update(model, grads)
      >>> [x.shape for x in jax.tree.leaves(optimizer.opt_state)]
      [(2,)]
    """
    del path
    if not isinstance(value, nnx.Param):
        return False
    dtype = getattr(value.get_value(), "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact))
