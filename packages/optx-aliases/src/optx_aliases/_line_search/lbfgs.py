"""L-BFGS with a line search, for losses without noise.

The direction is that of `scale_by_lbfgs`, the step that of `scale_by_zoom_linesearch`.
"""

from __future__ import annotations

from typing import Any

from optx_aliases import scale_by_zoom_linesearch
from optx_aliases._line_search.scale_by_lbfgs import scale_by_lbfgs
from optx_core import (
    ScalarOrSchedule,
    build,
    chain,
    identity,
    scale,
    scale_by_learning_rate,
)

_ZOOM = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


@build.recorded
def lbfgs(
    learning_rate: ScalarOrSchedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = _ZOOM,
) -> build.Transformation:
    """L-BFGS (Liu and Nocedal, 1989) with a line search.

    For losses without noise. `update` needs the value, the gradient and the function of the loss;
    `value_and_grad_from_state` takes the first two from the state of the search, so that a step whose
    first trial is accepted evaluates the loss once. `minimize` runs the whole loop.

    For complex parameters pass the conjugate of the result of `jax.grad` as the updates; as `grad` either
    serves.

    Args:
      learning_rate: a factor on the direction before the line search, a scalar or a schedule; None for 1.
      memory_size: m, the number of steps kept, at least 1. The state holds 2·m + 2 arrays of each
        parameter's shape.
      scale_init_precond: whether the estimate of the inverse Hessian starts from γ times the identity;
        otherwise from the identity.
      linesearch: the transformation that finds the step; by default `scale_by_zoom_linesearch` with at most
        20 trials, the first at 1. None for no search.

    Returns:
      A transformation; its state is that of the chain of `scale_by_lbfgs`, the learning rate and the search.

    Raises:
      ValueError: if `memory_size` is not a positive int, and from `update` if an argument is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import lbfgs, value_and_grad_from_state
      >>> from optx_core import apply_updates
      >>> def loss(p):
      ...     return jnp.sum((p - 3.0) ** 4)
      >>> tx, params = lbfgs(), jnp.zeros(2)
      >>> value_and_grad, state = value_and_grad_from_state(loss), tx.init(params)
      >>> for _ in range(20):
      ...     value, grad = value_and_grad(params, state=state)
      ...     updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
      ...     params = apply_updates(params, updates)
      >>> bool(loss(params) < 1e-6)
      True
    """
    rate = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    search = identity() if linesearch is None else linesearch
    return chain(scale_by_lbfgs(memory_size, scale_init_precond), rate, search)
