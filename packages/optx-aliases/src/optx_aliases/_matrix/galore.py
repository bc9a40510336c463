"""GaLore: an optimizer whose state lives in a subspace of the gradient.

every update_proj_gap steps   P = the first `rank` singular vectors of G, of its longer side
R = Pᵀ·G    (or G·P)
u = scale·P·ρ(R)    (or scale·ρ(R)·Pᵀ),   ρ the base optimizer, Adam unless said otherwise

The paper, and its code, project the shorter side; optax the longer one, so that ρ keeps its moments for
rank × (the shorter side) numbers only. We follow optax: the same numbers, and the smaller state. The
base optimizer's moments stay as they are when P turns, as in both.

Reference: Zhao, Zhang, Chen, Wang, Anandkumar, Tian, "GaLore: Memory-Efficient LLM Training by Gradient
Low-Rank Projection", 2024, algorithm 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._transforms.adam import scale_by_adam
from optx_aliases._matrix.explicit_mesh import laid, whole
from optx_aliases._matrix.matrices import (
    PLAIN,
    Axes,
    axes_of,
    broadcast_dims,
    flatten_with_path,
    from_stack,
    matrix_shape,
    to_stack,
)
from optx_aliases._matrix.matrix_slots import is_used, unused_slot
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    ScalarOrSchedule,
    TreeMismatchError,
    Updates,
    add_decayed_weights,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)
from optx_core.build import (
    at_least_float32,
    check_number,
    check_transformation_like,
    recorded,
    run_if,
    schedulable,
    wrapping,
    zero_count,
)


class GaLoreDimensionNumbers(NamedTuple):
    """Which axes of an array are the rows and columns of its matrix; together they are all axes.

    Attributes:
      reduction_axis: the axis, or axes, that the layer sums over: the rows.
      output_axis: the axis, or axes, of its outputs: the columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class GaLoreState(NamedTuple):
    """State of `scale_by_galore`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      base_optimizer_state: the base optimizer's state, for R (and for leaves that are not projected).
      projector: P of each leaf, (longer side, rank), or (1,), unused, where it is not projected.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    base_optimizer_state: OptState
    projector: PyTree


@recorded
@schedulable("scale")
def scale_by_galore(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 1.0,
    base_optimizer: Any = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformationExtraArgs:
    """Runs an optimizer on gradients projected to a subspace, so that its state is small.

    Args:
      rank: the dimension of the subspace, a positive int; a shorter side has its own length.
      update_proj_gap: after how many steps the subspace is chosen anew, a positive int.
      scale: multiplies the updates of projected leaves; a scalar, or a schedule.
      base_optimizer: the transformation to run there; `scale_by_adam()` by default. It gets no
        parameters, as there are none in the subspace: let `galore` decay weights.
      weight_dimension_numbers: which leaves are projected, and which axes are their rows and columns: a
        `GaLoreDimensionNumbers` for all leaves of two axes and more; a tree of them, None where a leaf
        is not projected, or a prefix of one; or a function from the parameters to that. By default
        leaves of two axes are projected.

    Returns:
      A transformation with a `GaLoreState`. The projector counts as a constant in derivatives.

    Raises:
      ValueError: if a number is out of its range, or dimension numbers leave an axis out.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_galore
      >>> state = scale_by_galore(rank=2).init(jnp.zeros((8, 6)))
      >>> state.projector.shape, state.base_optimizer_state.mu.shape
      ((8, 2), (2, 6))
    """
    for name, value in (("rank", rank), ("update_proj_gap", update_proj_gap)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"scale_by_galore: {name} must be a positive int, not {value!r}")
    check_number("scale_by_galore", scale=scale)
    base = scale_by_adam() if base_optimizer is None else base_optimizer
    check_transformation_like("scale_by_galore: base_optimizer", base)
    base = with_extra_args_support(base)

    def init(params: Params) -> GaLoreState:
        leaves, structure = tree.flatten(params)
        axes = _axes(weight_dimension_numbers, params)
        projectors, proxies = [], []
        for p, own in zip(leaves, axes, strict=True):
            if tree.is_placeholder(p) or not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
                projectors.append(p if tree.is_placeholder(p) else None)
                proxies.append(projectors[-1])
                continue
            p = jnp.asarray(p)  # noqa: PLW2901
            dtype = at_least_float32(p.dtype)
            if own is None:
                projectors.append(unused_slot(p, dtype))
                proxies.append(p)
                continue
            matrix = jnp.zeros_like(_matrix(p, own), dtype=dtype)
            tall, k = matrix.shape[0] >= matrix.shape[1], min(rank, *matrix.shape)
            longer, shorter = (
                (matrix.sum(1), matrix.sum(0)) if tall else (matrix.sum(0), matrix.sum(1))
            )
            projectors.append(jnp.broadcast_to(longer[:, None], (len(longer), k)))
            proxy = jnp.broadcast_to(shorter[None, :], (k, len(shorter)))
            proxies.append((proxy if tall else proxy.T).astype(p.dtype))
        return GaLoreState(
            zero_count(), base.init(structure.unflatten(proxies)), structure.unflatten(projectors)
        )

    def update(
        updates: Updates, state: GaLoreState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, GaLoreState]:
        del params
        pairs, structure = flatten_with_path(updates)
        axes = _axes(weight_dimension_numbers, updates)
        try:
            projectors = structure.flatten_up_to(state.projector)
        except (ValueError, TypeError) as error:
            raise TreeMismatchError(
                f"scale_by_galore: updates and the state have different structures: {error}"
            ) from None
        due = state.count % update_proj_gap == 0
        small, new = [], []
        for (path, g), own, projector in zip(pairs, axes, projectors, strict=True):
            if tree.is_placeholder(g) or own is None:
                small.append(g)
                new.append(projector)
                continue
            matrix = whole(_matrix(g, own)).astype(at_least_float32(g.dtype))
            where = f"scale_by_galore: updates{jax.tree_util.keystr(path)}"
            kept = not tree.is_placeholder(projector) and is_used(projector)
            if not kept or len(projector) != max(matrix.shape):
                raise TreeMismatchError(f"{where} of shape {g.shape} has no projector for it")
            there = run_if(due, functools.partial(_subspace, matrix), whole(projector))
            tall = matrix.shape[0] >= matrix.shape[1]
            made = jnp.conj(there).T @ matrix if tall else matrix @ there
            small.append(made.astype(g.dtype))
            new.append(laid(there, projector))
        steps, base_state = base.update(
            structure.unflatten(small), state.base_optimizer_state, None, **extra_args
        )
        made = [
            g
            if tree.is_placeholder(g)
            else u
            if own is None
            else _back(u, projector, g, own, scale)
            for u, projector, (_, g), own in zip(
                structure.flatten_up_to(steps), new, pairs, axes, strict=True
            )
        ]
        count = safe_increment(state.count)
        return structure.unflatten(made), GaLoreState(count, base_state, structure.unflatten(new))

    return wrapping(init, update)


@recorded
def galore(
    learning_rate: ScalarOrSchedule,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 1.0,
    base_optimizer: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformationExtraArgs:
    """GaLore (Zhao et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      rank: the dimension of the subspace, a positive int.
      update_proj_gap: after how many steps the subspace is chosen anew, a positive int.
      scale: multiplies the updates of projected leaves; a scalar, or a schedule.
      base_optimizer: the transformation to run in the subspace; `scale_by_adam()` by default.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      weight_dimension_numbers: which leaves are projected, as for `scale_by_galore`.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import galore
      >>> tx = galore(1e-3, rank=64, weight_decay=0.01)
    """
    return chain(
        scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def _is_dims(x: Any) -> bool:
    return isinstance(x, tuple) and getattr(x, "_fields", ()) == GaLoreDimensionNumbers._fields


def _axes(dims: Any, params: PyTree) -> list[Axes | None]:
    """How each leaf is a matrix; None where it is not projected."""
    pairs, _ = flatten_with_path(params)
    given: list[Any] = [GaLoreDimensionNumbers()] * len(pairs)
    if dims is not None:
        given = broadcast_dims("scale_by_galore", dims, params, _is_dims)
    axes: list[Axes | None] = []
    for (path, x), dim in zip(pairs, given, strict=True):
        matrix = not tree.is_placeholder(x) and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        ndim = jnp.ndim(x) if matrix else 0
        if dim is None or ndim < 2 or (dims is None and ndim != 2) or not jnp.size(x):
            axes.append(None)
            continue
        where = f"scale_by_galore: the leaf{jax.tree_util.keystr(path)}"
        own = axes_of(where, ndim, dim)
        if own.batch:
            raise ValueError(f"{where} of shape {jnp.shape(x)}: {dim} leaves axes {own.batch} out")
        axes.append(own)
    return axes


def _matrix(x: jax.Array, axes: Axes) -> jax.Array:
    return x if axes == PLAIN else to_stack(whole(x), axes)[0]


def _subspace(matrix: jax.Array, old: jax.Array) -> jax.Array:
    """The first singular vectors of the longer side."""
    u, _, vh = jnp.linalg.svd(lax.stop_gradient(matrix), full_matrices=False)
    k = old.shape[1]
    return u[:, :k] if matrix.shape[0] >= matrix.shape[1] else jnp.conj(vh[:k]).T


def _back(u: jax.Array, projector: jax.Array, g: jax.Array, axes: Axes, scale: Any) -> jax.Array:
    """A step in the subspace as an update of the leaf's shape."""
    p = whole(projector)
    step = whole(u).astype(p.dtype)
    rows, columns = matrix_shape(g.shape, axes)
    full = p @ step if rows >= columns else step @ jnp.conj(p).T
    full = jnp.asarray(scale).astype(p.dtype) * full
    return laid(from_stack(full, g.shape, axes).astype(g.dtype), g)
