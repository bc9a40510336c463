"""Mean squares of a matrix kept as those of its rows and columns.

For a matrix (of a larger array, its two longest axes) with d = 1 − t^(−decay_rate):

r ← d·r + (1 − d)·mean of |g|² + epsilon over columns
c ← d·c + (1 − d)·mean of |g|² + epsilon over rows
u = g / √(r·c / mean r)

Other arrays keep v ← d·v + (1 − d)·(|g|² + epsilon), u = g / √v.

Reference: Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018,
algorithms 2 and 4, section 7.2 (the decay).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import PyTree, build, tree


def _factored_axes(shape: tuple[int, ...], least: int | None) -> tuple[int, int] | None:
    """The second longest axis and the longest one, or None where the shape is not to be factored."""
    if least is None or len(shape) < 2:
        return None
    *_, second, longest = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return (second, longest) if shape[second] >= least and shape[second] > 0 else None


def _slots(p: Array, *, factored: bool, min_dim_size_to_factor: int, **_: Any) -> list[Array]:
    """`v_row`, `v_col` and `v` of a parameter; those that it does not need hold one number."""
    p = jnp.zeros_like(p, dtype=tree.slot_dtype(p, real=True))
    axes = _factored_axes(p.shape, min_dim_size_to_factor if factored else None)
    unused = jnp.zeros_like(jnp.reshape(jnp.sum(p), (1,)))
    if axes is None:
        return [unused, jnp.zeros_like(unused), p]
    second, longest = axes
    return [jnp.zeros_like(p.sum(longest)), jnp.zeros_like(p.sum(second)), unused]


def _slot(place: int) -> build.Slot:
    return build.slot(nonnegative=True, init=lambda p, **arguments: _slots(p, **arguments)[place])


class FactoredState(NamedTuple):
    """State of `scale_by_factored_rms`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      v_row: a tree of the parameters' structure; mean squares over the longest axis, or one number that
        is not used.
      v_col: likewise over the second longest axis.
      v: v, likewise of the parameter's shape where it is not factored, else one number.
    """

    count: build.Count
    v_row: Annotated[PyTree, _slot(0)]
    v_col: Annotated[PyTree, _slot(1)]
    v: Annotated[PyTree, _slot(2)]


def _square_again(g: jax.Array) -> jax.Array:
    """|g|² in other words: XLA:CPU writes out what two reductions share, but reads g twice for less."""
    return tree.abs_squared(g) if jnp.iscomplexobj(g) else -(g * -g)


def _inverse_root(x: jax.Array) -> jax.Array:
    """1/√x, and 0 at 0."""
    return jnp.where(x > 0, jax.lax.rsqrt(jnp.where(x > 0, x, 1)), 0)


@build.rule(FactoredState)
def scale_by_factored_rms(
    g: Array,
    s: FactoredState,
    /,
    factored: bool = True,
    decay_rate: build.Positive = 0.8,
    step_offset: Annotated[Any, build.Number()] = 0,
    min_dim_size_to_factor: build.PositiveInt = 128,
    epsilon: build.Nonnegative = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] | None = None,
) -> tuple[Array, FactoredState]:
    """Divides gradients by the root of their mean squares, which take little memory for matrices.

    Args:
      factored: whether to keep the mean squares of matrices as those of rows and columns.
      decay_rate: exponent of the decay 1 − t^(−decay_rate), a scalar above 0, or a schedule.
      step_offset: the count at which t is 1, for a model whose training goes on.
      min_dim_size_to_factor: factor an array only if its two longest axes have at least this size.
      epsilon: added to the squares.
      decay_rate_fn: the decay as a function of the number of updates so far, less `step_offset`, and
        of `decay_rate`; by default 1 − t^(−decay_rate).

    Returns:
      A transformation with a `FactoredState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_factored_rms
      >>> tx = scale_by_factored_rms(min_dim_size_to_factor=2)
      >>> tx.init(jnp.zeros((2, 3))).v_row.shape
      (2,)
    """
    since = s.count - 1 - jnp.asarray(step_offset).astype(s.count.dtype)
    d = _decay_at(since, decay_rate, decay_rate_fn)
    # Of an enormous gradient the means are limited: XLA:CPU would write a limited gradient out.
    square = build.abs_squared(g)
    axes = _factored_axes(g.shape, min_dim_size_to_factor if factored else None)
    if axes is None:
        v = d * s.v + (1 - d) * (build.finite_sum(square) + epsilon)
        return g * _inverse_root(v), s._replace(v=v)
    second, longest = axes
    v_row = d * s.v_row + (1 - d) * (build.finite_sum(jnp.mean(square, longest)) + epsilon)
    v_col = d * s.v_col + (1 - d) * (build.finite_sum(jnp.mean(_square_again(g), second)) + epsilon)
    mean = jnp.mean(v_row, second - (second > longest), keepdims=True)
    rows = _inverse_root(v_row / jnp.where(mean > 0, mean, 1))
    factor = jnp.expand_dims(rows, longest) * jnp.expand_dims(_inverse_root(v_col), second)
    return g * factor, s._replace(v_row=v_row, v_col=v_col)


def _decay_at(since: Array, decay_rate: Any, decay_rate_fn: Any) -> build.DecayRate:
    if decay_rate_fn is not None:
        return build.rate_of(decay_rate_fn(since, decay_rate))
    t = jnp.maximum(since + 1, 1).astype(jnp.asarray(decay_rate).dtype)
    complement = t ** -jnp.asarray(decay_rate)
    return build.DecayRate(1 - complement, complement)
