"""The rows of the largest momentum, orthogonalized, with error feedback.

M ← M + G
K = the ⌈fraction·n⌉ of n rows (or columns) of M of the largest ℓ1 norm
u[K] = O(M[K]), O as in `scale_by_muon`; 0 elsewhere
M[K] ← rho·M[K]

where M[K] are those rows and ℓ1 is the sum of absolute values; n is the number of rows, and O(M[K]) the
nearest matrix with orthonormal rows or columns.

Reference: Ahn, Xu, Abreu, Magakyan, Langford, "Dion2: A Simple Method to Shrink Matrix in Muon", 2025.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._matrix.by_axes import map_by_axes
from optx_aliases._matrix.dimension_numbers import axes_of_leaves
from optx_aliases._matrix.matrices import Axes, matrix_shape
from optx_aliases._matrix.newton_schulz import (
    Iteration,
    check_coefficients,
    iteration_of,
    orthogonalized,
)
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.stacked import map_stacks
from optx_core import Params, Updates, build, tree

Side: TypeAlias = Literal["shorter", "rows", "columns"]
Share: TypeAlias = Annotated[float, build.Kind("constant")]


class Dion2State(NamedTuple):
    """State of `scale_by_dion2`.

    Attributes:
      mu: M, a tree of the parameters' structure and shapes.
    """

    mu: build.Moment


class _Choice(NamedTuple):
    """The choice of lines of a matrix.

    Attributes:
      share: the part of all lines that is chosen, as text: a number that is not traced.
      side: along which side they are counted.
    """

    share: str
    side: Side

    def axis(self, shape: tuple[int, int]) -> int:
        """Returns the axis of the lines in a stack of matrices of this shape: 1 for rows, 2 for columns."""
        if self.side == "shorter":
            return 1 if shape[0] <= shape[1] else 2
        return 1 if self.side == "rows" else 2

    def largest(self, sums: Array) -> Array:
        """Returns the indices of the largest of n sums, (batch, n), for each matrix."""
        return lax.top_k(sums, math.ceil(Fraction(self.share) * sums.shape[1]))[1]


def _sum(g: Array, m: Array) -> Array:
    return m + g


def _feedback(
    o: Array, m: Array, g: Array, *, axes: Any, rho: Any, choice: Any
) -> tuple[Array, Array]:
    """Returns O, and M with the rows that have moved multiplied by rho."""
    axes = Axes(*axes)
    axis = _Choice(*choice).axis(matrix_shape(o.shape, axes))
    moved = jnp.any(o != 0, axes.columns if axis == 1 else axes.rows, keepdims=True)
    m = m + g
    return o, jnp.where(moved, rho * m, m)


@functools.partial(jax.jit, static_argnames=("axes", "iteration", "dtype", "choice", "owner_axes"))
def _orthogonal_lines(
    arrays: list[Array],
    ns_coeffs: Array,
    eps: Array,
    *,
    axes: tuple[Axes, ...],
    iteration: Iteration,
    dtype: Any,
    choice: _Choice,
    owner_axes: OwnerAxes,
) -> list[Array]:
    """Returns the chosen lines orthogonalized, and zero in place of the others."""

    def function(stack: Array, ns_coeffs: Array, eps: Array) -> Array:
        axis = choice.axis((stack.shape[1], stack.shape[2]))
        index = choice.largest(jnp.sum(jnp.abs(lax.stop_gradient(stack)), 3 - axis))
        lines = jnp.take_along_axis(stack, jnp.expand_dims(index, 3 - axis), axis)
        lines = orthogonalized(
            lines.astype(dtype or stack.dtype), ns_coeffs, iteration, "frobenius", eps
        ).astype(stack.dtype)
        place = (slice(None),) * (axis - 1)
        put = jax.vmap(lambda matrix, k, lines: matrix.at[*place, k].set(lines))
        return put(jnp.zeros_like(stack), index, lines)

    shared = (ns_coeffs, eps)
    return map_stacks(function, arrays, axes, shared, where="scale_by_dion2", owner_axes=owner_axes)


@build.factory
def scale_by_dion2(
    fraction: Share = 0.25,
    rho: build.Rate = 0.95,
    ns_coeffs: Any = "standard",
    ns_steps: build.PositiveInt = 5,
    eps: build.Nonnegative = 1e-8,
    mu_dtype: build.DType = None,
    *,
    side: Side = "shorter",
    ns_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """Orthogonalizes the rows, or the columns, of the largest momentum.

    Args:
      fraction, rho, eps, mu_dtype, side: as for `dion2`.
      ns_coeffs, ns_steps, ns_dtype, owner_axes: as for `scale_by_muon`.

    Returns:
      A transformation with a `Dion2State`. A zero gradient from the first step on gives zero updates.
      Derivatives treat the choice of rows as constant.

    Raises:
      TypeError: if `fraction` is not a Python number.
      ValueError: if a number is out of its range; from `update`, if a leaf has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_dion2
      >>> tx = scale_by_dion2(0.5, ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
      >>> updates, state = tx.update(jnp.array([[5.0, 0.0], [0.0, 0.1]]), tx.init(jnp.zeros((2, 2))))
      >>> jnp.round(updates, 3)
      Array([[1., 0.],
             [0., 0.]], dtype=float32)
      >>> state.mu
      Array([[4.75, 0.  ],
             [0.  , 0.1 ]], dtype=float32)
    """
    where = "scale_by_dion2"
    coefficients = check_coefficients(where, ns_coeffs, ns_steps, "frobenius")
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise TypeError(f"{where}: fraction must be a Python number, as shapes depend on it")
    build.check_number(where, above=0, high=1, fraction=fraction)
    choice = _Choice(str(float(fraction)), side)

    def init(params: Params) -> Dion2State:
        axes_of_leaves(where, None, params)
        return Dion2State(tree.slots_like(params, mu_dtype))

    def update(updates: Updates, state: Dion2State, *_: Any, **__: Any) -> tuple[Any, Dion2State]:
        axes = axes_of_leaves(where, None, state.mu)  # updates may lack gradients
        leaves, structure = tree.flatten(updates)
        mu, slots = tree.flatten(state.mu)
        summed, _ = tree.flatten(
            tree.map_leaves(_sum, build.widened(updates), reads=(state.mu,), name=where)
        )
        present = [k for k, x in enumerate(leaves) if not tree.is_absent(x) and x.size]
        own_axes = [own for k in present if (own := axes[k]) is not None]
        lines = _orthogonal_lines(
            [summed[k] for k in present],
            jnp.asarray(coefficients),
            jnp.asarray(eps),
            axes=tuple(own_axes),
            iteration=iteration_of(coefficients, ns_steps),
            dtype=None if ns_dtype is None else jnp.dtype(ns_dtype),
            choice=choice,
            owner_axes=owner_axes,
        )
        results, renewed = map_by_axes(
            _feedback,
            own_axes,
            lines,
            slots=([mu[k] for k in present],),
            reads=([leaves[k] for k in present],),
            name=where,
            rho=build.rate_of(rho),
            choice=choice,
        )
        for k, u, m in zip(present, results, renewed, strict=True):
            leaves[k], mu[k] = u.astype(leaves[k].dtype), m
        return structure.unflatten(leaves), Dion2State(slots.unflatten(mu))

    return build.wrapping(init, update)
