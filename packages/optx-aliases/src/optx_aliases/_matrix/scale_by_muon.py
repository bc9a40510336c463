"""The momentum of matrices, orthogonalized.

m ← beta·m + (1 − beta)·g
m̂ = beta·m / (1 − betaᵗ⁺¹) + (1 − beta)·g / (1 − betaᵗ)        (Nesterov's; otherwise m / (1 − betaᵗ))
O = U·Vᵀ of the singular value decomposition m̂ = U·S·Vᵀ, nearly, by Newton–Schulz iteration
O ← ⟨m̂, O⟩·O        (adaptive)
O divided by the root of its second moment        (second_moment, `_matrix/second_moment.py`)

where U and V are orthogonal, S is diagonal with the singular values, and O replaces them by 1. Jordan's own
code has no bias correction. Without Nesterov's momentum the correction is a common factor, which only
`adaptive` sees; with it, it changes the weight of g in the first steps.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Bernstein,
Newhouse, "Old Optimizer, New Norm: An Anthology", 2024 (adaptive).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.dimension_numbers import DimensionNumbers, axes_of_leaves
from optx_aliases._matrix.matrices import Axes
from optx_aliases._matrix.newton_schulz import (
    Iteration,
    check_coefficients,
    iteration_of,
    orthogonalized,
)
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.second_moment import (
    SecondMoment,
    initial_moments,
    rescaled,
    to_orthogonalize,
)
from optx_aliases._matrix.stacked import map_stacks
from optx_core import Params, PyTree, Updates, build, safe_increment, tree

Orthogonalize = Callable[[Array], Array]


class MuonState(NamedTuple):
    """State of `scale_by_muon`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      ns_coeffs: the iteration's coefficients, (3,) or (n, 3).
    """

    count: build.Count
    mu: build.Moment
    ns_coeffs: Array


class MuonSecondMomentState(NamedTuple):
    """State of `scale_by_muon` with a second moment.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      ns_coeffs: the iteration's coefficients, (3,) or (n, 3).
      nu: v, real, at least float32: the parameters' shapes, with size 1 in place of the rows' axes ("row")
        or of the axes of both rows and columns ("scalar").
    """

    count: build.Count
    mu: build.Moment
    ns_coeffs: Array
    nu: Annotated[PyTree, build.slot(nonnegative=True)]


def _momentum(g: Array, m: Array, *, beta: Any, t: Array, nesterov: bool) -> tuple[Array, Array]:
    m = beta * m + (1 - beta) * g
    if nesterov:
        return beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t), m
    return m / (1 - beta**t), m


@functools.partial(
    jax.jit, static_argnames=("axes", "orthogonalize", "options", "adaptive", "owner_axes")
)
def _orthogonal(
    arrays: list[Array],
    ns_coeffs: Array,
    eps: Array,
    *,
    axes: tuple[Axes, ...],
    orthogonalize: Orthogonalize | None,
    options: tuple[Iteration, str, Any],
    adaptive: bool,
    owner_axes: OwnerAxes,
) -> list[Array]:
    """Orthogonalizes arrays, all matrices of one shape in a single iteration."""
    iteration, preconditioning, dtype = options

    def function(stack: Array, ns_coeffs: Array, eps: Array) -> Array:
        narrow = stack if dtype is None else stack.astype(dtype)
        if orthogonalize is None:
            result = orthogonalized(narrow, ns_coeffs, iteration, preconditioning, eps)
            return result.astype(stack.dtype)
        result = orthogonalize(narrow)
        if result.shape != stack.shape:
            raise ValueError(
                f"scale_by_muon: orthogonalize turned {stack.shape} into {result.shape}"
            )
        return result.astype(stack.dtype)

    shared = (ns_coeffs, eps)
    results = map_stacks(
        function, arrays, axes, shared, where="scale_by_muon", owner_axes=owner_axes
    )
    if adaptive:
        return [jnp.sum(jnp.conj(x) * o) * o for x, o in zip(arrays, results, strict=True)]
    return results


@build.factory
def scale_by_muon(
    ns_coeffs: Any = "standard",
    ns_steps: build.PositiveInt = 5,
    beta: build.Rate = 0.95,
    eps: build.Nonnegative = 1e-8,
    mu_dtype: build.DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: DimensionNumbers | None = None,
    orthogonalize: Orthogonalize | None = None,
    ns_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
    second_moment: SecondMoment = None,
    second_moment_beta: build.Rate = 0.95,
) -> build.Transformation:
    """Orthogonalizes the momentum of matrices, those of one shape in a single iteration.

    Args:
      ns_coeffs: the coefficients of the iteration, as for `newton_schulz`. Where they are given as numbers
        whose c is 0 in all steps, c stays 0, whatever the state holds.
      ns_steps: the number of its steps.
      beta: decay of the momentum, in [0, 1), or a schedule.
      eps: added to the norm that the matrices are divided by, or a schedule.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.
      adaptive: whether to multiply by the dual norm ⟨m̂, O⟩.
      preconditioning: "frobenius", "spectral", "aol" or "schatten", as for `newton_schulz`.
      weight_dimension_numbers: which axes are rows and columns: a `MuonDimensionNumbers` for all
        leaves, a tree of them or a prefix of one, or a function from the parameters to that. By
        default two axes are a matrix, three a stack of matrices (the first axis the batch), more a
        convolution's kernel with its outputs last.
      orthogonalize: your own function in place of the iteration, from a stack of matrices (n, rows,
        columns) to one of the same shape; on a mesh, zero matrices may pad the stack.
      ns_dtype: dtype of the iteration (bfloat16, say, as in Jordan's code; float16 takes fewer operations
        for long matrices); by default that of the momentum.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.
      second_moment: what orthogonal updates are divided by. "row" (NorMuon): the root of their mean square
        over time and inputs, one number for each output (a row of a torch weight, a column here), the norm
        of the update kept. "entry" (AdaMuon): the root mean square of each entry, the norm that of an
        orthogonal matrix; the sign of the momentum is orthogonalized. "scalar" (NAMO): the root mean square
        of the gradient's norm, in units of the norm of the momentum. None: nothing.
      second_moment_beta: decay of the second moment, in [0, 1), or a schedule.

    Returns:
      A transformation with a `MuonState`, or, with a second moment, a `MuonSecondMomentState`. A zero
      gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range, or `adaptive` is combined with a second moment; from
        `update`, if a leaf has fewer than two axes, or four and more of which it is unclear whether they are
        a convolution's kernel or a stack of matrices.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_muon
      >>> tx = scale_by_muon(ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
      >>> updates, _ = tx.update(jnp.array([[5.0, 0.0], [0.0, 0.1]]), tx.init(jnp.zeros((2, 2))))
      >>> jnp.round(updates, 3)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    where, dims = "scale_by_muon", weight_dimension_numbers
    coefficients = check_coefficients(where, ns_coeffs, ns_steps, preconditioning)
    iteration = iteration_of(coefficients, ns_steps)
    options = (iteration, preconditioning, None if ns_dtype is None else jnp.dtype(ns_dtype))
    if adaptive and second_moment is not None:
        raise ValueError(
            f"{where}: adaptive=True and second_moment={second_moment!r} both set the length of the step; "
            "choose one"
        )

    def init(params: Params) -> MuonState | MuonSecondMomentState:
        axes = axes_of_leaves(where, dims, params)
        mu = tree.slots_like(params, mu_dtype)
        state = MuonState(build.zero_count(), mu, jnp.array(coefficients, copy=True))
        if second_moment is None:
            return state
        return MuonSecondMomentState(*state, initial_moments(second_moment, params, axes))

    def update(updates: Updates, state: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        if (second_moment is None) == hasattr(state, "nu"):
            raise TypeError(f"{where}: {type(state).__name__} is not the state of {second_moment=}")
        axes = axes_of_leaves(where, dims, state.mu)  # updates may lack gradients
        t = safe_increment(state.count)
        momentum, mu = tree.map_leaves(
            _momentum,
            build.widened(updates),
            state.mu,
            name=where,
            beta=build.rate_of(beta),
            t=t,
            nesterov=nesterov,
        )
        leaves, structure = tree.flatten(momentum)
        present = [k for k, x in enumerate(leaves) if not tree.is_placeholder(x) and x.size]
        momenta = [leaves[k] for k in present]
        own_axes = [own for k in present if (own := axes[k]) is not None]
        results = _orthogonal(
            [to_orthogonalize(second_moment, x) for x in momenta],
            state.ns_coeffs,
            jnp.asarray(eps),
            axes=tuple(own_axes),
            orthogonalize=orthogonalize,
            options=options,
            adaptive=adaptive,
            owner_axes=owner_axes,
        )
        given = structure.flatten_up_to(updates)
        new_state: Any = MuonState(t, mu, state.ns_coeffs)
        if second_moment is not None:
            nu, nu_structure = tree.flatten(state.nu)
            results, moments = rescaled(
                second_moment,
                results,
                [nu[k] for k in present],
                [given[k] for k in present],
                momenta,
                own_axes,
                where=where,
                b2=build.rate_of(second_moment_beta),
                eps=eps,
                t=t,
            )
            for k, x in zip(present, moments, strict=True):
                nu[k] = x
            nu = nu_structure.unflatten(nu)
            new_state = MuonSecondMomentState(t, mu, state.ns_coeffs, nu)
        for k, x in zip(present, results, strict=True):
            leaves[k] = x.astype(given[k].dtype)
        return structure.unflatten(leaves), new_state

    return build.wrapping(init, update)
