"""Adam, and Adam with decoupled weight decay.

p ← p − lr·(u + weight_decay·p),   u the step of `scale_by_adam`

References: Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Loshchilov,
Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2 (AdamW).
"""

from __future__ import annotations

from optx_aliases._transforms.adam import scale_by_adam
from optx_core import ScalarOrSchedule, add_decayed_weights, build, chain, scale_by_learning_rate


@build.recorded
def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = False,
) -> build.Transformation:
    """Adam (Kingma and Ba, 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root; needed (1e-8, say) to differentiate through the update.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.
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


@build.recorded
def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: build.Mask = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = False,
) -> build.Transformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    The decay is multiplied by the learning rate, as in torch: p ← p − lr·(u + weight_decay·p).

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov: as for `adam`.
      weight_decay: λ, a scalar at least 0, or a schedule; or `optx_core.cautious_decay(λ)` and other kinds.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

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
