"""Frozen parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_core import Params, PyTree, build, tree
from optx_core._combinators.masked import restricted
from optx_core._combinators.partition import parted
from optx_core._engine.labels import mask_like
from optx_core._transforms.stateless import set_to_zero


@build.recorded
def freeze(mask: PyTree | Callable[[Params], PyTree]) -> build.Transformation:
    """Sets the updates of some leaves to zero.

    Earlier transformations in a chain still run for these leaves; wrap an optimizer in
    `selective_transform` to save its state and computation too.

    Args:
      mask: the frozen leaves, as for `masked`.

    Returns:
      A transformation with a `MaskedState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import freeze
      >>> tx = freeze({"a": True, "b": False})
      >>> tx.update({"a": jnp.ones(1), "b": jnp.ones(1)}, tx.init({"a": 0.0, "b": 0.0}))[0]
      {'a': Array([0.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    return restricted("freeze", set_to_zero(), mask)


@build.recorded
def selective_transform(
    optimizer: Any, *, freeze_mask: PyTree | Callable[[Params], PyTree]
) -> build.Transformation:
    """Applies an optimizer to all leaves but the frozen ones, which need no state and no computation.

    Args:
      optimizer: the transformation of the trained leaves.
      freeze_mask: the frozen leaves, as for `masked`; their updates are zero.

    Returns:
      A transformation with a `PartitionState`, labels "train" and "freeze".

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import selective_transform, trace
      >>> tx = selective_transform(trace(0.9), freeze_mask={"a": True, "b": False})
      >>> len(jax.tree.leaves(tx.init({"a": jnp.ones(3), "b": jnp.ones(3)})))
      1
    """
    build.check_transformation_like("selective_transform", optimizer)

    def labels(params: Params) -> PyTree:
        flags, structure = tree.flatten(mask_like(freeze_mask, params, "selective_transform"))
        return structure.unflatten(
            [f if tree.is_placeholder(f) else ("freeze" if f else "train") for f in flags]
        )

    return parted(
        "selective_transform",
        {"train": optimizer, "freeze": set_to_zero()},
        labels,
        all_used=False,
    )
