"""DiLoCo: workers train alone, and agree every H steps.

θ ← θ + inner(∇f_w(θ))                      each worker w, at each step
Δ = mean over the workers of (a − θ)         every H steps, a: the anchor, equal on all workers
a ← a + outer(Δ),  θ ← a                     outer: SGD with Nesterov momentum in the paper

where f_w is the loss on the data of worker w and inner and outer are the two optimizers. With fragments,
part p of the parameters agrees p·H/n steps before the others, so that less is sent at once.

References: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023,
arXiv:2311.08105, algorithm 1; Douillard et al., "Streaming DiLoCo with overlapping communication", 2025,
arXiv:2501.18512, section 2.2, whose delayed and mixed merges are left out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import (
    OptState,
    Params,
    PyTree,
    Updates,
    build,
    safe_increment,
    tree,
    with_extra_args_support,
)
from optx_core._engine.run_if import as_varying, varying_axes
from optx_core._engine.seen import seeing
from optx_core._training.per_device import check_own


class DilocoState(NamedTuple):
    """State of `diloco`.

    Attributes:
      count: int32 scalar, the number of steps so far.
      anchor: the parameters on which the workers agreed last, in at least float32; equal on all workers.
      inner_state: the inner optimizer's state, the worker's own.
      outer_state: the outer optimizer's state for each fragment; equal on all workers.
    """

    count: build.Count
    anchor: Annotated[PyTree, build.slot(fill="params", exact=True)]
    inner_state: build.InnerState
    outer_state: build.InnerState


@build.recorded
def diloco(
    inner: Any,
    outer: Any,
    sync_every: int,
    *,
    axis_name: build.Names = None,
    fragments: int | Callable[[Params], PyTree] = 1,
    outer_dtype: build.DType = None,
) -> build.Transformation:
    """Trains workers that communicate only every H steps: DiLoCo.

    Each worker updates parameters of its own. Every H steps the mean of how far the workers moved is the
    gradient of an outer optimizer, and all continue from its result.

    Args:
      inner: the optimizer of each worker, such as AdamW.
      outer: the optimizer of the common parameters; in the paper SGD with Nesterov momentum 0.9 and a
        learning rate of 0.7.
      sync_every: H, the number of steps between two agreements of a parameter, a positive int.
      axis_name: the axis of the workers, or several, of `jax.shard_map`, `jax.vmap` or `jax.pmap`, also over
        processes; None for a single worker.
      fragments: n, the number of parts that agree at different steps: consecutive arrays of about the
        same size, at most H; or a function from the parameters to a tree of their structure with the
        fragment of each array, ints from 0.
      outer_dtype: the dtype in which (real) outer gradients are sent and summed, such as bfloat16; by default
        the anchor's, at least float32.

    Returns:
      A transformation with a `DilocoState`; `update` needs the parameters. Place it last in a chain. The
      updates of an agreement take the parameters to the anchor, up to the rounding of the addition; wrap it
      in `master_weights` for parameters of low precision. All workers start from the same parameters.

    Raises:
      ValueError: if `sync_every` or `fragments` is not a positive int, or there are more fragments than
        steps; from `init` and `update`, if a function returns other fragments; from `update`, if gradients
        are summed over the workers already (by `jax.grad` at parameters that do not vary in `jax.shard_map`).

    Reference: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import apply_updates, diloco, scale
      >>> tx = diloco(scale(-1.0), scale(-0.5), 2, axis_name="workers")
      >>> def train(target):
      ...     params = jnp.float32(0.0)
      ...     state = tx.init(params)
      ...     for _ in range(2):
      ...         updates, state = tx.update(params - target, state, params)
      ...         params = apply_updates(params, updates)
      ...     return params
      >>> jax.vmap(train, axis_name="workers")(jnp.array([1.0, 3.0]))  # half of the way to the mean
      Array([1., 1.], dtype=float32)
    """
    build.check_transformation_like("diloco", inner)
    build.check_transformation_like("diloco: outer", outer)
    for name, number in (("sync_every", sync_every), ("fragments", fragments)):
        if not callable(number) and (not isinstance(number, int) or number < 1):
            raise ValueError(f"diloco: {name} must be a positive int, not {number!r}")
    if isinstance(fragments, int) and fragments > sync_every:
        raise ValueError(
            f"diloco: {fragments} fragments need as many steps; sync_every={sync_every} has fewer"
        )
    build.check_dtype("diloco", "outer_dtype", outer_dtype)
    inner, outer = with_extra_args_support(inner), with_extra_args_support(outer)

    def init(params: Params) -> DilocoState:
        anchor = build.copy_of(params)
        parts = _parts(fragments, sync_every, params)
        with seeing("part"):
            outer_state = tuple(outer.init(_only(part, anchor)) for part in parts)
        return DilocoState(build.zero_count(), anchor, inner.init(params), outer_state)

    def update(
        updates: Updates, state: DilocoState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, DilocoState]:
        build.need_params("diloco", params)
        if axis_name is not None:
            check_own("diloco", updates, axis_name)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        count = safe_increment(state.count)
        parts = _parts(fragments, sync_every, params)
        anchor, outer_states = state.anchor, []
        for k, (part, outer_state) in enumerate(zip(parts, state.outer_state, strict=True)):
            offset = k * sync_every // len(parts)
            carry = _only(part, updates), _only(part, anchor), outer_state
            agree = functools.partial(agreement, _only(part, params))
            new = build.run_if((count + offset) % sync_every == 0, agree, carry)
            updates, anchor = _merged(part, updates, new[0]), _merged(part, anchor, new[1])
            outer_states.append(new[2])
        return updates, DilocoState(count, anchor, inner_state, tuple(outer_states))

    def agreement(params: Params, carry: tuple[Updates, PyTree, OptState]) -> Any:
        updates, anchor, outer_state = carry
        gradient = _map(_moved, anchor, params, updates)
        mean = _mean(gradient, axis_name, outer_dtype)
        with seeing("part"):
            steps, outer_state = outer.update(mean, outer_state, anchor)
        anchor = _map(_step, anchor, steps)
        updates = _map(_toward, updates, anchor, params)
        return jax.tree.map(_as_varied, (updates, anchor, outer_state), carry)

    return build.wrapping(init, update)


def _map(function: Callable[..., Any], *trees: PyTree) -> PyTree:
    return jax.tree.map(function, *trees, is_leaf=tree.is_placeholder)


def _moved(a: Any, p: Any, u: Any) -> Any:
    """Returns the outer gradient, how far the worker is from the anchor: a − (p + u)."""
    if tree.is_placeholder(a) or tree.is_placeholder(u):
        return None
    return a - (jnp.asarray(p).astype(a.dtype) + u.astype(a.dtype))


def _step(a: Any, step: Any) -> Any:
    return a if tree.is_placeholder(step) else a + step.astype(a.dtype)


def _toward(u: Any, a: Any, p: Any) -> Any:
    if tree.is_placeholder(u) or tree.is_placeholder(a):
        return u
    return (a - jnp.asarray(p).astype(a.dtype)).astype(u.dtype)


def _mean(gradient: PyTree, axis_name: Any, dtype: Any) -> PyTree:
    """Returns the mean over the workers; the sum is computed in the dtype, the division in the anchor's."""
    if axis_name is None:
        return gradient
    size = jax.lax.axis_size(axis_name)

    def leaf(g: jax.Array) -> jax.Array:
        sent = g if dtype is None or jnp.iscomplexobj(g) else g.astype(dtype)
        return jax.lax.psum(sent, axis_name).astype(g.dtype) / size

    return jax.tree.map(leaf, gradient)


