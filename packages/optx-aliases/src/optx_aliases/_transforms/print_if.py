"""Reports from a running program."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array, lax


def print_if(condition: Array, text: str, **values: Any) -> None:
    """Prints values with `jax.debug.print` if a condition holds.

    Args:
      condition: a boolean scalar. Outside of `jax.jit` it is read, and nothing is compiled.
      text: the format, such as "the loss is {loss}".
      **values: the arrays to print, by name.
    """
    if isinstance(condition, jax.core.Tracer):
        lax.cond(condition, lambda: jax.debug.print(text, **values), lambda: None)
    elif condition:
        jax.debug.print(text, **values)
