"""Scaling of the gradient of a value."""

from __future__ import annotations

from typing import Any

import jax

from optx_core import PyTree, Scalar


@jax.custom_jvp
def _scaled(inputs: PyTree, factor: Scalar) -> PyTree:
    del factor
    return inputs


@_scaled.defjvp
def _scaled_jvp(primals: tuple[PyTree, Scalar], tangents: tuple[PyTree, Any]) -> Any:
    inputs, factor = primals
    return inputs, jax.tree.map(lambda t: t * factor, tangents[0])


def scale_gradient(inputs: PyTree, scale: Scalar) -> PyTree:
    """Returns its input unchanged, and multiplies its gradient by a factor.

    Args:
      inputs: a tree of arrays.
      scale: the factor: 0 stops the gradient, 1 keeps it, −1 reverses it (Ganin, Lempitsky,
        "Unsupervised Domain Adaptation by Backpropagation", 2015).

    Returns:
      The input.

    Example:
      >>> import jax
      >>> from optx_core import scale_gradient
      >>> float(jax.grad(lambda x: scale_gradient(x, -0.5) ** 2)(3.0))
      -3.0
    """
    return _scaled(inputs, scale)
