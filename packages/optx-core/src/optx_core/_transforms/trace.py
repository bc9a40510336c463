"""Momentum: a decaying sum of past updates.

t ← g + decay·t,  u = t        (Polyak's heavy ball)
t ← g + decay·t,  u = g + decay·t   (Nesterov's)

Reference: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in
deep learning", 2013, equations 1 to 4.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax

from optx_core import PyTree, build


class TraceState(NamedTuple):
    """State of `trace`.

    Attributes:
      trace: t, a tree of the parameters' structure and shapes.
    """

    trace: Annotated[PyTree, build.slot(dtype="accumulator_dtype")]


@build.rule(TraceState)
def trace(
    g: jax.Array,
    s: TraceState,
    /,
    decay: build.ClosedRate,
    nesterov: bool = False,
    accumulator_dtype: build.DType = None,
) -> tuple[jax.Array, TraceState]:
    """Sums past updates with decaying weights: momentum.

    Args:
      decay: the factor by which the sum shrinks at each step, in [0, 1), or a schedule.
      nesterov: whether to use Nesterov's momentum.
      accumulator_dtype: dtype of the sum; by default the parameters', at least float32.

    Returns:
      A transformation with a `TraceState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import trace
      >>> tx = trace(0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state)
      >>> updates
      Array([1.5], dtype=float32)
    """
    t = g + decay * s.trace
    return g + decay * t if nesterov else t, s._replace(trace=t)
