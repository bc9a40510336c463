"""The importance-weighted bound.

L = E log (1/K) Σ_k w_k,   w_k = p(x, z_k)/q(z_k; θ),  z_k ~ q;   w̃ = w/Σw

pathwise: ∇ through z and q
dregs:    Σ_k w̃_k²·∂log w_k/∂z·∂z/∂θ for the guide, Σ_k w̃_k·∇log p for the model
score:    L·Σ_k ∇log q(z_k) + Σ_k w̃_k·∇log w_k
vimco:    Σ_k (L − L_{−k})·∇log q(z_k) + Σ_k w̃_k·∇log w_k, with w_k replaced in L_{−k} by the geometric mean
          of the others

References: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", 2016; Tucker, Lawson,
Gu, Maddison, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives", 2019,
equation 8; Mnih, Rezende, "Variational inference for Monte Carlo objectives", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_core import PyTree
from optx_estimators._attach import attach
from optx_estimators._errors import EstimatorError
from optx_estimators._magic_box import magic_box
from optx_estimators._method import draw_base
from optx_estimators._noise import Noise, iid
from optx_estimators._pathwise import refuse_discrete
from optx_estimators._problem import Problem, fixed

Gradient = Literal["dregs", "pathwise", "score", "vimco"]


def iwae_from_noise(
    log_joint: Callable[..., Any],
    guide_fn: Callable[[Any], Any],
    params: PyTree,
    noise: Any,
    *,
    gradient: Gradient = "dregs",
    with_params: bool = False,
) -> jax.Array:
    """The importance-weighted bound from given noise.

    Args:
      log_joint: see `iwae`.
      guide_fn: see `iwae`.
      params: see `iwae`.
      noise: base noise of the guide, a tree whose leaves have a leading axis of K particles.
      gradient: see `iwae`.
      with_params: see `iwae`.

    Returns:
      A scalar.

    Raises:
      EstimatorError: if `gradient` does not hold for the guide, or is "vimco" with one particle.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import Normal, iwae_from_noise
      >>> noise = jnp.array([-1.0, 0.0, 1.0])
      >>> bound = iwae_from_noise(lambda z: Normal().log_prob(z), lambda m: Normal(m, 1.0), 0.0, noise)
      >>> abs(bound) < 1e-5
      Array(True, dtype=bool)
    """
    problem = Problem(log_joint, guide_fn, with_params, "iwae")
    rest = fixed(params)
    dist, at_rest = problem.dist(params), problem.at_rest(params)
    K = jax.tree_util.tree_leaves(noise)[0].shape[0]

    def log_weights(z: Any, q: Any, params: PyTree) -> jax.Array:
        joint = problem.values(z, params)
        return joint - jax.vmap(q.event_log_prob)(z).astype(joint.dtype)

    def bound(log_w: jax.Array) -> jax.Array:
        return special.logsumexp(log_w) - math.log(K)

    if gradient in ("pathwise", "dregs"):
        refuse_discrete("iwae", dist, problem, params)
        z = jax.vmap(dist.transform)(noise)
        if gradient == "pathwise":
            return bound(log_weights(z, dist, params))
        held = fixed(z)
        log_w, pull = jax.vjp(lambda z: log_weights(z, at_rest, rest), held)
        (slope,) = pull(jnp.square(jax.nn.softmax(log_w)))
        return attach('iwae(gradient="dregs")', bound(log_weights(held, at_rest, params)), z, slope)

    z = problem.samples(params, noise)
    log_q = problem.log_probs(params, noise)
    log_w = log_weights(z, dist, params)
    value = bound(log_w)
    if gradient == "score":
        return value * magic_box(jnp.sum(log_q).astype(value.dtype))
    if K < 2:
        raise EstimatorError('iwae(gradient="vimco") needs at least two particles')
    held_w = lax.stop_gradient(log_w)
    others = (jnp.sum(held_w) - held_w) / (K - 1)
    eye = jnp.eye(K, dtype=bool)
    replaced = jnp.where(eye, others[:, None], jnp.broadcast_to(held_w[None], (K, K)))
    signal = bound(held_w) - jax.vmap(bound)(replaced)
    return attach('iwae(gradient="vimco")', value, log_q.astype(value.dtype), signal)


def iwae(
    log_joint: Callable[..., Any],
    guide_fn: Callable[[Any], Any],
    params: PyTree,
    key: jax.Array,
    num_particles: int,
    *,
    gradient: Gradient = "dregs",
    num_samples: int = 1,
    noise: Noise = iid(),  # noqa: B008 (immutable)
    with_params: bool = False,
) -> jax.Array:
    """The importance-weighted bound of K particles; maximize it.

    Args:
      log_joint: a function from a latent sample z to log p(x, z), a scalar; called
        `log_joint(z, params)` if `with_params`.
      guide_fn: a function from the parameters to q(z), a distribution of one event.
      params: a tree of floating-point arrays.
      key: a PRNG key.
      num_particles: K.
      gradient: "dregs", whose signal-to-noise ratio grows as √K, or "pathwise", whose ratio falls with
        K, for reparameterized samples; "vimco" or "score" for any samples.
      num_samples: the number of bounds to average.
      noise: the source of randomness of the particles; "vimco" accepts iid() only.
      with_params: whether `log_joint` takes the parameters as its second argument.

    Returns:
      A scalar. "pathwise" and "score" have derivatives of every order; the others refuse second
      derivatives.

    Raises:
      EstimatorError: if `gradient` is not one of these, or does not hold for the guide or the noise.

    Example:
      >>> import jax
      >>> from optx_estimators import Normal, iwae
      >>> def bound(mean):
      ...     return iwae(lambda z: Normal().log_prob(z), lambda m: Normal(m, 1.0), mean,
      ...                 jax.random.key(0), 8)
      >>> abs(bound(0.0)) < 1e-5   # q is p: the bound is tight
      Array(True, dtype=bool)
    """
    if gradient not in ("dregs", "pathwise", "score", "vimco"):
        raise EstimatorError(
            f'iwae: gradient must be "dregs", "pathwise", "score" or "vimco", not {gradient!r}'
        )
    if gradient == "vimco" and noise.unit != 1:
        raise EstimatorError(
            'iwae(gradient="vimco") compares each particle with the others as if they were '
            f"independent; under {noise!r} they are not. Use noise=iid()"
        )
    if num_particles < 1 or num_samples < 1:
        raise EstimatorError("iwae: num_particles and num_samples must be at least 1")
    dist = Problem(log_joint, guide_fn, with_params, "iwae").at_rest(params)
    keys = jax.random.split(key, num_samples)
    rows = jax.vmap(lambda key: draw_base(dist, key, num_particles, noise))(keys)

    def one(row: Any) -> jax.Array:
        return iwae_from_noise(
            log_joint, guide_fn, params, row, gradient=gradient, with_params=with_params
        )

    return jnp.mean(jax.vmap(one)(rows))
