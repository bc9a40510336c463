"""Optimistic gradients: the last change of the gradient is expected to repeat.

u = (alpha + beta)·g − beta·gₗₐₛₜ        (gₗₐₛₜ = g at the first step)

In two-player games this converges where plain gradient descent cycles.

References: Mokhtari, Ozdaglar, Pattathil, "A Unified Analysis of Extra-gradient and Optimistic
Gradient Methods for Saddle Point Problems", 2020, section 3.2 (the generalized method);
Daskalakis, Ilyas, Syrgkanis, Zeng, "Training GANs with Optimism", 2018, algorithm 1 (with Adam).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import scale_by_adam
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate, tree


class ScaleByOptimisticGradientState(NamedTuple):
    """State of `scale_by_optimistic_gradient`.

    Attributes:
      is_initial_step: boolean scalar, True before the first update.
      previous_gradient: the last gradient, a tree of the parameters' structure and shapes.
    """

    is_initial_step: Array
    previous_gradient: build.Moment


def _leaf(g: Array, last: Array, *, alpha: Array, beta: Array, first: Array) -> tuple[Array, Array]:
    return alpha * g + jnp.where(first, 0, beta * (g - last)), g


@build.recorded
@build.schedulable("alpha", "beta")
def scale_by_optimistic_gradient(
    alpha: ScalarOrSchedule = 1.0, beta: ScalarOrSchedule = 1.0
) -> build.Transformation:
    """Adds to the gradients their last change.

    Args:
      alpha, beta: as for `optimistic_gradient_descent`.

    Returns:
      A transformation with a `ScaleByOptimisticGradientState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_optimistic_gradient
      >>> tx = scale_by_optimistic_gradient()
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (3.0, 5.0):
      ...     updates, state = tx.update(jnp.array([g]), state)
      >>> updates
      Array([7.], dtype=float32)
    """
    build.check_number("scale_by_optimistic_gradient", alpha=alpha, beta=beta)

    def init(params: Any) -> ScaleByOptimisticGradientState:
        return ScaleByOptimisticGradientState(jnp.asarray(True), tree.slots_like(params))

    def step(
        _flow: build.Flow, state: ScaleByOptimisticGradientState, *_: Any, **__: Any
    ) -> build.LeafStep:
        first = state.is_initial_step
        return build.LeafStep(
            _leaf,
            slots=(state.previous_gradient,),
            close=lambda last: ScaleByOptimisticGradientState(jnp.zeros_like(first), last),
            operands={"alpha": alpha, "beta": beta, "first": first},
        )

    return build.leafwise(step, init)


@build.recorded
def optimistic_gradient_descent(
    learning_rate: ScalarOrSchedule, alpha: ScalarOrSchedule = 1.0, beta: ScalarOrSchedule = 1.0
) -> build.Transformation:
    """Optimistic gradient descent (Mokhtari, Ozdaglar, Pattathil, 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      alpha: factor of the gradient, a scalar, or a schedule.
      beta: factor of the gradient's change, a scalar, or a schedule.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import optimistic_gradient_descent
      >>> tx = optimistic_gradient_descent(0.1)
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


@build.recorded
def optimistic_adam(
    learning_rate: ScalarOrSchedule,
    optimism: ScalarOrSchedule | None = None,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    *,
    nesterov: bool = True,
) -> build.Transformation:
    """Adam with optimism (Daskalakis et al., 2018): p ← p − lr·u − optimism·(u − uₗₐₛₜ).

    Args:
      learning_rate: a scalar, or a schedule.
      optimism: factor of the change of Adam's update; the learning rate by default.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import optimistic_adam
      >>> tx = optimistic_adam(1e-3, optimism=1e-3)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(
            learning_rate, learning_rate if optimism is None else optimism
        ),
        scale_by_learning_rate(1.0),
    )


@build.recorded
def optimistic_adam_v2(
    learning_rate: ScalarOrSchedule,
    *,
    alpha: ScalarOrSchedule = 1.0,
    beta: ScalarOrSchedule = 1.0,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    nesterov: bool = True,
) -> build.Transformation:
    """Adam with optimism relative to the learning rate: p ← p − lr·(alpha·u + beta·(u − uₗₐₛₜ)).

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov: as for `optimistic_adam`.
      alpha: factor of Adam's update, a scalar, or a schedule.
      beta: factor of the update's change, a scalar, or a schedule.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import optimistic_adam_v2
      >>> tx = optimistic_adam_v2(1e-3, beta=0.5)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
