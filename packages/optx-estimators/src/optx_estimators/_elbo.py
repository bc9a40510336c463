"""The evidence lower bound.

ELBO(θ) = E log p(x, z) − log q(z; θ),  z ~ q(·; θ)

The score ∇log q has expectation zero, so its direct part in the integrand may be omitted. Sticking the
landing (pathwise) does so; score-like methods do so at every order by adding 1 − q_held(z)/q(z), whose
expectation is zero for all θ.

References: Kingma, Welling, "Auto-Encoding Variational Bayes", 2014; Ranganath, Gerrish, Blei, "Black
Box Variational Inference", 2014; Roeder, Wu, Duvenaud, "Sticking the Landing", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import PyTree
from optx_estimators._controlled import Controlled
from optx_estimators._enumerate_support import EnumerateSupport
from optx_estimators._estimator import Estimator
from optx_estimators._gumbel_softmax import GumbelSoftmax
from optx_estimators._magic_box import magic_box
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid
from optx_estimators._pathwise import Pathwise, pathwise
from optx_estimators._problem import Problem, fixed


def elbo_integrand(
    log_joint: Callable[..., Any],
    guide_fn: Callable[[Any], Any],
    *,
    method: Method,
    with_params: bool = False,
) -> Callable[[Any, PyTree], jax.Array]:
    """The integrand of the evidence lower bound, for `value_and_grad` and `estimator`.

    Args:
      log_joint: a function from a latent sample z to log p(x, z), called `log_joint(z, params)` if
        `with_params`.
      guide_fn: a function from the parameters to q, a distribution of one event.
      method: the method that will estimate it: some omit a part whose expectation is zero.
      with_params: whether `log_joint` takes the parameters as its second argument.

    Returns:
      `f(z, params)`; pass it on with `with_params=True`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, elbo_integrand, pathwise, value_and_grad
      >>> def log_joint(z):
      ...     return Normal().log_prob(z)
      >>> f = elbo_integrand(log_joint, lambda p: Normal(p, 1.0), method=pathwise())
      >>> fn = value_and_grad(f, lambda p: Normal(p, 1.0), method=pathwise(), num_samples=4,
      ...                     with_params=True)
      >>> (value, grad), state = fn(jnp.zeros(()), jax.random.key(0))
      >>> value   # q is p: the bound is tight
      Array(0., dtype=float32)
    """
    problem = Problem(log_joint, guide_fn, with_params, "elbo")
    whole = isinstance(method, EnumerateSupport | GumbelSoftmax)
    while isinstance(method, Controlled):
        method = method.method
    path = isinstance(method, Pathwise)

    def integrand(z: Any, params: PyTree) -> jax.Array:
        joint = problem.value(z, params)
        if getattr(method, "stick_the_landing", False):
            log_q = problem.dist(fixed(params)).event_log_prob(z).astype(joint.dtype)
            return joint - log_q
        log_q = problem.dist(params).event_log_prob(z).astype(joint.dtype)
        if path or whole:
            return joint - log_q
        return joint - log_q - (magic_box(-log_q) - 1)

    return integrand


def elbo(
    log_joint: Callable[..., Any],
    guide_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_samples: int,
    *,
    method: Method = pathwise(),  # noqa: B008 (immutable)
    noise: Noise = iid(),  # noqa: B008
    with_params: bool = False,
    state: Any = None,
    context: Any = None,
) -> jax.Array:
    """The evidence lower bound, differentiable by any method; maximize it.

    Args:
      log_joint: a function from a latent sample z to log p(x, z), a scalar; called
        `log_joint(z, params)` if `with_params`.
      guide_fn: a function from the parameters to q(z), a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_samples: N, the number of samples.
      method: the gradient estimator; `pathwise(stick_the_landing=True)` has no variance where the
        guide is exact.
      noise: the source of randomness.
      with_params: whether `log_joint` takes the parameters as its second argument.
      state: the state of a method that learns; by default, its initial state.
      context: the argument of a learned baseline.

    Returns:
      A scalar.

    Raises:
      EstimatorError: if the method does not hold for the guide or the noise.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, elbo, pathwise
      >>> def bound(mean):
      ...     return elbo(lambda z: Normal().log_prob(z), lambda m: Normal(m, 1.0), mean,
      ...                 jax.random.key(0), 8, method=pathwise(stick_the_landing=True))
      >>> jax.grad(bound)(2.0)   # exactly −2, from any samples
      Array(-2., dtype=float32, weak_type=True)
    """
    f = elbo_integrand(log_joint, guide_fn, method=method, with_params=with_params)
    e = Estimator(Problem(f, guide_fn, True, "elbo"), method, noise)
    return e.estimate(params, e.draw(params, key, num_samples), state, context=context)
