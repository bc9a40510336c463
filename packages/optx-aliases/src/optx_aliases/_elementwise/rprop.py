"""Rprop: a step size for each entry, which grows while the gradient keeps its sign.

s ← min(eta_plus·s, max_step_size) where g·uₗₐₛₜ > 0, max(eta_minus·s, min_step_size) where < 0
u = 0 where g·uₗₐₛₜ < 0, else s·sign(g)

Only the signs of gradients are used, which is meant for full batches. uₗₐₛₜ, which has the last gradient's
sign, is called `prev_updates` in the state.

References: Riedmiller, Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
Algorithm", 1993; Igel, Hüsken, "Improving the Rprop Learning Algorithm", 2000 (the variant
without weight-backtracking, iRprop⁻).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_core import PyTree, Scalar, ScalarOrSchedule, build, chain, scale


def _first_size(learning_rate: Any, **_: Any) -> Scalar:
    return learning_rate


class ScaleByRpropState(NamedTuple):
    """State of `scale_by_rprop`.

    Attributes:
      step_sizes: s, a tree of the parameters' structure and shapes.
      prev_updates: the last update, likewise; 0 where the sign changed.
    """

    step_sizes: Annotated[PyTree, build.slot(nonnegative=True, fill=_first_size, exact=True)]
    prev_updates: Annotated[PyTree, build.slot(exact=True)]


@build.rule(ScaleByRpropState)
def scale_by_rprop(
    g: Array,
    s: ScaleByRpropState,
    /,
    learning_rate: Annotated[Any, build.Number(above=0, schedule=False)],
    eta_minus: Annotated[Any, build.Number(above=0, below=1)] = 0.5,
    eta_plus: Annotated[Any, build.Number(above=1)] = 1.2,
    min_step_size: build.Nonnegative = 1e-6,
    max_step_size: Annotated[Any, build.Number(low=0, finite=False)] = 50.0,
) -> tuple[Array, ScaleByRpropState]:
    """Replaces each gradient by a step of the same sign and of an adaptive size.

    Args:
      learning_rate: the initial step size, a scalar greater than 0.
      eta_minus, eta_plus, min_step_size, max_step_size: as for `rprop`.

    Returns:
      A transformation with a `ScaleByRpropState`.

    Raises:
      ValueError: if a number is out of its range.
      TypeError: for complex gradients.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_rprop
      >>> tx = scale_by_rprop(0.5)
      >>> state = tx.init(jnp.zeros(2))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([3.0, -0.1]), state)
      >>> updates
      Array([ 0.6, -0.6], dtype=float32)
    """
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_rprop: complex gradients have no sign; wrap it in split_real_and_imaginary"
        )
    # A product of signs, since one of small numbers would underflow.
    agreement = jnp.sign(g) * jnp.sign(s.prev_updates)
    longer = jnp.minimum(eta_plus * s.step_sizes, max_step_size)
    shorter = jnp.maximum(eta_minus * s.step_sizes, min_step_size)
    sizes = jnp.where(agreement > 0, longer, jnp.where(agreement < 0, shorter, s.step_sizes))
    u = jnp.where(agreement < 0, 0, sizes * jnp.sign(g))
    return u, s._replace(step_sizes=sizes, prev_updates=u)


@build.recorded
def rprop(
    learning_rate: ScalarOrSchedule,
    eta_minus: ScalarOrSchedule = 0.5,
    eta_plus: ScalarOrSchedule = 1.2,
    min_step_size: ScalarOrSchedule = 1e-6,
    max_step_size: ScalarOrSchedule = 50.0,
) -> build.Transformation:
    """Rprop (Riedmiller and Braun, 1993; the variant iRprop⁻).

    Args:
      learning_rate: the initial step size, a scalar greater than 0, or a schedule, of which only the first
        value is used.
      eta_minus: factor of a step size where the sign has changed, in (0, 1), or a schedule.
      eta_plus: factor of a step size where it has not, greater than 1, or a schedule.
      min_step_size: the smallest step size, a scalar at least 0, or a schedule.
      max_step_size: the largest step size, likewise.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import rprop
      >>> tx = rprop(1e-2)
    """
    first = learning_rate
    if callable(learning_rate):
        first = build.evaluate(learning_rate, build.zero_count())
    return chain(
        scale_by_rprop(first, eta_minus, eta_plus, min_step_size, max_step_size),
        scale(-1.0),
    )
