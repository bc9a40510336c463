"""Muon: momentum, orthogonalized.

m ← beta·m + (1 − beta)·g
m̂ = beta·m / (1 − betaᵗ⁺¹) + (1 − beta)·g / (1 − betaᵗ)        (Nesterov's; otherwise m / (1 − betaᵗ))
O = U·Vᵀ of the singular value decomposition m̂ = U·S·Vᵀ, nearly, by Newton–Schulz iteration
p ← p − lr·(O·√max(1, columns/rows) + weight_decay·p)               (Jordan)
p ← p − lr·(O·consistent_rms·√max(columns, rows) + weight_decay·p)      (Moonshot)

Rows are what the layer sums over, columns its outputs, as in Flax's kernels (Jordan's √max(1,
rows/columns) is for torch's weights, which are transposed). Jordan's own code takes no bias
correction; the iteration does not see it, as it normalizes, and `adaptive` does.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
al., "Muon is Scalable for LLM Training", 2025, section 2.2 (Moonshot's factor, with 0.2); Bernstein,
Newhouse, "Old Optimizer, New Norm: An Anthology", 2024 (adaptive).
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases._adam import adamw
from optx_aliases._matrices import (
    Axes,
    axes_of,
    broadcast_dims,
    default_axes,
    flatten,
    flatten_with_path,
    is_placeholder,
    map_stacks,
    matrix_shape,
)
from optx_aliases._newton_schulz import check_coefficients, newton_schulz
from optx_core import (
    Decay,
    Flow,
    GradientTransformationExtraArgs,
    LeafStep,
    OptState,
    Params,
    PartitionState,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    Updates,
    add_decayed_weights,
    at_least_float32,
    bias_correction,
    chain,
    check_number,
    decay_of,
    leafwise,
    masked,
    recorded,
    safe_increment,
    scale_by_learning_rate,
    schedulable,
    tree,
    wrapping,
    zero_count,
)

Orthogonalize = Callable[[jax.Array], jax.Array]


class MuonDimensionNumbers(NamedTuple):
    """Which axes of an array are the rows and columns of its matrices; all others are a batch.

    Attributes:
      reduction_axis: the axis, or axes, that the layer sums over: the rows.
      output_axis: the axis, or axes, of its outputs: the columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


DimensionNumbers = MuonDimensionNumbers | PyTree | Callable[[Params], PyTree]


