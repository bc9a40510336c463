"""Adam: moments of the gradient, its mean and its square, decide the step of each entry.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·g²
u = m̂ / (√(v̂ + eps_root) + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

With Nesterov's momentum, m̂ = b1·m / (1 − b1ᵗ⁺¹) + (1 − b1)·g / (1 − b1ᵗ).

References: Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Dozat,
"Incorporating Nesterov Momentum into Adam", 2016; Loshchilov, Hutter, "Decoupled Weight Decay
Regularization", 2019, algorithm 2 (AdamW).
"""

from __future__ import annotations

from collections.abc import Callable
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
    add_decayed_weights,
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


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
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
    nu = b2.value * nu + b2.complement * tree.abs_squared(g)
    mu_hat = corrected_mean(mu, g, b1, count, nesterov)
    nu_hat = nu / bias_correction(b2, count)
    return mu_hat / (jnp.sqrt(nu_hat + eps_root) + eps), mu, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_adam(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by the root of the mean of their squares.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root; needed (1e-8, say) to differentiate through the update.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation with a `ScaleByAdamState`. A zero gradient from the first step on gives zero
      updates.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adam
      >>> tx = scale_by_adam()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    check_number("scale_by_adam", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_adam", low=0, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, nu_dtype, real=True),
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
                "count": count,
                "nesterov": nesterov,
            },
        )

    return leafwise(step, init)


@recorded
def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Adam (Kingma and Ba, 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum (NAdam).

    Returns:
      A transformation; its state is that of `chain(scale_by_adam(...), scale_by_learning_rate(...))`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import adam
      >>> from optx_core import apply_updates
      >>> tx, params = adam(0.1), jnp.array([1.0])
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     grads = jax.grad(lambda p: jnp.sum(p**2))(params)
      ...     updates, state = tx.update(grads, state, params)
      ...     params = apply_updates(params, updates)
      >>> bool(abs(params[0]) < 0.01)
      True
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@recorded
def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    nu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformationExtraArgs:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    The decay is multiplied by the learning rate, as in torch: p ← p − lr·(u + weight_decay·p).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum (NAdamW).

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import adamw
      >>> adamw(1e-3) == adamw(learning_rate=1e-3)
      True
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
