"""A line search as a transformation: u ← η·u."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._line_search.line import Line, need_loss, scalar, scaled
from optx_aliases._transforms.print_if import print_if
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import Params, PyTree, Scalar, build, tree


def line_search(
    where: str,
    state: Any,
    info: Any,
    find: Callable[[Line, Array, Array, PyTree, Any], Any],
    *,
    verbose: bool,
    store_grad: bool = True,
) -> build.Transformation:
    """Makes a transformation that multiplies the updates by a step along them.

    Args:
      where: its name, for errors.
      state: the class of its state: the last step `learning_rate`, the loss `value` and the gradient `grad`
        there, and a report `info`.
      info: the class of the report: the number of trials, and errors.
      find: `find(line, value, slope, grad, state)`, given φ(0), φ'(0) and the gradient at the parameters,
        returns the new state.
      verbose: whether to print a report when a search fails.
      store_grad: whether the state holds the gradient.
    """

    def init(params: Params) -> Any:
        real = scalar_dtype(params)
        errors = [jnp.full((), jnp.inf, real) for _ in info._fields[1:]]
        grad = tree.slots_like(params) if store_grad else None
        first = info(build.zero_count(), *errors)
        return state(jnp.ones((), real), jnp.full((), jnp.inf, real), grad, first)

    def update(
        updates: PyTree,
        old: Any,
        params: Params = None,
        *,
        value: Scalar | None = None,
        grad: PyTree = None,
        value_fn: Any = None,
        **extra_args: Any,
    ) -> tuple[PyTree, Any]:
        need_loss(where, params=params, value=value, grad=grad, value_fn=value_fn)
        line = Line(where, params, updates, value_fn, extra_args, old.value.dtype)
        slope, grad = line.start(grad)
        new = find(line, scalar(where, value, line.real), slope, grad, old)
        if verbose:
            _report(where, slope, new)
        return scaled(new.learning_rate, updates), new

    return build.wrapping(init, update)


def _report(where: str, slope: Array, new: Any) -> None:
    """Prints a report if a search failed."""
    number, *errors = new.info
    text = (
        where
        + ": no step satisfies the conditions after {n} trials: slope {slope}, missed by {errors}; "
        "the step taken is {step}"
    )
    failed = jnp.any(jnp.stack(errors) > 0) | (new.learning_rate == 0)
    print_if(failed, text, n=number, slope=slope, errors=errors, step=new.learning_rate)
