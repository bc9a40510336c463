"""GaLore: an optimizer whose state lives in a subspace of the gradient.

every update_proj_gap steps   P = the first `rank` singular vectors of G, of its longer side
R = Pᵀ·G    (or G·P)
u = scale·P·ρ(R)    (or scale·ρ(R)·Pᵀ),   ρ the base optimizer, Adam by default

In R, entries of at most 32 rounding errors of the largest one count as zero: where P has more columns than
the gradient has dimensions, Adam would enlarge their rounding errors to full steps (in the authors' code it
does).

The paper, and its code, project the shorter side; optax the longer one, so that ρ keeps its moments for
rank × (the shorter side) numbers only. We follow optax: the same numbers, and the smaller state. The
base optimizer's moments stay as they are when P turns, as in both.

Reference: Zhao, Zhang, Chen, Wang, Anandkumar, Tian, "GaLore: Memory-Efficient LLM Training by Gradient
Low-Rank Projection", 2024, algorithm 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix.dimension_numbers import (
    GaLoreDimensionNumbers,
    axes_of,
    numbered_leaves,
)
from optx_aliases._matrix.explicit_mesh import whole
from optx_aliases._matrix.matrices import (
    PLAIN,
    Axes,
    flatten_with_path,
    from_stack,
    matrix_shape,
    to_stack,
)
from optx_aliases._matrix.mesh_layouts import Fresh
from optx_aliases._matrix.owners import OwnerAxes, kept_by_owners, mesh_of, on_owners
from optx_aliases._matrix.sides import is_used, product, unused_slot, without_rounding
from optx_aliases._transforms.adam import scale_by_adam
from optx_core import (
    Params,
    PyTree,
    ScalarOrSchedule,
    TreeMismatchError,
    Updates,
    add_decayed_weights,
    build,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)


class GaLoreState(NamedTuple):
    """State of `scale_by_galore`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      base_optimizer_state: the base optimizer's state, for R (and for leaves that are not projected).
      projector: P of each leaf, (longer side, rank), or (1,), unused, where it is not projected.
    """

    count: build.Count
    base_optimizer_state: build.InnerState
    projector: Annotated[PyTree, build.slot(exact=True)]


@build.factory
def scale_by_galore(
    rank: build.PositiveInt = 128,
    update_proj_gap: build.PositiveInt = 200,
    scale: build.Real = 1.0,
    base_optimizer: Any = None,
    weight_dimension_numbers: Any = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """Runs an optimizer on gradients projected to a subspace, so that its state is small.

    Args:
      rank: the dimension of the subspace, a positive int; at most the shorter side.
      update_proj_gap: the number of steps between two choices of the subspace, a positive int.
      scale: multiplies the updates of projected leaves; a scalar, or a schedule.
      base_optimizer: the transformation to run there; `scale_by_adam()` by default. It gets no
        parameters, as there are none in the subspace: let `galore` decay weights.
      weight_dimension_numbers: which leaves are projected, and which axes are their rows and columns: a
        `GaLoreDimensionNumbers` for all leaves of two axes and more; a tree of them, None where a leaf
        is not projected, or a prefix of one; or a function from the parameters to that. By default
        leaves of two axes are projected.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation with a `GaLoreState`. Derivatives treat the projector as a constant.

    Raises:
      ValueError: if a number is out of its range, or dimension numbers leave an axis out.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_galore
      >>> state = scale_by_galore(rank=2).init(jnp.zeros((8, 6)))
      >>> state.projector.shape, state.base_optimizer_state.mu.shape
      ((8, 2), (2, 6))
    """
    base = scale_by_adam() if base_optimizer is None else base_optimizer
    build.check_transformation_like("scale_by_galore: base_optimizer", base)
    base = with_extra_args_support(base)

    def init(params: Params) -> GaLoreState:
        leaves, structure = tree.flatten(params)
        axes = _axes(weight_dimension_numbers, params)
        starts = [_start(p, own, rank, owner_axes) for p, own in zip(leaves, axes, strict=True)]
        projectors, proxies = (structure.unflatten([x[k] for x in starts]) for k in (0, 1))
        return GaLoreState(build.zero_count(), base.init(proxies), projectors)

    def update(
        updates: Updates, state: GaLoreState, _params: Params = None, **extra_args: Any
    ) -> tuple[Updates, GaLoreState]:
        pairs, structure = flatten_with_path(updates)
        axes = _axes(weight_dimension_numbers, updates)
        try:
            projectors = structure.flatten_up_to(state.projector)
        except (ValueError, TypeError) as error:
            raise TreeMismatchError(
                f"scale_by_galore: updates and the state have different structures: {error}"
            ) from None
        chosen = [(k, own) for k, own in enumerate(axes) if own is not None]
        for k, own in chosen:
            _check_projector(*pairs[k], own, projectors[k])
        visited = functools.partial(
            _visited, mesh=mesh_of(pairs[k][1] for k, _ in chosen), owner_axes=owner_axes
        )
        small = [g for _, g in pairs]
        due = state.count % update_proj_gap == 0
        results = visited(
            _projected,
            [
                (_proxy(small[k], own, projectors[k].shape[1]), projectors[k], small[k])
                for k, own in chosen
            ],
            (due,),
            kinds=tuple((Fresh(PLAIN), PLAIN, own) for _, own in chosen),
            renewed=2,
            main=2,
        )
        for (k, _), (R, P) in zip(chosen, results, strict=True):
            small[k], projectors[k] = R, P
        steps, base_state = base.update(
            structure.unflatten(small), state.base_optimizer_state, None, **extra_args
        )
        full = structure.flatten_up_to(steps)
        results = visited(
            _lifted,
            [(pairs[k][1], projectors[k], full[k]) for k, _ in chosen],
            (jnp.asarray(scale),),
            kinds=tuple((Fresh(own), PLAIN, PLAIN) for _, own in chosen),
        )
        for (k, _), (u,) in zip(chosen, results, strict=True):
            full[k] = u
        count = safe_increment(state.count)
        new_state = GaLoreState(count, base_state, structure.unflatten(projectors))
        return structure.unflatten(full), new_state

    return build.wrapping(init, update)


@build.recorded
def galore(
    learning_rate: ScalarOrSchedule,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: ScalarOrSchedule = 1.0,
    base_optimizer: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    weight_dimension_numbers: Any = None,
    *,
    mu_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """GaLore (Zhao et al., 2024), with decoupled weight decay.

    Args:
      learning_rate: a scalar, or a schedule.
      rank, update_proj_gap, scale, base_optimizer: as for `scale_by_galore`.
      weight_dimension_numbers, owner_axes: as for `scale_by_galore`.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of Adam's mean gradient, for the default `base_optimizer`.

    Returns:
      A transformation; `update` needs the parameters.

    Raises:
      ValueError: for a `mu_dtype` beside a `base_optimizer`.

    Example:
      >>> from optx_aliases import galore
      >>> tx = galore(1e-3, rank=64, weight_decay=0.01)
    """
    if mu_dtype is not None:
        if base_optimizer is not None:
            raise ValueError("galore: give mu_dtype to the base_optimizer itself")
        base_optimizer = scale_by_adam(mu_dtype=mu_dtype)
    return chain(
        scale_by_galore(
            rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers, owner_axes
        ),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def _axes(dims: Any, params: PyTree) -> list[Axes | None]:
    """Returns the matrix axes of each leaf; None for leaves that are not projected."""
    axes: list[Axes | None] = []
    for name, shape, dim in numbered_leaves("scale_by_galore", dims, params):
        chosen = GaLoreDimensionNumbers() if dims is None and shape and len(shape) == 2 else dim
        if shape is None or len(shape) < 2 or 0 in shape or chosen is None:
            axes.append(None)
            continue
        own = axes_of(name, shape, chosen)
        if own.batch:
            raise ValueError(f"{name} of shape {shape}: {chosen} leaves axes {own.batch} out")
        axes.append(own)
    return axes


def _start(p: Any, axes: Axes | None, rank: int, owner_axes: OwnerAxes) -> tuple[Any, Any]:
    """Returns the initial projector of a parameter, and the projected parameter for the base optimizer."""
    if tree.is_placeholder(p):
        return p, p
    if not build.is_inexact(p):
        return None, None
    p = jnp.asarray(p)
    if axes is None:
        return unused_slot(p, build.at_least_float32(p.dtype)), p
    matrix = _zeros(p, axes)
    tall = matrix.shape[0] >= matrix.shape[1]
    longer, k = matrix.sum(1 if tall else 0), min(rank, *matrix.shape)
    projector = jnp.broadcast_to(longer[:, None], (len(longer), k))
    projector = kept_by_owners(projector, p, owner_axes, has_batch=False)
    return projector, _proxy(p, axes, k)


def _proxy(p: Array, axes: Axes, rank: int) -> Array:
    """Returns zeros of the shape of the projected parameter, laid over a mesh as its shorter side is."""
    matrix = _zeros(p, axes)
    tall = matrix.shape[0] >= matrix.shape[1]
    shorter = matrix.sum(0 if tall else 1)
    proxy = jnp.broadcast_to(shorter[None, :], (rank, len(shorter))).astype(p.dtype)
    return proxy if tall else proxy.T


def _zeros(p: Array, axes: Axes) -> Array:
    return jnp.zeros_like(_matrix(p, axes), dtype=build.at_least_float32(p.dtype))


def _check_projector(path: Any, g: Array, axes: Axes, projector: Any) -> None:
    longer = max(matrix_shape(g.shape, axes))
    if tree.is_placeholder(projector) or not is_used(projector) or len(projector) != longer:
        raise TreeMismatchError(
            f"scale_by_galore: updates{jax.tree_util.keystr(path)} of shape {g.shape} has no "
            "projector for it"
        )


def _matrix(x: Array, axes: Axes) -> Array:
    """Reshapes a leaf to a matrix."""
    return x if axes == PLAIN else to_stack(whole(x), axes)[0]


def _visited(
    function: Callable[..., tuple[Array, ...]],
    rows: list[Any],
    shared: tuple[Array, ...],
    *,
    kinds: tuple[tuple[Axes | Fresh, ...], ...],
    renewed: int = 1,
    main: int = 0,
    mesh: Any,
    owner_axes: OwnerAxes,
) -> list[tuple[Array, ...]]:
    """Applies `function(*matrices, *shared)` to each row, on a mesh on the owner of its matrices."""
    if mesh is not None:
        return _on_owners(
            rows,
            shared,
            function=function,
            kinds=kinds,
            renewed=renewed,
            main=main,
            mesh=mesh,
            owner_axes=owner_axes,
        )
    results = []
    for row, kind in zip(rows, kinds, strict=True):
        axes = [one.axes if isinstance(one, Fresh) else one for one in kind]
        matrices = function(*map(_matrix, row, axes), *shared)
        triples = zip(matrices, row, axes, strict=False)
        results.append(tuple(from_stack(x, like.shape, own) for x, like, own in triples))
    return results


@functools.partial(
    jax.jit, static_argnames=("function", "kinds", "renewed", "main", "mesh", "owner_axes")
)
def _on_owners(
    rows: list[tuple[Array, ...]],
    shared: tuple[Array, ...],
    *,
    function: Callable[..., tuple[Array, ...]],
    kinds: tuple[tuple[Axes | Fresh, ...], ...],
    renewed: int,
    main: int,
    mesh: Any,
    owner_axes: OwnerAxes,
) -> list[tuple[Array, ...]]:
    def of_stacks(arrays: tuple[Array, ...], shared: list[Array]) -> Any:
        return jax.vmap(lambda *matrices: function(*matrices, *shared))(*arrays)

    return on_owners(
        of_stacks,
        rows,
        kinds,
        where="scale_by_galore",
        renewed=renewed,
        main=main,
        shared=shared,
        owner_axes=owner_axes,
        mesh=mesh,
    )


def _projected(R: Array, P: Array, G: Array, due: Array) -> tuple[Array, Array]:
    """Returns the projected gradient, of R's shape, and the projector, chosen anew where that is due."""
    del R
    matrix = G.astype(build.at_least_float32(G.dtype))
    P = build.run_if(due, functools.partial(_subspace, matrix), P)
    tall = matrix.shape[0] >= matrix.shape[1]
    R = product(jnp.conj(P).T, matrix) if tall else product(matrix, P)
    return without_rounding(R).astype(G.dtype), P


def _lifted(G: Array, P: Array, step: Array, scale: Array) -> tuple[Array]:
    """Projects a step in the subspace back to an update of G's shape."""
    step = step.astype(P.dtype)
    full = P @ step if G.shape[0] >= G.shape[1] else step @ jnp.conj(P).T
    return ((scale.astype(P.dtype) * full).astype(G.dtype),)


def _subspace(matrix: Array, old: Array) -> Array:
    """Returns the leading singular vectors of the longer side."""
    u, _, vh = jnp.linalg.svd(lax.stop_gradient(matrix), full_matrices=False)
    k = old.shape[1]
    return u[:, :k] if matrix.shape[0] >= matrix.shape[1] else jnp.conj(vh[:k]).T
