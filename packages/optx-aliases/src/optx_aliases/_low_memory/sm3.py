"""SM3: Adagrad with sums for rows and columns (slices along each axis) in place of sums for entries.

v = minᵢ μᵢ + |g|²          (μᵢ the sums along axis i, each spread over the array)
μᵢ ← max of v over all axes but i
m ← b1·m + (1 − b1)·g / √(v + eps)
u = m

where i is an axis of the array. With b2 < 1 the sums are means: v = b2·minᵢ μᵢ + (1 − b2)·|g|². A 0-d array
has one sum, its own. μ is called `mu` and m is called `nu` in the state.

Reference: Anil, Gupta, Koren, Singer, "Memory-Efficient Adaptive Optimization", 2019, algorithm SM3-II.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import (
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    build,
    chain,
    scale_by_learning_rate,
    tree,
)


class ScaleBySM3State(NamedTuple):
    """State of `scale_by_sm3`.

    Attributes:
      mu: μ, a tree of the parameters' structure; for each array a list of vectors, one per axis.
      nu: m, a tree of the parameters' structure and shapes.
    """

    mu: Annotated[PyTree, build.slot(nonnegative=True)]
    nu: build.Moment


def _axes_of(slot: Array) -> list[Array]:
    """Zeros for each axis of a parameter's slot, laid out as the axis is."""
    sums = [_largest(slot, axis) for axis in range(slot.ndim)] or [slot]
    return [jnp.zeros_like(x) for x in sums]


def _largest(v: Array, axis: int) -> Array:
    """The maximum over all axes but one of an array without negative entries."""
    return jnp.max(v, axis=[k for k in range(v.ndim) if k != axis], initial=0)


def _spread(x: Array, axis: int, ndim: int) -> Array:
    return jnp.expand_dims(x, [k for k in range(ndim) if k != axis]) if ndim else x


@functools.lru_cache(maxsize=64)
def _leaf_of(axes: int) -> Callable[..., Any]:
    """The equations for arrays of at most `axes` axes; an array ignores the sums of axes that it lacks."""

    def leaf(
        g: Array, m: Array, *mu: Array, b1: build.DecayRate, b2: build.DecayRate, eps: Scalar
    ) -> tuple[Array, ...]:
        g = build.squarable(g)
        own = max(g.ndim, 1)
        least = functools.reduce(
            jnp.minimum, [_spread(x, axis, g.ndim) for axis, x in enumerate(mu[:own])]
        )
        weight = jnp.where(1 - b2 == 0, 1, 1 - b2)
        v = b2 * least + weight * build.abs_squared(g)
        root = jnp.where(v > 0, jax.lax.rsqrt(jnp.where(v > 0, v + eps, 1)), 0)
        m = b1 * m + (1 - b1) * g * root
        sums = [_largest(v, axis) if g.ndim else v for axis in range(own)]
        return m, m, *sums, *mu[own:]

    names = ["g", "m", *(f"mu{axis}" for axis in range(axes))]
    leaf.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # read for errors
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    )
    return leaf


@build.recorded
@build.schedulable("b1", "b2", "eps")
def scale_by_sm3(
    b1: ScalarOrSchedule = 0.9, b2: ScalarOrSchedule = 1.0, eps: ScalarOrSchedule = 1e-8
) -> build.Transformation:
    """Rescales gradients by SM3, with momentum.

    Args:
      b1: decay of the mean of the updates, in [0, 1), or a schedule.
      b2: decay of the squares, in [0, 1], or a schedule; 1 sums them.
      eps: added under the root.

    Returns:
      A transformation with a `ScaleBySM3State`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_sm3
      >>> tx = scale_by_sm3(b1=0.5, eps=0.0)
      >>> tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))[0]
      Array([ 0.5, -0.5], dtype=float32)
    """
    build.check_number("scale_by_sm3", low=0, below=1, b1=b1)
    build.check_number("scale_by_sm3", low=0, high=1, b2=b2)
    build.check_number("scale_by_sm3", low=0, eps=eps)

    def init(params: Params) -> ScaleBySM3State:
        return ScaleBySM3State(
            mu=jax.tree.map(_axes_of, tree.slots_like(params, real=True)),
            nu=tree.slots_like(params),
        )

    def step(_flow: build.Flow, state: ScaleBySM3State, *_: Any, **_extra: Any) -> build.LeafStep:
        slots: list[Any] = jax.tree.leaves(state.nu)
        structure: Any = jax.tree.structure(state.nu)
        sums = structure.flatten_up_to(state.mu)
        axes = max(map(len, sums), default=1)
        columns = [
            structure.unflatten(
                [
                    mu[axis] if axis < len(mu) else jnp.zeros((), tree.slot_dtype(nu, real=True))
                    for mu, nu in zip(sums, slots, strict=True)
                ]
            )
            for axis in range(axes)
        ]

        def close(nu: PyTree, *columns: PyTree) -> ScaleBySM3State:
            rows = zip(*map(structure.flatten_up_to, columns), strict=True)
            mu = [list(row[: len(old)]) for row, old in zip(rows, sums, strict=True)]
            return ScaleBySM3State(structure.unflatten(mu), nu)

        return build.LeafStep(
            _leaf_of(axes),
            slots=(state.nu,),
            reduced=tuple(columns),
            close=close,
            operands={"b1": build.rate_of(b1), "b2": build.rate_of(b2), "eps": eps},
        )

    return build.leafwise(step, init)


@build.recorded
def sm3(learning_rate: ScalarOrSchedule, momentum: ScalarOrSchedule = 0.9) -> build.Transformation:
    """SM3 (Anil et al., 2019).

    Args:
      learning_rate: a scalar, or a schedule.
      momentum: decay of the mean of the updates, in [0, 1), or a schedule.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import sm3
      >>> tx = sm3(0.1)
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))
