"""Differentiable expectations, and their gradients for an optimizer.

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
    """Estimates E f(x), x ~ dist_fn(params); its derivative is the gradient estimate of the method.

    If f depends on the parameters, through a closure or with `with_params`, that part of the derivative
    is included.

    Args:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      params: θ, a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, the number of samples.
      method: the gradient estimator.
      noise: the source of randomness.
      with_params: whether f takes the parameters as its second argument.
      state: the state of a method that learns (see `value_and_grad`); by default, its initial
        state.
      context: the argument of a learned baseline.

    Returns:
      A scalar.

    Raises:
      EstimatorError: if the method does not hold for the distribution, the noise, or the order of the
        derivative.

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
    """Per-sample gradients in independent rows, whose variance is that of the estimate.

    If samples depend on one another (antithetic pairs, groups of `leave_one_out(group)`), each row is one
    such unit, and there are fewer rows than samples.

    Args:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      params: θ, a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, the number of samples.
      method: the gradient estimator.
      noise: the source of randomness.
      with_params: whether f takes the parameters as its second argument.
      state: the state of a method that learns; by default, its initial state.
      context: the argument of a learned baseline.

    Returns:
      A tree like the parameters whose leaves have a leading axis of num_samples / unit rows.

    Raises:
      CoupledRowsError: if all samples depend on one another, so that no row is independent.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, per_sample_grads
      >>> rows = per_sample_grads(jnp.sum, lambda m: Normal(m, 1.0), jnp.zeros(3),
      ...                         jax.random.key(0), 5)
      >>> rows.shape
      (5, 3)
    """
    e = make("per_sample_grads", f, dist_fn, method, noise, with_params)
    _ = e.unit  # refuses coupled rows before drawing noise
    z = e.draw(params, key, num_samples)
    return e.gradients(params, z, state, context=context)


class ValueAndGrad(Recorded):
    """A function `fn(params, key, state) -> ((value, grads), state)`; see `value_and_grad`."""

    def __init__(self, e: Estimator, num_samples: int) -> None:
        e.method.check(e.noise, num_samples)
        self.estimator, self.num_samples = e, num_samples

    def init(self, params: PyTree) -> Any:
        """The initial state; () for methods without a state."""
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
    """Returns a function that estimates E f(x) and its gradient, for a training loop.

    Args:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event.
      method: the gradient estimator.
      num_samples: N, the number of samples.
      noise: the source of randomness.
      with_params: whether f takes the parameters as its second argument.

    Returns:
      `fn(params, key, state, *, context=None) -> ((value, grads), state)`. `fn.init(params)` returns the
      initial state, which `state=None` stands for. It can be printed, compared and hashed.

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
