"""Complex parameters as pairs of real ones, for optimizers that know only real numbers.

Optimizing a real function of complex z = x + iy this way is optimizing it over x and y. (In optx as in
jax the gradient of a complex parameter is the conjugate of the direction of ascent: conjugate gradients
before they are given to an optimizer.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    Updates,
    with_extra_args_support,
)
from optx_core.build import check_transformation_like, recorded, wrapping


class SplitRealAndImaginaryArrays(NamedTuple):
    """What stands in a tree for a complex array.

    Attributes:
      real: the real part.
      imaginary: the imaginary part, of the same shape and dtype.
    """

    real: jax.Array
    imaginary: jax.Array


class SplitRealAndImaginaryState(NamedTuple):
    """State of `split_real_and_imaginary`.

    Attributes:
      inner_state: the inner transformation's state, for the split parameters.
    """

    inner_state: OptState


def _split(tree: PyTree) -> PyTree:
    def leaf(x: Any) -> Any:
        x = jnp.asarray(x)
        return SplitRealAndImaginaryArrays(x.real, x.imag) if jnp.iscomplexobj(x) else x

    return jax.tree.map(leaf, tree)


def _joined(x: Any) -> Any:
    if not isinstance(x, SplitRealAndImaginaryArrays):
        return x
    return lax.complex(x.real, x.imaginary)


@recorded
def split_real_and_imaginary(inner: Any) -> GradientTransformationExtraArgs:
    """Shows a transformation the real and the imaginary part of each complex array as two real ones.

    Args:
      inner: the transformation.

    Returns:
      A transformation with a `SplitRealAndImaginaryState`, which hands extra arguments on as they are.
      Real arrays pass through as they are.

    Raises:
      TypeError: if `inner` is no transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import adam, split_real_and_imaginary
      >>> tx, z = split_real_and_imaginary(adam(1.0)), jnp.array([1.0 + 2.0j])
      >>> updates, _ = tx.update(jnp.array([0.5 - 4.0j]), tx.init(z), z)
      >>> jnp.round(updates, 3)
      Array([-1.+1.j], dtype=complex64)
    """
    check_transformation_like("split_real_and_imaginary", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> SplitRealAndImaginaryState:
        return SplitRealAndImaginaryState(inner.init(_split(params)))

    def update(
        updates: Updates,
        state: SplitRealAndImaginaryState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, SplitRealAndImaginaryState]:
        split = None if params is None else _split(params)
        made, inner_state = inner.update(_split(updates), state.inner_state, split, **extra_args)
        is_pair = lambda x: isinstance(x, SplitRealAndImaginaryArrays)  # noqa: E731
        return jax.tree.map(_joined, made, is_leaf=is_pair), SplitRealAndImaginaryState(inner_state)

    return wrapping(init, update)
