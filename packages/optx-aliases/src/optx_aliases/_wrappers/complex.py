"""Complex parameters as pairs of real ones, for optimizers of real parameters.

A real function of complex z = x + iy is then optimized over x and y. (`jax.grad` returns the conjugate of
the direction of ascent for complex parameters: conjugate gradients before you pass them to an optimizer.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_core import Params, PyTree, Updates, build, with_extra_args_support


class SplitRealAndImaginaryArrays(NamedTuple):
    """The two parts of a complex array, in its place in a tree.

    Attributes:
      real: the real part.
      imaginary: the imaginary part, of the same shape and dtype.
    """

    real: Array
    imaginary: Array


class SplitRealAndImaginaryState(NamedTuple):
    """State of `split_real_and_imaginary`.

    Attributes:
      inner_state: the inner transformation's state, for the split parameters.
    """

    inner_state: build.InnerState


def _split(tree: PyTree) -> PyTree:
    def leaf(x: Any) -> Any:
        x = jnp.asarray(x)
        return SplitRealAndImaginaryArrays(x.real, x.imag) if jnp.iscomplexobj(x) else x

    return jax.tree.map(leaf, tree)


def _joined(x: Any) -> Any:
    if not isinstance(x, SplitRealAndImaginaryArrays):
        return x
    return lax.complex(x.real, x.imaginary)


@build.recorded
def split_real_and_imaginary(inner: Any) -> build.Transformation:
    """Applies a transformation to the real and imaginary parts of complex arrays.

    Args:
      inner: the transformation.

    Returns:
      A transformation with a `SplitRealAndImaginaryState`, which passes extra arguments on unchanged.
      Real arrays stay as they are.

    Raises:
      TypeError: if `inner` is not a transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import adam, split_real_and_imaginary
      >>> tx, z = split_real_and_imaginary(adam(1.0)), jnp.array([1.0 + 2.0j])
      >>> updates, _ = tx.update(jnp.array([0.5 - 4.0j]), tx.init(z), z)
      >>> jnp.round(updates, 3)
      Array([-1.+1.j], dtype=complex64)
    """
    build.check_transformation_like("split_real_and_imaginary", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> SplitRealAndImaginaryState:
        return SplitRealAndImaginaryState(inner.init(_split(params)))

    def update(
        updates: Updates,
        state: SplitRealAndImaginaryState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, SplitRealAndImaginaryState]:
        build.check_state("split_real_and_imaginary", SplitRealAndImaginaryState, state)
        split = None if params is None else _split(params)
        parts, inner_state = inner.update(_split(updates), state.inner_state, split, **extra_args)
        is_pair = lambda x: isinstance(x, SplitRealAndImaginaryArrays)  # noqa: E731
        return jax.tree.map(_joined, parts, is_leaf=is_pair), SplitRealAndImaginaryState(
            inner_state
        )

    return build.wrapping(init, update)
