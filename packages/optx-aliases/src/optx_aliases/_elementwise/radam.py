"""RAdam: Adam that trusts its mean square only once enough gradients have been seen.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·|g|²
ρ∞ = 2 / (1 − b2) − 1,   ρ = ρ∞ − 2·t·b2ᵗ / (1 − b2ᵗ)
u = r·m̂ / (√(v̂ + eps_root) + eps) where ρ ≥ threshold, else m̂
r = √((ρ − 4)·(ρ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρ))

Reference: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020, algorithm 2
(there the threshold is 4). With Nesterov's momentum, m̂ as in NAdam.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_aliases._transforms.moments import corrected_mean
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
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


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    eps_root: Scalar,
    threshold: Scalar,
    count: jax.Array,
    nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    nu = b2.value * nu + b2.complement * tree.abs_squared(g)
    mu_hat = corrected_mean(mu, g, b1, count, nesterov)
    correction = bias_correction(b2, count)
    steps = jnp.asarray(count).astype(correction.dtype)
    longest = 2 / b2.complement - 1
    length = longest - 2 * steps * (1 - correction) / correction
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    enough = (length >= threshold) & (ratio > 0)
    r = jnp.sqrt(jnp.where(enough, ratio, 1))
    size = jnp.sqrt(nu / correction + eps_root) + eps
    return jnp.where(enough, r * mu_hat / size, mu_hat), mu, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root", "threshold")
def scale_by_radam(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    threshold: ScalarOrSchedule = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Rescales gradients by rectified Adam.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root; needed (1e-8, say) to differentiate through the update.
      threshold: the effective number of gradients ρ from which the mean square is used.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation with a `ScaleByAdamState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_radam
      >>> tx = scale_by_radam()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]  # at first the mean itself
      [4.0, -0.5]
    """
    check_number("scale_by_radam", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_radam", low=0, eps=eps, eps_root=eps_root)
    check_number("scale_by_radam", low=4, threshold=threshold)

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(), tree.slots_like(params), tree.slots_like(params, real=True)
        )

    def step(flow: Flow, state: ScaleByAdamState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByAdamState(count, mu, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "threshold": threshold,
                "count": count,
                "nesterov": nesterov,
            },
        )

    return leafwise(step, init)


@recorded
def radam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    threshold: ScalarOrSchedule = 5.0,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Rectified Adam (Liu et al., 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      threshold: the effective number of gradients from which the mean square is used.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import radam
      >>> tx = radam(1e-3)
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
