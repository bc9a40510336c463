"""Stochastic gradient descent, with or without momentum.

t ← g + momentum·t,   p ← p − lr·t        (heavy ball; Nesterov's: p ← p − lr·(g + momentum·t))

References: Robbins, Monro, "A Stochastic Approximation Method", 1951; Sutskever, Martens, Dahl,
Hinton, "On the importance of initialization and momentum in deep learning", 2013.
"""

from __future__ import annotations

from optx_core import ScalarOrSchedule, build, chain, identity, scale_by_learning_rate, trace


@build.recorded
def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule | None = None,
    nesterov: bool = False,
    accumulator_dtype: build.DType = None,
) -> build.Transformation:
    """Stochastic gradient descent.

    Args:
      learning_rate: a scalar, or a schedule.
      momentum: decay rate of the sum of past gradients, in [0, 1), or a schedule; None for no momentum,
        and no state for it.
      nesterov: whether to use Nesterov's momentum.
      accumulator_dtype: dtype of the sum; by default the parameters', at least float32.

    Returns:
      A transformation; its state is that of `chain(trace(...), scale_by_learning_rate(...))`.

    Raises:
      ValueError: if Nesterov's momentum is requested without a momentum, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import sgd
      >>> tx = sgd(0.1)
      >>> tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0]
      Array([-0.2], dtype=float32)
    """
    if nesterov and momentum is None:
        raise ValueError("sgd: nesterov=True needs a momentum, such as momentum=0.9")
    first = identity() if momentum is None else trace(momentum, nesterov, accumulator_dtype)
    return chain(first, scale_by_learning_rate(learning_rate))
