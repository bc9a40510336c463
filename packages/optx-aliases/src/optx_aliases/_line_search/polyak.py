"""Polyak's step size, from the distance of the loss to its least value.

u = −scaling · min((f − f_min) / (‖g‖² + eps), max_learning_rate) · g         ("sps+": max(f − f_min, 0))

‖g‖ is the norm of the whole tree.

References: Polyak, "Introduction to Optimization", 1987, section 5.3; Loizou et al., "Stochastic Polyak
Step-size for SGD", 2021 (sps); Berrada et al., "Training Neural Networks for and by Interpolation", 2020;
Garrigos et al., "Function Value Learning", 2023 (sps+).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jax.numpy as jnp

from optx_aliases._line_search.line import scalar
from optx_aliases._transforms.scalars import scaled_by
from optx_core import OptState, ScalarOrSchedule, build, chain, global_norm, scale_by_learning_rate


@build.factory
def scale_by_polyak(
    f_min: build.Real = 0.0,
    max_learning_rate: Annotated[Any, build.Number(low=0, finite=False)] = 1.0,
    eps: build.Nonnegative = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
) -> build.Transformation:
    """Scales the gradients by Polyak's step size.

    `update` takes `value`, the loss at the parameters. Zero gradients stay zero.

    Args:
      f_min, max_learning_rate, eps, variant: as for `polyak_sgd`.

    Returns:
      A transformation with an `EmptyState`.

    Raises:
      ValueError: if an argument is out of its range, and from `update` if `value` is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_polyak
      >>> tx = scale_by_polyak()
      >>> tx.update(jnp.array([2.0, 4.0]), tx.init(None), value=5.0)[0]
      Array([0.5, 1. ], dtype=float32)
    """
    where = "scale_by_polyak"

    def step(
        flow: build.Flow, state: OptState, *_params: Any, value: Any = None, **_: Any
    ) -> build.LeafStep:
        if value is None:
            raise ValueError(
                f"{where} needs the loss: call update(grads, state, params, value=loss)"
            )
        norm = global_norm(flow.updates)
        real = norm.dtype
        gap = scalar(where, value, real) - jnp.asarray(f_min).astype(real)
        if variant == "sps+":
            gap = jnp.maximum(gap, 0)
        # (f − f_min) / (‖g‖² + eps), without squaring a norm that may be 1e30 or 1e-30
        some = jnp.where(norm > 0, norm, 1)
        ratio = gap / some / (some + jnp.asarray(eps).astype(real) / some)
        factor = jnp.minimum(ratio, jnp.asarray(max_learning_rate).astype(real))
        factor = jnp.where(norm > 0, factor, 0)
        return scaled_by(factor, lambda: state)

    return build.leafwise(step)


@build.recorded
def polyak_sgd(
    max_learning_rate: ScalarOrSchedule = 1.0,
    scaling: ScalarOrSchedule = 1.0,
    f_min: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
) -> build.Transformation:
    """Stochastic gradient descent with Polyak's step size (Loizou et al., 2021).

    `update` takes `value`, the loss at the parameters. optax scales the gradients before it takes their
    norm, so that `scaling=2` halves its step; here it doubles the step, as in the formula.

    Args:
      max_learning_rate: the largest step size before scaling, at least 0, or a schedule.
      scaling: a factor on the step size, a scalar or a schedule.
      f_min: a lower bound of the loss, or a schedule; 0 for models that can fit every example.
      eps: added to the squared norm, at least 0, or a schedule.
      variant: "sps", or "sps+", which takes a loss below `f_min` for `f_min`.

    Returns:
      A transformation; its state is that of `chain(scale_by_polyak(...), scale_by_learning_rate(...))`.

    Raises:
      ValueError: if an argument is out of its range, and from `update` if `value` is missing.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import polyak_sgd
      >>> from optx_core import apply_updates
      >>> def loss(p):
      ...     return jnp.sum(p**2)
      >>> tx, p = polyak_sgd(), jnp.array([1.0, 2.0])
      >>> value, grads = jax.value_and_grad(loss)(p)
      >>> updates, _ = tx.update(grads, tx.init(p), p, value=value)
      >>> apply_updates(p, updates)
      Array([0.5, 1. ], dtype=float32)
    """
    return chain(
        scale_by_polyak(f_min, max_learning_rate, eps, variant), scale_by_learning_rate(scaling)
    )
