"""Evaluation of traced programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def evaluate_jaxpr(jaxpr: Any, constants: Sequence[Any], *arrays: Any) -> list[Any]:
    """Evaluates a jaxpr.

    Args:
      jaxpr: the jaxpr, such as `jax.make_jaxpr(f)(x).jaxpr`.
      constants: the values of its constants.
      *arrays: its arguments.

    Returns:
      Its results.

    Example:
      >>> import jax
      >>> from optx_core.build import evaluate_jaxpr
      >>> closed = jax.make_jaxpr(lambda x: 2 * x)(1.0)
      >>> float(evaluate_jaxpr(closed.jaxpr, closed.consts, 3.0)[0])
      6.0
    """
    from jax.extend import core  # local: takes longer to import than this package

    untyped: Any = core  # the types of newer versions hide `ClosedJaxpr`
    return list(core.jaxpr_as_fun(untyped.ClosedJaxpr(jaxpr, list(constants)))(*arrays))
