"""Concatenation of all leaves of a dtype, so that the inner transformation sees a few large arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import (
    OptState,
    Params,
    PyTree,
    TreeMismatchError,
    Updates,
    build,
    tree,
    with_extra_args_support,
)
from optx_core._protocol.absent import paths
from optx_core._training.flat import Plan, pack, plan_of, unpack


@build.keeps_inner_state
@build.recorded
def flatten(inner: Any) -> build.Transformation:
    """Runs a transformation on vectors, each the concatenation of all leaves of one dtype.

    Reduces the overhead of thousands of small leaves, at the cost of copying them at each step;
    `ravel_params` keeps them flat instead. Use it with elementwise transformations (or those that need
    only the global norm): per-array rules see the whole vector as one array.

    Args:
      inner: the transformation.

    Returns:
      A transformation whose state is the inner one's, for one vector (or a dict of vectors by dtype,
      if the leaves have several).

    Raises:
      TreeMismatchError: from `update`, if a gradient is missing and the parameters were not passed, or
        the dtypes of gradients and parameters differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import flatten, trace
      >>> tx = flatten(trace(0.9))
      >>> tx.init({"a": jnp.ones((2, 2)), "b": jnp.ones(3)}).trace.shape
      (7,)
    """
    build.check_transformation_like("flatten", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> OptState:
        return inner.init(pack(params, plan_of(params)))

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        plan = plan_of(updates if params is None else params)
        leaves = plan.structure.flatten_up_to(updates)
        missing = [
            leaf is not None and tree.is_absent(x)
            for leaf, x in zip(plan.leaves, leaves, strict=True)
        ]
        _check_dtypes(plan, leaves, updates)
        flat_params = None if params is None else pack(params, plan)
        flat_updates, after = inner.update(pack(updates, plan), state, flat_params, **extra_args)
        if any(missing):
            after = _keep_missing(state, after, plan, missing)
        new = plan.structure.flatten_up_to(unpack(flat_updates, plan))
        results = [x if tree.is_absent(x) else u for x, u in zip(leaves, new, strict=True)]
        return plan.structure.unflatten(results), after

    return build.wrapping(init, update)


def _check_dtypes(plan: Plan, leaves: list[Any], updates: Updates) -> None:
    for k, (leaf, x) in enumerate(zip(plan.leaves, leaves, strict=True)):
        if leaf is not None and not tree.is_absent(x) and str(jnp.asarray(x).dtype) != leaf.dtype:
            raise TreeMismatchError(
                f"flatten: updates{paths(updates)[k]} is {jnp.asarray(x).dtype}, the parameter is "
                f"{leaf.dtype}: each vector has a single dtype"
            )


def _keep_missing(before: OptState, after: OptState, plan: Plan, missing: list[bool]) -> OptState:
    """Returns the new state, with the old entries for parameters without a gradient."""
    gaps: dict[int, list[tuple[int, int]]] = {}
    sizes = dict.fromkeys(plan.dtypes, 0)
    for leaf in plan.leaves:
        if leaf is not None:
            sizes[leaf.dtype] = max(sizes[leaf.dtype], leaf.start + leaf.size)
    for leaf, is_missing in zip(plan.leaves, missing, strict=True):
        if leaf is not None and is_missing:
            gaps.setdefault(sizes[leaf.dtype], []).append((leaf.start, leaf.start + leaf.size))

    def keep(old: PyTree, new: PyTree) -> PyTree:
        for start, end in gaps.get(new.shape[0], []) if new.ndim == 1 else []:
            new = new.at[start:end].set(old[start:end])
        return new

    return jax.tree.map(keep, before, after)