def _as_varied(new: Any, old: Any) -> Any:
    """Gives a result the type of the carry where that differs between devices, as if it did, too."""
    return as_varying(new, varying_axes(old) - varying_axes(new))


def _parts(fragments: Any, sync_every: int, params: Params) -> list[list[bool]]:
    """Returns for each fragment which arrays it consists of."""
    leaves, structure = tree.flatten(params)
    if callable(fragments):
        labels = structure.flatten_up_to(fragments(params))
        count = 1 + max((k for k in labels if isinstance(k, int)), default=0)
        wrong = [
            k
            for k, x in zip(labels, leaves, strict=True)
            if not tree.is_placeholder(x) and not (isinstance(k, int) and k >= 0)
        ]
        if wrong or count > sync_every:
            raise ValueError(
                f"diloco: fragments must return ints from 0 to {sync_every - 1}, below sync_every, not "
                f"{wrong[0] if wrong else count - 1!r}"
            )
    else:
        sizes = [0 if tree.is_placeholder(x) else np.size(x) for x in leaves]
        ends = list(itertools.accumulate(sizes))
        total, count = max(ends[-1] if ends else 0, 1), fragments
        labels = [
            min(count * (2 * end - size) // (2 * total), count - 1)
            for end, size in zip(ends, sizes, strict=True)
        ]
    return [[label == k for label in labels] for k in range(count)]


def _only(part: list[bool], arrays: PyTree) -> PyTree:
    """Returns a tree with None in place of the arrays of other fragments."""
    leaves, structure = tree.flatten(arrays)
    return structure.unflatten(x if own else None for x, own in zip(leaves, part, strict=True))


def _merged(part: list[bool], arrays: PyTree, renewed: PyTree) -> PyTree:
    leaves, structure = tree.flatten(arrays)
    new = tree.flatten(renewed)[0]
    return structure.unflatten(n if own else x for x, n, own in zip(leaves, new, part, strict=True))
