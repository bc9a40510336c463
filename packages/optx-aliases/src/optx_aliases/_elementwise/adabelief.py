"""AdaBelief: the step is short where the gradient is far from what its mean led one to expect.

m ← b1·m + (1 − b1)·g
s ← b2·s + (1 − b2)·|g − m|² + eps_root
u = m̂ / (√ŝ + eps),   m̂ = m / (1 − b1ᵗ),   ŝ = s / (1 − b2ᵗ)

s is called `nu` in the state.

Reference: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
Gradients", 2020, algorithm 2. With Nesterov's momentum, m̂ as in NAdam.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.moments import corrected_mean
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByBeliefState(NamedTuple):
    """State of `scale_by_belief`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: s, likewise; real where the parameters are complex.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    eps_root: Scalar,
    count: jax.Array,
    nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    # eps_root before the last sum: XLA:CPU would compute a sum with a number again for the update.
    nu = (b2.value * nu + eps_root) + b2.complement * tree.abs_squared(g - mu)
    mu_hat = corrected_mean(mu, g, b1, count, nesterov)
    return mu_hat / (jnp.sqrt(nu / bias_correction(b2, count)) + eps), mu, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_belief(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by the root of their mean square distance from it.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square distance, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added to `nu` at every step.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation with a `ScaleByBeliefState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_belief
      >>> tx = scale_by_belief(b1=0.5)
      >>> tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))[0]
      Array([ 2., -2.], dtype=float32)
    """
    check_number("scale_by_belief", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_belief", low=0, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleByBeliefState:
        return ScaleByBeliefState(
            zero_count(), mu=tree.slots_like(params), nu=tree.slots_like(params, real=True)
        )

    def step(flow: Flow, state: ScaleByBeliefState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByBeliefState(count, mu, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "count": count,
                "nesterov": nesterov,
            },
        )

    return leafwise(step, init)


@recorded
def adabelief(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """AdaBelief (Zhuang et al., 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square distance, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added to the mean square distance at every step.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import adabelief
      >>> tx = adabelief(1e-3)
    """
    return chain(
        scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
