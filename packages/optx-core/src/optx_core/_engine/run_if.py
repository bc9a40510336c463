"""Running something only where a condition holds, at the cost of the condition elsewhere.

`lax.cond` copies what its branches share on accelerators; a loop of zero or one trips works in place.
The loop has no reverse mode, so its derivative is that of the `cond`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from optx_core._protocol.absent import tree_flatten
from optx_core._protocol.types import PyTree


def run_if(condition: jax.Array, run: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """`run(carry)` where the condition holds, else `carry`.

    Args:
      condition: a boolean scalar.
      run: a pure function that keeps structure, shapes and dtypes. It may close over anything.
      carry: a tree of arrays.

    Returns:
      A tree like `carry`. Where the condition does not hold, nothing of `run` is computed and
      nothing is copied; the derivative, forward and reverse, is that of `lax.cond`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import run_if
      >>> float(run_if(jnp.array(True), lambda x: x + 1.0, jnp.array(1.0)))
      2.0
    """
    closed = jax.make_jaxpr(run)(carry)
    leaves, structure = tree_flatten(carry)
    made = _loop(_Body(closed.jaxpr), condition, list(closed.consts), leaves)
    return structure.unflatten(made)


class _Body:
    """A program without its constants, compared by identity."""

    def __init__(self, jaxpr: Any) -> None:
        self.jaxpr = jaxpr

    def __call__(self, consts: list[Any], leaves: list[Any]) -> list[Any]:
        from jax.extend import core  # here, as jax.extend takes longer to import than this package

        closed = core.ClosedJaxpr(self.jaxpr, consts)
        return list(core.jaxpr_as_fun(closed)(*leaves))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loop(body: _Body, condition: Any, consts: list[Any], leaves: list[Any]) -> list[Any]:
    def trip(state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        return state[0] & False, body(consts, state[1])

    return lax.while_loop(lambda state: state[0], trip, (condition, leaves))[1]


@_loop.defjvp
def _loop_jvp(body: _Body, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    condition, consts, leaves = primals

    def choose(consts: list[Any], leaves: list[Any]) -> list[Any]:
        return lax.cond(condition, body, lambda _, kept: kept, consts, leaves)

    return jax.jvp(choose, (consts, leaves), tuple(tangents[1:]))
