"""The update of each array made as long as a part of its parameter.

u = g · trust_coefficient·‖p‖ / (‖g‖ + eps), where neither norm is 0; else u = g

Norms are those of whole arrays, and at least `min_norm`. Beyond 1e19 a norm counts as infinite, and
the array does not move.

Reference: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, equation 6.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    safe_norm,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
)


def _leaf(
    g: jax.Array, p: jax.Array, *, min_norm: Scalar, trust_coefficient: Scalar, eps: Scalar
) -> jax.Array:
    p_norm, g_norm = safe_norm(p, min_norm), safe_norm(g, min_norm)
    plain = (p_norm == 0) | (g_norm == 0)
    ratio = trust_coefficient * p_norm / jnp.where(plain, 1, g_norm + eps)
    return g * jnp.where(plain, 1, ratio)


@recorded
@schedulable("min_norm", "trust_coefficient", "eps")
def scale_by_trust_ratio(
    min_norm: ScalarOrSchedule = 0.0,
    trust_coefficient: ScalarOrSchedule = 1.0,
    eps: ScalarOrSchedule = 0.0,
) -> GradientTransformationExtraArgs:
    """Scales the update of each array to the norm of its parameter.

    Args:
      min_norm: the least norm that parameters and updates count for.
      trust_coefficient: the part of the parameter's norm that the update is given.
      eps: added to the update's norm.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_trust_ratio
      >>> tx = scale_by_trust_ratio()
      >>> tx.update(jnp.array([3.0, 4.0]), tx.init(None), jnp.array([0.0, 10.0]))[0]
      Array([6., 8.], dtype=float32)
    """
    check_number("scale_by_trust_ratio", low=0, min_norm=min_norm, eps=eps)
    check_number("scale_by_trust_ratio", low=0, trust_coefficient=trust_coefficient)

    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        return LeafStep(
            _leaf,
            reads=(need_params(flow.trail, params),),
            close=lambda: state,
            operands={"min_norm": min_norm, "trust_coefficient": trust_coefficient, "eps": eps},
        )

    return leafwise(step)
