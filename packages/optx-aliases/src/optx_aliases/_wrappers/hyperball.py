"""Training at a fixed norm: each matrix stays on the sphere on which it starts.

With u the update of the optimizer inside (to be added), R = ‖W₀‖ and η the learning rate:

W' = W + η·R·u/‖u‖,   W ← R·W'/‖W'‖          (fixed norm)
W ← W + η·‖W‖·u/‖u‖                          (relative, `project=False`)
‖W‖ ← ‖W‖ + s·(‖W'‖ − ‖W‖)                   (relative, with a radial brake: W' keeps its direction)

‖·‖ is the Frobenius norm of one matrix; η is the length of a step relative to it. The first is computed as
W/R ← (W/R + η·u/‖u‖) / ‖W/R + η·u/‖u‖‖, which neither overflows nor underflows.

Reference: arXiv:2606.16899, 2026.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.dimension_numbers import (
    DimensionNumbers,
    axes_of_leaves,
    numbered,
)
from optx_aliases._matrix.hidden_matrices import hidden_matrices
from optx_aliases._matrix.norms import norm_over, root
from optx_core import Params, PyTree, ScalarOrSchedule, build, chain, masked, tree


class HyperballState(NamedTuple):
    """The part of the state of `hyperball` that belongs to the matrices.

    Attributes:
      radius: R, a tree of arrays of at least float32, one number for each matrix: the parameter's shape with
        size 1 in place of the matrices' axes. With `project=False` it is not used.
    """

    radius: Annotated[PyTree, build.slot(constant=True, exact=True)]


def _leaf(
    u: Array, radius: Array, p: Array, *, learning_rate: Any, project: bool, brake: Any
) -> Array:
    axes = tuple(axis for axis, size in enumerate(radius.shape) if size == 1)
    u_norm = norm_over(u, axes)
    size = radius if project else norm_over(p, axes)
    is_zero = size == 0  # then its updates are the inner optimizer's
    factor = jnp.where(is_zero, 1, learning_rate / jnp.where(u_norm == 0, 1, u_norm))
    size = jnp.where(is_zero, 1, size)
    if not project and brake is None:
        return size * (factor * u)
    moved = p / size + factor * u
    norm = root(jnp.sum(build.abs_squared(moved), axes, keepdims=True))
    stays = (u_norm == 0) | (norm == 0)
    norm = jnp.where(is_zero | stays, 1, norm)
    if brake is not None:
        size = size * (1 + brake * (norm - 1))
    return jnp.where(stays, 0, size * (moved / norm) - p)


@build.factory
def _fixed_norm(
    learning_rate: build.Nonnegative,
    weight_dimension_numbers: DimensionNumbers | None = None,
    *,
    project: bool = True,
    brake: build.ClosedRate | None = None,
) -> build.Transformation:
    """`hyperball` for a tree of matrices."""

    def init(params: Params) -> HyperballState:
        axes = axes_of_leaves("hyperball", weight_dimension_numbers, params)
        leaves, structure = tree.flatten(params)
        norms = [
            x if own is None else norm_over(_wide(x), own.rows + own.columns)
            for x, own in zip(leaves, axes, strict=True)
        ]
        return HyperballState(structure.unflatten(norms))

    def step(
        flow: build.Flow, state: HyperballState, params: Params = None, **_: Any
    ) -> build.LeafStep:
        build.need_params("hyperball", params)
        return build.LeafStep(
            _leaf,
            reads=(state.radius, params),
            close=lambda: state,
            operands={"learning_rate": learning_rate, "project": project, "brake": brake},
        )

    return build.leafwise(step, init)


@build.recorded
def hyperball(
    inner: Any,
    learning_rate: ScalarOrSchedule,
    matrices: build.Mask = None,
    weight_dimension_numbers: DimensionNumbers | None = None,
    *,
    project: bool = True,
    brake: ScalarOrSchedule | None = None,
) -> build.Transformation:
    """Keeps the norm of each matrix, which an optimizer only turns: `hyperball(muon(0.02), 0.01)`.

    All other leaves take the updates of the inner optimizer.

    Args:
      inner: the optimizer, with its learning rate, which matters to the other leaves only. Give it no
        weight decay for the matrices: it would change the direction of their steps.
      learning_rate: η, the length of a step relative to the norm of the matrix, at least 0; a scalar, or a
        schedule.
      matrices: which leaves are matrices, as for `optx_core.masked`. By default those of `muon`: leaves of
        two axes and more, except embeddings, heads, biases and scales, by the names on their path;
        or those with dimension numbers.
      weight_dimension_numbers: which axes are rows and columns, as for `scale_by_muon`. By default two axes
        are a matrix, three a stack of matrices (the first axis the batch), more a convolution's kernel.
      project: whether the norm is kept. Otherwise steps are relative to the current norm, which grows.
      brake: with `project=False` the part of a step's growth that is left to the norm, in [0, 1], or a
        schedule; None for all of it.

    Returns:
      A transformation; its state is a pair of the inner optimizer's and a `MaskedState` that holds a
      `HyperballState`. `update` needs the parameters. A matrix with a zero update stays where it is. A zero
      matrix has no direction: it takes the inner optimizer's updates (always, if it was zero in `init`
      and `project` is True).

      Norms and projections are computed in at least float32, from the parameters as they are, so that
      rounding does not accumulate. After any number of steps the norm of a float32 matrix is R·(1 ± 1e-6),
      that of a bfloat16 matrix R·(1 ± 2⁻⁸·(1 + 2η)), as its entries are rounded. The steps of bfloat16
      parameters are rounded too; `master_weights(hyperball(...))` adds them up in float32.

    Raises:
      TypeError: if `inner` is not a transformation.
      ValueError: if a number is out of its range, or `brake` is given without `project=False`; from `init`,
        if a matrix has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import hyperball, sgd
      >>> from optx_core import apply_updates
      >>> tx, params = hyperball(sgd(1.0), 0.1), {"w": jnp.eye(2), "b": jnp.ones(1)}
      >>> grads = {"w": jnp.array([[0.0, 1.0], [0.0, 0.0]]), "b": jnp.ones(1)}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> params = apply_updates(params, updates)
      >>> float(jnp.round(jnp.sum(params["w"] ** 2), 5)), params["b"]
      (2.0, Array([0.], dtype=float32))
    """
    build.check_transformation_like("hyperball", inner)
    build.check_number("hyperball", low=0, learning_rate=learning_rate)
    build.check_number("hyperball", low=0, high=1, brake=brake)
    if project and brake is not None:
        raise ValueError("hyperball: a brake needs project=False; the projection leaves no growth")
    dims = weight_dimension_numbers

    if matrices is None:
        matrices = (
            hidden_matrices if dims is None else functools.partial(numbered, "hyperball", dims)
        )
    return chain(
        inner, masked(_fixed_norm(learning_rate, dims, project=project, brake=brake), matrices)
    )


def _wide(x: Any) -> Array:
    x = jnp.asarray(x)
    return x.astype(tree.slot_dtype(x))
