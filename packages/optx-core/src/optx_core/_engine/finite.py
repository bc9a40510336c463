"""Test for finite values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optx_core._protocol.dtypes import is_inexact
from optx_core._protocol.types import PyTree


def all_finite(tree: PyTree) -> jax.Array:
    """Returns whether every number of a tree is finite.

    Args:
      tree: a tree of arrays; integers count as finite, None is ignored.

    Returns:
      A boolean scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import all_finite
      >>> bool(all_finite({"a": jnp.ones(2), "b": jnp.array(jnp.inf)}))
      False
    """
    checks = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if is_inexact(x)]
    return jnp.all(jnp.stack(checks)) if checks else jnp.asarray(True)
