"""Yogi: Adam whose mean square changes by at most the order of the squared gradient.

m ← b1·m + (1 − b1)·g
v ← v − (1 − b2)·sign(v − |g|²)·|g|²
u = m̂ / (√(v̂ + eps_root) + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

The paper corrects the bias of neither mean; here both are corrected, as in other implementations.

Reference: Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive Methods for Nonconvex Optimization", 2018,
algorithm 2.
"""

from __future__ import annotations

from typing import Annotated, Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_core import Scalar, ScalarOrSchedule, build, chain, scale_by_learning_rate


def _start(initial_accumulator_value: Scalar, **_: Any) -> Scalar:
    return initial_accumulator_value


@build.rule(
    ScaleByAdamState,
    fields={"mu": build.slot(fill=_start), "nu": build.slot(nonnegative=True, fill=_start)},
)
def scale_by_yogi(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-3,
    eps_root: build.Nonnegative = 0.0,
    initial_accumulator_value: Annotated[Any, build.Number(low=0, schedule=False)] = 1e-6,
) -> tuple[Array, ScaleByAdamState]:
    """Rescales gradients by Yogi.

    Args:
      b1, b2, eps: as for `yogi`.
      eps_root: added under the root.
      initial_accumulator_value: the initial value of `mu` and `nu`, a scalar at least 0.

    Returns:
      A transformation with a `ScaleByAdamState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_yogi
      >>> tx = scale_by_yogi(eps=0.0, initial_accumulator_value=0.0)
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    g = build.squarable(g)
    t, square = s.count, build.abs_squared(g)
    m = b1 * s.mu + (1 - b1) * g
    v = s.nu - (1 - b2) * jnp.sign(s.nu - square) * square
    u = m / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return u, s._replace(mu=m, nu=v)


@build.recorded
def yogi(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-3,
) -> build.Transformation:
    """Yogi (Zaheer et al., 2018).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: in [0, 1), or a schedule; 1 − b2 is the step of the mean square, relative to |g|².
      eps: added to the root, to avoid division by zero.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import yogi
      >>> tx = yogi(1e-2)
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))
