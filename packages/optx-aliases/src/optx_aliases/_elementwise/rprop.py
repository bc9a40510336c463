"""Rprop: each entry has a step size of its own, which grows while the gradient keeps its sign.

s ← min(eta_plus·s, max_step_size) where g·uₗₐₛₜ > 0, max(eta_minus·s, min_step_size) where < 0
u = 0 where g·uₗₐₛₜ < 0, else s·sign(g)

Only signs of gradients count: it is for full batches. uₗₐₛₜ, of the last gradient's sign, is called
`prev_updates` in the state.

References: Riedmiller, Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
Algorithm", 1993; Igel, Hüsken, "Improving the Rprop Learning Algorithm", 2000 (the variant
without weight-backtracking, iRprop⁻).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.whole_tree import value_at
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    scale,
    tree,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByRpropState(NamedTuple):
    """State of `scale_by_rprop`.

    Attributes:
      step_sizes: s, a tree of the parameters' structure and shapes.
      prev_updates: the last update, likewise; 0 where the sign had changed.
    """

    step_sizes: PyTree
    prev_updates: PyTree


def _leaf(
    g: jax.Array,
    step_sizes: jax.Array,
    prev_updates: jax.Array,
    *,
    eta_minus: Scalar,
    eta_plus: Scalar,
    min_step_size: Scalar,
    max_step_size: Scalar,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    if jnp.iscomplexobj(g):
        raise TypeError("scale_by_rprop: complex gradients have no sign; split them into two reals")
    # Signs are multiplied, not numbers: a product of small ones would vanish.
    agreement = jnp.sign(g) * jnp.sign(prev_updates)
    longer = jnp.minimum(eta_plus * step_sizes, max_step_size)
    shorter = jnp.maximum(eta_minus * step_sizes, min_step_size)
    step_sizes = jnp.where(agreement > 0, longer, jnp.where(agreement < 0, shorter, step_sizes))
    update = jnp.where(agreement < 0, 0, step_sizes * jnp.sign(g))
    return update, step_sizes, update


@recorded
@schedulable("eta_minus", "eta_plus", "min_step_size", "max_step_size")
def scale_by_rprop(
    learning_rate: ScalarOrSchedule,
    eta_minus: ScalarOrSchedule = 0.5,
    eta_plus: ScalarOrSchedule = 1.2,
    min_step_size: ScalarOrSchedule = 1e-6,
    max_step_size: ScalarOrSchedule = 50.0,
) -> GradientTransformationExtraArgs:
    """Replaces each gradient by a step of its sign, and of a size that adapts.

    Args:
      learning_rate: the first step size, a scalar above 0, or a schedule, whose first value counts:
        the sizes then adapt by themselves.
      eta_minus: factor of a step size where the sign has changed, in (0, 1).
      eta_plus: factor of a step size where it has not, above 1.
      min_step_size: the least step size.
      max_step_size: the largest step size.

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
    where = "scale_by_rprop"
    check_number(where, above=0, learning_rate=learning_rate)
    check_number(where, above=0, below=1, eta_minus=eta_minus)
    check_number(where, above=1, eta_plus=eta_plus)
    check_number(where, low=0, min_step_size=min_step_size, max_step_size=max_step_size)

    def init(params: Params) -> ScaleByRpropState:
        first = value_at(learning_rate, zero_count())
        return ScaleByRpropState(
            tree.slots_like(params, real=True, fill_value=first),
            tree.slots_like(params),
        )

    def step(flow: Flow, state: ScaleByRpropState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            slots=(state.step_sizes, state.prev_updates),
            close=ScaleByRpropState,
            operands={
                "eta_minus": eta_minus,
                "eta_plus": eta_plus,
                "min_step_size": min_step_size,
                "max_step_size": max_step_size,
            },
        )

    return leafwise(step, init)


@recorded
def rprop(
    learning_rate: ScalarOrSchedule,
    eta_minus: ScalarOrSchedule = 0.5,
    eta_plus: ScalarOrSchedule = 1.2,
    min_step_size: ScalarOrSchedule = 1e-6,
    max_step_size: ScalarOrSchedule = 50.0,
) -> GradientTransformationExtraArgs:
    """Rprop (Riedmiller and Braun, 1993; the variant iRprop⁻).

    Args:
      learning_rate: the first step size, a scalar above 0, or a schedule, whose first value counts:
        the sizes then adapt by themselves.
      eta_minus: factor of a step size where the sign has changed, in (0, 1).
      eta_plus: factor of a step size where it has not, above 1.
      min_step_size: the least step size.
      max_step_size: the largest step size.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import rprop
      >>> tx = rprop(1e-2)
    """
    return chain(
        scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size),
        scale(-1.0),
    )
