"""A table of an optimizer over the parameters of a model."""

from __future__ import annotations

from typing import Any

import jax

import optx_core
from flax import nnx
from optx_core.build import short_repr
from optx_flax._paths import keys, params_of


def summarize(model_or_state: Any, optimizer: Any, *, wrt: Any = nnx.Param) -> optx_core.Summary:
    """Tells how an optimizer treats each parameter of a model. Nothing is allocated.

    Args:
      model_or_state: an `nnx.Module`, an abstract one (`nnx.eval_shape`), or the state of its parameters.
      optimizer: a transformation, or an `nnx.Optimizer` with one.
      wrt: which Variables of a model are parameters; those of an `nnx.Optimizer` are its own.

    Returns:
      An `optx_core.Summary`, which prints as a table: the group, the hyper-parameters at the first update
      and the bytes of state of each parameter. The paths are those of rules, "layers/0/kernel".

    Raises:
      TypeError: if the arguments are in another order.

    Example:
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import summarize
      >>> model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
      >>> print(summarize(model, trace(0.9)))
      parameter  shape  dtype    group  state
      ---------------------------------------
      bias           3  float32          12 B
      kernel       2×3  float32          24 B
      decay=0.9
      2 parameters with 9 entries; 36 B of state, of which 0 B belong to no parameter
    """
    tx = optimizer.tx if isinstance(optimizer, nnx.Optimizer) else optimizer
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"summarize: the second argument must be a transformation or an nnx.Optimizer, not "
            f"{short_repr(tx)}; call summarize(model, optimizer)"
        )
    wrt = optimizer.wrt if isinstance(optimizer, nnx.Optimizer) else wrt
    params = nnx.as_pure(params_of("summarize", model_or_state, wrt))
    made = optx_core.summarize(tx, params)
    paths = ["/".join(keys(path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    rows = [
        optx_core.SummaryRow(
            path, row.shape, row.dtype, row.group, row.hyperparams, row.state_bytes
        )
        for path, row in zip(paths, made.rows, strict=True)
    ]
    return optx_core.Summary(tuple(rows), made.shared_bytes)
