"""Expectations that differentiate, and their gradients ready for an optimizer.

L(θ) = E f(x),  x ~ dist_fn(θ)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import PyTree
from optx_core.build import Recorded, recorded
from optx_estimators._estimator import Estimator, make
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid
from optx_estimators._score import score_function


def expectation(
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    *,
    method: Method = score_function(),  # noqa: B008 (immutable)
    noise: Noise = iid(),  # noqa: B008
    with_params: bool = False,
    state: Any = None,
    context: Any = None,
) -> jax.Array:
    """An estimate of E f(x), x ~ dist_fn(params), that differentiates to the method's gradient.

    f may depend on the parameters, by closing over them or with `with_params`: that part of the
    derivative is taken too.

    Args:
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      params: θ, a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N.
      method: how to estimate the gradient.
      noise: where the randomness comes from.
      with_params: whether f takes the parameters too.
      state: the state of a method that learns (see `value_and_grad`); its first one by default.
      context: passed on to a learned baseline.

    Returns:
      A scalar.

    Raises:
      EstimatorError: one of its kinds, where the method does not hold for the distribution, the
        noise, or the order of the derivative.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, expectation, pathwise
      >>> def loss(mean, key):
      ...     return expectation(lambda x: x**2, lambda m: Normal(m, 1.0), mean, key, 10_000,
      ...                        method=pathwise())
      >>> grad = jax.grad(loss)(1.0, jax.random.key(0))
      >>> bool(abs(grad - 2.0) < 0.1)
      True
    """
    e = make("expectation", f, dist_fn, method, noise, with_params)
    z = e.draw(params, key, num_samples)
    return e.estimate(params, z, state, context=context)


def per_sample_grads(
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    *,
    method: Method = score_function(),  # noqa: B008 (immutable)
    noise: Noise = iid(),  # noqa: B008
    with_params: bool = False,
    state: Any = None,
    context: Any = None,
) -> PyTree:
    """Gradients by sample, whose rows are independent: their mean estimates, their variance tells.

    Where a method or a noise ties samples together (antithetic pairs, groups of
    `leave_one_out(group)`), each row is one such unit, and there are fewer rows than samples.

    Args:
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      params: θ, a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N.
      method: how to estimate the gradient.
      noise: where the randomness comes from.
      with_params: whether f takes the parameters too.
      state: the state of a method that learns; its first one by default.
      context: passed on to a learned baseline.

    Returns:
      A tree like the parameters whose leaves have a leading axis of num_samples / unit rows.

    Raises:
      CoupledRowsError: if all samples depend on one another, so that there are no such rows.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, per_sample_grads
      >>> rows = per_sample_grads(jnp.sum, lambda m: Normal(m, 1.0), jnp.zeros(3),
      ...                         jax.random.key(0), 5)
      >>> rows.shape
      (5, 3)
    """
    e = make("per_sample_grads", f, dist_fn, method, noise, with_params)
    _ = e.unit  # rows that are coupled are refused before anything is drawn
    z = e.draw(params, key, num_samples)
    return e.gradients(params, z, state, context=context)


class ValueAndGrad(Recorded):
    """What `value_and_grad` returns: `fn(params, key, state) -> ((value, grads), state)`."""

    def __init__(self, e: Estimator, num_samples: int) -> None:
        e.method.check(e.noise, num_samples)
        self.estimator, self.num_samples = e, num_samples

    def init(self, params: PyTree) -> Any:
        """The first state; () for methods that learn nothing."""
        return self.estimator.init(params)

    def __call__(
        self, params: PyTree, key: jax.Array, state: Any = None, *, context: Any = None
    ) -> tuple[tuple[jax.Array, PyTree], Any]:
        """The value, the gradient, and the next state."""
        z = self.estimator.draw(params, key, self.num_samples)
        return self.estimator.value_and_grad(params, z, state, context=context)


@recorded
def value_and_grad(
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    *,
    method: Method = score_function(),  # noqa: B008 (immutable)
    num_samples: int,
    noise: Noise = iid(),  # noqa: B008
    with_params: bool = False,
) -> ValueAndGrad:
    """A function that gives E f(x) and its gradient, for a training loop.

    Args:
      f: from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: from the parameters to a distribution of one event.
      method: how to estimate the gradient.
      num_samples: N.
      noise: where the randomness comes from.
      with_params: whether f takes the parameters too.

    Returns:
      `fn(params, key, state, *, context=None) -> ((value, grads), state)`, with `fn.init(params)`
      for the first state (which `state=None` means too). It can be printed, compared and hashed.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import apply_updates, scale
      >>> from optx_estimators import Bernoulli, ema_baseline, score_function, value_and_grad
      >>> fn = value_and_grad(lambda x: jnp.sum((x - 0.49) ** 2), Bernoulli,
      ...                     method=score_function(ema_baseline()), num_samples=64)
      >>> tx, params = scale(-1.0), jnp.zeros(3)
      >>> tx_state, state = tx.init(params), fn.init(params)
      >>> for key in jax.random.split(jax.random.key(0), 3):
      ...     (value, grads), state = fn(params, key, state)
      ...     updates, tx_state = tx.update(grads, tx_state, params)
      ...     params = apply_updates(params, updates)
    """
    return ValueAndGrad(make("value_and_grad", f, dist_fn, method, noise, with_params), num_samples)