class MuonState(NamedTuple):
    """State of `scale_by_muon`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      ns_coeffs: the iteration's coefficients, (3,) or (n, 3).
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    ns_coeffs: jax.Array


def _momentum(
    g: jax.Array, mu: jax.Array, *, beta: Decay, count: jax.Array, nesterov: bool
) -> tuple[jax.Array, jax.Array]:
    mu = beta.value * mu + beta.complement * g
    if not nesterov:
        return mu / bias_correction(beta, count), mu
    ahead = beta.value * mu / bias_correction(beta, count + 1)
    return ahead + beta.complement * g / bias_correction(beta, count), mu


@functools.partial(jax.jit, static_argnames=("axes", "orthogonalize", "options", "adaptive"))
def _orthogonal(
    arrays: list[jax.Array],
    ns_coeffs: jax.Array,
    eps: jax.Array,
    *,
    axes: tuple[Axes, ...],
    orthogonalize: Orthogonalize | None,
    options: tuple[int, str, Any],
    adaptive: bool,
) -> list[jax.Array]:
    """The orthogonalized arrays; one iteration for all matrices of one shape."""
    steps, preconditioning, dtype = options

    def function(stack: jax.Array) -> jax.Array:
        narrow = stack if dtype is None else stack.astype(dtype)
        if orthogonalize is None:
            made = newton_schulz(narrow, ns_coeffs, steps, preconditioning, eps)
        else:
            made = orthogonalize(narrow)
            if made.shape != stack.shape:
                raise ValueError(
                    f"scale_by_muon: orthogonalize turned {stack.shape} into {made.shape}"
                )
        return made.astype(stack.dtype)

    made = map_stacks(function, arrays, axes)
    if adaptive:
        return [jnp.sum(jnp.conj(x) * o) * o for x, o in zip(arrays, made, strict=True)]
    return made


@recorded
@schedulable("beta", "eps")
def scale_by_muon(
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: DimensionNumbers | None = None,
    orthogonalize: Orthogonalize | None = None,
    ns_dtype: Any = None,
) -> GradientTransformationExtraArgs:
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
        columns) to one of the same shape; on a mesh zero matrices may fill the stack up.
      ns_dtype: dtype of the iteration (bfloat16, say, as Jordan's code has it); by default that of
        the momentum.

    Returns:
      A transformation with a `MuonState`. A zero gradient from the first step on gives zero updates.

    Raises:
      ValueError: if a number is out of its range; from `update`, if a leaf has fewer than two axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_muon
      >>> tx = scale_by_muon(ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
      >>> updates, _ = tx.update(jnp.array([[5.0, 0.0], [0.0, 0.1]]), tx.init(jnp.zeros((2, 2))))
      >>> jnp.round(updates, 3)
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    coefficients = check_coefficients("scale_by_muon", ns_coeffs, ns_steps, preconditioning)
    check_number("scale_by_muon", low=0, below=1, beta=beta)
    check_number("scale_by_muon", low=0, eps=eps)
    options = (ns_steps, preconditioning, None if ns_dtype is None else jnp.dtype(ns_dtype))

    def init(params: Params) -> MuonState:
        _axes("scale_by_muon", weight_dimension_numbers, params)
        return MuonState(
            zero_count(), tree.slots_like(params, mu_dtype), jnp.array(coefficients, copy=True)
        )

    def update(
        updates: Updates, state: MuonState, params: Params = None, **_: Any
    ) -> tuple[Updates, MuonState]:
        del params
        axes = _axes("scale_by_muon", weight_dimension_numbers, updates)
        count = safe_increment(state.count)
        momentum, mu = tree.map_leaves(
            _momentum,
            _widened(updates),
            state.mu,
            name="scale_by_muon",
            beta=decay_of(beta),
            count=count,
            nesterov=nesterov,
        )
        leaves, structure = flatten(momentum)
        present = [k for k, x in enumerate(leaves) if not is_placeholder(x) and x.size]
        made = _orthogonal(
            [leaves[k] for k in present],
            state.ns_coeffs,
            jnp.asarray(eps),
            axes=tuple(axes[k] for k in present),
            orthogonalize=orthogonalize,
            options=options,
            adaptive=adaptive,
        )
        given = structure.flatten_up_to(updates)
        for k, x in zip(present, made, strict=True):
            leaves[k] = x if x.dtype == given[k].dtype else x.astype(given[k].dtype)
        return structure.unflatten(leaves), MuonState(count, mu, state.ns_coeffs)

    return wrapping(init, update)


def _shape_leaf(g: jax.Array, factor: jax.Array, *, consistent_rms: Scalar | None) -> jax.Array:
    return g * (factor if consistent_rms is None else factor * consistent_rms)


@recorded
@schedulable("consistent_rms")
def scale_by_shape(
    weight_dimension_numbers: DimensionNumbers | None = None,
    consistent_rms: ScalarOrSchedule | None = None,
) -> GradientTransformationExtraArgs:
    """Scales orthogonal updates by their shape, so that one learning rate serves all widths.

    Args:
      weight_dimension_numbers: as for `scale_by_muon`.
      consistent_rms: None for √max(1, columns/rows), Jordan's; a number, or a schedule, for
        consistent_rms·√max(columns, rows), Moonshot's: each entry then has this root mean square
        (0.2 is about Adam's).

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_shape
      >>> tx = scale_by_shape(consistent_rms=0.2)
      >>> tx.update(jnp.ones((1, 4)), tx.init(None))[0]
      Array([[0.4, 0.4, 0.4, 0.4]], dtype=float32)
    """
    check_number("scale_by_shape", low=0, consistent_rms=consistent_rms)

    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        del params
        axes = _axes("scale_by_shape", weight_dimension_numbers, flow.skeleton)
        leaves, structure = flatten(flow.skeleton)
        factors = [
            None if own is None else _factor(*matrix_shape(jnp.shape(x), own), consistent_rms)
            for x, own in zip(leaves, axes, strict=True)
        ]
        return LeafStep(
            _shape_leaf,
            reads=(structure.unflatten(factors),),
            close=lambda: state,
            operands={"consistent_rms": consistent_rms},
        )

    return leafwise(step)


def _factor(rows: int, columns: int, consistent_rms: Any) -> np.ndarray:
    size = columns / max(rows, 1) if consistent_rms is None else max(rows, columns)
    return np.asarray(max(1.0, size) ** 0.5, np.float64)


@recorded
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: ScalarOrSchedule = 0.9,
    adam_b2: ScalarOrSchedule = 0.999,
    adam_eps_root: ScalarOrSchedule = 0.0,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: DimensionNumbers | None = None,
    consistent_rms: ScalarOrSchedule | None = None,
    adam_paths: Sequence[str] = ("*embed*", "head", "*_head", "logits"),
    orthogonalize: Orthogonalize | None = None,
    ns_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Muon for hidden matrices (Jordan et al., 2024), AdamW for all other leaves.

    Which leaves: those of two axes and more are Muon's, but for embeddings and heads. These are told
    by the names on their path (`adam_paths`); `muon_weight_dimension_numbers` decides instead, where
    it is given.

    Args:
      learning_rate: a scalar, or a schedule.
      ns_coeffs: the coefficients of the iteration, as for `newton_schulz`.
      ns_steps: the number of its steps.
      beta: decay of the momentum, in [0, 1), or a schedule.
      eps: added to denominators, Muon's and Adam's, or a schedule.
      weight_decay: λ of Muon's leaves, multiplied by the learning rate; a scalar, or a schedule.
      weight_decay_mask: which of them decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`, in both; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum, in both.
      adaptive: whether to multiply by the dual norm.
      preconditioning: "frobenius", "spectral", "aol" or "schatten", as for `newton_schulz`.
      adam_b1: Adam's decay of the mean, or a schedule.
      adam_b2: Adam's decay of the mean square, or a schedule.
      adam_eps_root: added under Adam's root, or a schedule.
      adam_weight_decay: Adam's weight decay, or a schedule.
      adam_learning_rate: Adam's learning rate, or a schedule; the same as Muon's by default.
      muon_weight_dimension_numbers: a tree of `MuonDimensionNumbers`, None where a leaf is Adam's, or
        a prefix of one, or a function from the parameters to that.
      consistent_rms: the scaling by shape, as for `scale_by_shape`; 0.2 is Moonshot's.
      adam_paths: patterns (as in file names) for the names on a leaf's path, in lower case and without
        a number at their end ("Embed_0" is "embed"); a leaf with such a name is Adam's. Empty: none.
      orthogonalize: your own function in place of the iteration, as for `scale_by_muon`.
      ns_dtype: dtype of the iteration; by default that of the momentum.

    Returns:
      A transformation; its state is a `PartitionState` with the labels "muon" and "adam". `update`
      needs the parameters.

    Raises:
      ValueError: if a number is out of its range, or dimension numbers do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import muon
      >>> params = {"embedding": jnp.ones((8, 4)), "kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}
      >>> state = muon(0.02, consistent_rms=0.2, weight_decay=0.1).init(params)
      >>> sorted(state.inner_states["adam"].inner_state[0].mu)
      ['bias', 'embedding', 'kernel']
      >>> state.inner_states["adam"].inner_state[0].mu["kernel"]
      MaskedNode()
    """
    patterns = (adam_paths,) if isinstance(adam_paths, str) else tuple(adam_paths)
    dims = muon_weight_dimension_numbers

    def is_muon(params: Params) -> PyTree:
        return _hidden_matrices(params, dims, patterns)

    def is_adam(params: Params) -> PyTree:
        return jax.tree.map(lambda own: not own, is_muon(params), is_leaf=is_placeholder)

    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
            weight_dimension_numbers=dims,
            orthogonalize=orthogonalize,
            ns_dtype=ns_dtype,
        ),
        scale_by_shape(dims, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    # Not `partition`, which refuses a label without a leaf: all may be matrices, or none.
    both = chain(masked(matrices, is_muon), masked(others, is_adam))

    def init(params: Params) -> PartitionState:
        of_muon, of_adam = both.init(params)
        return PartitionState({"muon": of_muon, "adam": of_adam})

    def update(
        updates: Updates, state: PartitionState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, PartitionState]:
        states = (state.inner_states["muon"], state.inner_states["adam"])
        updates, (of_muon, of_adam) = both.update(updates, states, params, **extra_args)
        return updates, PartitionState({"muon": of_muon, "adam": of_adam})

    return wrapping(init, update)


def _is_dims(x: Any) -> bool:
    return isinstance(x, tuple) and getattr(x, "_fields", ()) == MuonDimensionNumbers._fields


def _hidden_matrices(params: Params, dims: Any, patterns: tuple[str, ...]) -> PyTree:
    """True where a leaf is Muon's."""
    pairs, structure = flatten_with_path(params)
    if dims is not None:
        given = broadcast_dims("muon", dims, params, _is_dims)
        return structure.unflatten([dim is not None for dim in given])
    return structure.unflatten(
        [
            not is_placeholder(x) and jnp.ndim(x) >= 2 and not _is_named(path, patterns)
            for path, x in pairs
        ]
    )


def _is_named(path: tuple[Any, ...], patterns: tuple[str, ...]) -> bool:
    """Whether a name on the path fits a pattern."""
    names = [getattr(key, "key", getattr(key, "name", "")) for key in path]
    return any(_fits(str(name), patterns) for name in names)


@functools.cache
def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    plain = re.sub(r"_?\d+$", "", name).lower()
    return any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)


