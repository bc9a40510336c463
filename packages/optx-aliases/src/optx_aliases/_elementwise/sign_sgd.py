"""The sign of the gradient, or of its mean, as the update.

signSGD: u = sign(g)
Signum:  m ← beta·m + (1 − beta)·g,  u = sign(m)

Reference: Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: Compressed Optimisation for
Non-Convex Problems", 2018, algorithms 1 and 2.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_core import ScalarOrSchedule, build, chain, ema, scale_by_learning_rate


@build.rule()
def scale_by_sign(g: Array, /) -> Array:
    """Takes the sign of every entry.

    Returns:
      A transformation with an `EmptyState`. The sign of 0 is 0, that of a complex number has
      absolute value 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_sign
      >>> tx = scale_by_sign()
      >>> tx.update(jnp.array([4.0, 0.0, -0.1]), tx.init(None))[0]
      Array([ 1.,  0., -1.], dtype=float32)
    """
    return jnp.sign(g)


@build.recorded
def sign_sgd(learning_rate: ScalarOrSchedule) -> build.Transformation:
    """SignSGD (Bernstein et al., 2018): every entry moves by the learning rate.

    Args:
      learning_rate: a scalar, or a schedule.

    Returns:
      A transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import sign_sgd
      >>> tx = sign_sgd(0.5)
      >>> tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))[0]
      Array([-0.5,  0.5], dtype=float32)
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@build.recorded
def signum(
    learning_rate: ScalarOrSchedule,
    beta: ScalarOrSchedule = 0.9,
    accumulator_dtype: build.DType = None,
) -> build.Transformation:
    """Signum (Bernstein et al., 2018): the sign of the mean gradient.

    Args:
      learning_rate: a scalar, or a schedule.
      beta: decay rate of the mean, in [0, 1), or a schedule.
      accumulator_dtype: dtype of the mean; by default the parameters', at least float32.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import signum
      >>> tx = signum(1e-3, beta=0.95)
    """
    # The bias correction is a positive factor, which does not change the sign.
    return chain(
        ema(beta, debias=False, accumulator_dtype=accumulator_dtype),
        scale_by_sign(),
        scale_by_learning_rate(learning_rate),
    )
