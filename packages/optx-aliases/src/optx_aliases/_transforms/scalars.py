"""Numbers that belong to all parameters together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import OptState, Params, build


def scalar_dtype(params: Params) -> Any:
    """The dtype of a number that belongs to all parameters: float64 if one of them is that wide."""
    return build.common_real_dtype(*map(build.dtype_of, jax.tree.leaves(params)))


def quotient(a: Array, b: Array) -> Array:
    """The quotient, 0 where b is not positive; its gradient is never NaN."""
    positive = b > 0
    return jnp.where(positive, a / jnp.where(positive, b, 1), 0)


def root(x: Array) -> Array:
    """√x, with slope 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def scaled_by(factor: Array, close: Callable[[], OptState]) -> build.LeafStep:
    """The step that multiplies the updates by a number."""
    return build.LeafStep(_scaled, close=close, operands={"factor": factor})


def _scaled(g: Array, *, factor: Array) -> Array:
    return factor * g