def _axes(where: str, dims: Any, updates: PyTree) -> list[Axes | None]:
    """How each leaf is a stack of matrices; None where it is absent."""
    pairs, _ = flatten_with_path(updates)
    given = [None] * len(pairs)
    if dims is not None:
        given = broadcast_dims(where, dims, updates, _is_dims)
    axes: list[Axes | None] = []
    for (path, x), dim in zip(pairs, given, strict=True):
        if is_placeholder(x) or not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
            axes.append(None)
            continue
        name = f"{where}: the leaf{jax.tree_util.keystr(path)}"
        if jnp.ndim(x) < 2:
            raise ValueError(
                f"{name} of shape {jnp.shape(x)} is no matrix. Use muon, which gives it to Adam, or "
                "leave it out with optx_core.masked"
            )
        if dims is not None and dim is None:
            raise ValueError(
                f"{name} has no dimension numbers. Leave it out with optx_core.masked, or use muon"
            )
        own = default_axes(jnp.ndim(x)) if dim is None else axes_of(name, jnp.ndim(x), dim)
        axes.append(own)
    return axes


def _widened(updates: Updates) -> Updates:
    def leaf(g: Any) -> Any:
        if is_placeholder(g):
            return g
        g = jnp.asarray(g)
        wide = at_least_float32(g.dtype)
        return g if g.dtype == wide else g.astype(wide)

    return jax.tree.map(leaf, updates, is_leaf=is_placeholder)
