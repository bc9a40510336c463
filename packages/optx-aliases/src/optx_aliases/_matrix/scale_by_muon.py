"""The momentum of matrices, orthogonalized.

m ← beta·m + (1 − beta)·g
m̂ = beta·m / (1 − betaᵗ⁺¹) + (1 − beta)·g / (1 − betaᵗ)        (Nesterov's; otherwise m / (1 − betaᵗ))
O = U·Vᵀ of the singular value decomposition m̂ = U·S·Vᵀ, nearly, by Newton–Schulz iteration
O ← ⟨m̂, O⟩·O        (adaptive)

Jordan's own code has no bias correction. Without Nesterov's momentum the correction is a common factor,
which only `adaptive` sees; with it, it changes the weight of g in the first steps.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Bernstein,
Newhouse, "Old Optimizer, New Norm: An Anthology", 2024 (adaptive).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.dimension_numbers import DimensionNumbers, axes_of_leaves
from optx_aliases._matrix.matrices import Axes
from optx_aliases._matrix.newton_schulz import check_coefficients, newton_schulz
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.stacked import map_stacks
from optx_core import Params, Updates, build, safe_increment, tree

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
    options: tuple[int, str, Any],
    adaptive: bool,
    owner_axes: OwnerAxes,
) -> list[Array]:
    """Orthogonalizes arrays, all matrices of one shape in a single iteration."""
    steps, preconditioning, dtype = options

    def function(stack: Array, ns_coeffs: Array, eps: Array) -> Array:
        narrow = stack if dtype is None else stack.astype(dtype)
        if orthogonalize is None:
            return newton_schulz(narrow, ns_coeffs, steps, preconditioning, eps).astype(stack.dtype)
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
) -> build.Transformation:
    """Orthogonalizes the momentum of matrices, those of one shape in a single iteration.

    Args:
      ns_coeffs: the coefficients of the iteration, as for `newton_schulz`.
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
      ns_dtype: dtype of the iteration (bfloat16, say, as in Jordan's code); by default that of the
        momentum.
      owner_axes: on a mesh, the name or names of the axes whose devices may own matrices; all by default.

    Returns:
      A transformation with a `MuonState`. A zero gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range; from `update`, if a leaf has fewer than two axes, or four
        and more of which it is unclear whether they are a convolution's kernel or a stack of matrices.

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
    options = (ns_steps, preconditioning, None if ns_dtype is None else jnp.dtype(ns_dtype))

    def init(params: Params) -> MuonState:
        axes_of_leaves(where, dims, params)
        mu = tree.slots_like(params, mu_dtype)
        return MuonState(build.zero_count(), mu, jnp.array(coefficients, copy=True))

    def update(updates: Updates, state: MuonState, *_: Any, **__: Any) -> tuple[Any, MuonState]:
        axes = axes_of_leaves(where, dims, updates)
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
        results = _orthogonal(
            [leaves[k] for k in present],
            state.ns_coeffs,
            jnp.asarray(eps),
            axes=tuple(axes[k] for k in present),
            orthogonalize=orthogonalize,
            options=options,
            adaptive=adaptive,
            owner_axes=owner_axes,
        )
        given = structure.flatten_up_to(updates)
        for k, x in zip(present, results, strict=True):
            leaves[k] = x.astype(given[k].dtype)
        return structure.unflatten(leaves), MuonState(t, mu, state.ns_coeffs)

    return build.wrapping(init, update)
