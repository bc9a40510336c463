"""Replacement of NaN entries by zero."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, build


def _not_found(_: jax.Array) -> jax.Array:
    return jnp.zeros((), jnp.bool_)


class ZeroNansState(NamedTuple):
    """State of `zero_nans`.

    Attributes:
      found_nan: a tree of boolean scalars, whether the last update of each array contained a NaN.
    """

    found_nan: Annotated[PyTree, build.slot(init=_not_found)]


@build.rule(ZeroNansState)
def zero_nans(g: jax.Array, s: ZeroNansState, /) -> tuple[jax.Array, ZeroNansState]:
    """Replaces NaN entries by zero, and records which arrays had any. Infinities pass unchanged.

    Returns:
      A transformation with a `ZeroNansState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import zero_nans
      >>> tx = zero_nans()
      >>> updates, state = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
      >>> updates, bool(state.found_nan)
      (Array([0., 1.], dtype=float32), True)
    """
    nan = jnp.isnan(g)
    return jnp.where(nan, jnp.zeros_like(g), g), s._replace(found_nan=jnp.any(nan))
