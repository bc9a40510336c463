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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    safe_increment,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class FactoredState(NamedTuple):
    """State of `scale_by_factored_rms`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      v_row: a tree of the parameters' structure; mean squares over the longest axis, or one number that
        is not used.
      v_col: likewise over the second longest axis.
      v: v, likewise of the parameter's shape where it is not factored, else one number.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    v_row: PyTree
    v_col: PyTree
    v: PyTree


def _factored_axes(shape: tuple[int, ...], least: int | None) -> tuple[int, int] | None:
    """The second longest axis and the longest one, or None where the shape is not to be factored."""
    if least is None or len(shape) < 2:
        return None
    *_, second, longest = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return (second, longest) if shape[second] >= least and shape[second] > 0 else None


def _leaf(
    g: jax.Array,
    v_row: jax.Array,
    v_col: jax.Array,
    v: jax.Array,
    *,
    decay: Decay,
    epsilon: Scalar,
    least: int | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    square = tree.abs_squared(g)
    axes = _factored_axes(g.shape, least)
    if axes is None:
        v = decay.value * v + decay.complement * (square + epsilon)
        return g * _inverse_root(v), v_row, v_col, v
    second, longest = axes
    v_row = decay.value * v_row + decay.complement * (jnp.mean(square, longest) + epsilon)
    v_col = decay.value * v_col + decay.complement * (jnp.mean(_square_again(g), second) + epsilon)
    mean = jnp.mean(v_row, second - (second > longest), keepdims=True)
    rows = _inverse_root(v_row / jnp.where(mean > 0, mean, 1))
    factor = jnp.expand_dims(rows, longest) * jnp.expand_dims(_inverse_root(v_col), second)
    return g * factor, v_row, v_col, v


def _square_again(g: jax.Array) -> jax.Array:
    """|g|² in other words: XLA:CPU writes out what two reductions share, but reads g twice for less."""
    return tree.abs_squared(g) if jnp.iscomplexobj(g) else -(g * -g)


def _inverse_root(x: jax.Array) -> jax.Array:
    """1/√x, and 0 at 0."""
    return jnp.where(x > 0, jax.lax.rsqrt(jnp.where(x > 0, x, 1)), 0)


@recorded
@schedulable("decay_rate", "epsilon")
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: ScalarOrSchedule = 0.8,
    step_offset: int | jax.Array = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: ScalarOrSchedule = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] | None = None,
) -> GradientTransformationExtraArgs:
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
    check_number("scale_by_factored_rms", above=0, decay_rate=decay_rate)
    check_number("scale_by_factored_rms", low=0, epsilon=epsilon)
    check_number("scale_by_factored_rms", low=1, min_dim_size_to_factor=min_dim_size_to_factor)
    least = min_dim_size_to_factor if factored else None

    def slots(p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        axes = _factored_axes(p.shape, least)
        unused = jnp.zeros_like(jnp.reshape(jnp.sum(p), (1,)))
        if axes is None:
            return unused, jnp.zeros_like(unused), jnp.zeros_like(p)
        second, longest = axes
        return jnp.zeros_like(p.sum(longest)), jnp.zeros_like(p.sum(second)), unused

    def init(params: Params) -> FactoredState:
        like = tree.slots_like(params, real=True)
        v_row, v_col, v = (jax.tree.map(lambda p, k=k: slots(p)[k], like) for k in range(3))
        return FactoredState(zero_count(), v_row, v_col, v)

    def step(flow: Flow, state: FactoredState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            reduced=(state.v_row, state.v_col, state.v),
            close=lambda *v: FactoredState(safe_increment(state.count), *v),
            operands={"decay": decay_at(state.count), "epsilon": epsilon, "least": least},
        )

    def decay_at(count: jax.Array) -> Decay:
        since = count - jnp.asarray(step_offset, count.dtype)
        if decay_rate_fn is not None:
            return decay_of(decay_rate_fn(since, decay_rate))
        t = jnp.maximum(since + 1, 1).astype(float)
        complement = t ** -jnp.asarray(decay_rate, t.dtype)
        return Decay(1 - complement, complement)

    return leafwise(step, init)
