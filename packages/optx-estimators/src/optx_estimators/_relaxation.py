"""Continuous relaxations of discrete samples.

Bernoulli:   s = φ + log u − log(1 − u),     x = 1[s > 0],             σ(s/λ)
Categorical: s_k = φ_k − log(−log u_k),       x = one-hot argmax s,     softmax(s/λ)

and the noise given x, from v ~ U(0, 1):

Bernoulli:   u′ = (1 − θ) + θ·v  if x = 1,  (1 − θ)·v  if x = 0
Categorical: s̃_x = −log(−log v_x) (φ normalized),   s̃_k = −log(−log v_k/π_k − log v_x)

References: Maddison, Mnih, Teh, "The Concrete Distribution", 2017; Jang, Gu, Poole, "Categorical
Reparameterization with Gumbel-Softmax", 2017; Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein,
"REBAR", 2017, appendix B and C.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_estimators._discrete import Bernoulli, Categorical, OneHotCategorical
from optx_estimators._distribution import Distribution
from optx_estimators._errors import UnsupportedDistributionError
from optx_estimators._location_scale import gumbel_of_uniform, logistic_of_uniform
from optx_estimators._noise import Noise

Relaxable = Bernoulli | OneHotCategorical


def check_relaxable(where: str, dist: Distribution) -> Relaxable:
    """Refuses distributions other than Bernoulli and OneHotCategorical."""
    if isinstance(dist, Categorical):
        raise UnsupportedDistributionError(
            f"{where}: samples of Categorical are integers and cannot be relaxed; use "
            "OneHotCategorical and a function of one-hot rows"
        )
    if not isinstance(dist, Bernoulli | OneHotCategorical):
        raise UnsupportedDistributionError(
            f"{where} needs Bernoulli or OneHotCategorical, not {dist.family}"
        )
    return dist


def uniforms(dist: Distribution, key: jax.Array, n: int, noise: Noise, sets: int) -> jax.Array:
    """Uniform numbers of shape (n, sets, *logits' shape)."""
    shape = dist.event_shape
    u = noise.uniforms(key, n, sets * math.prod(shape), dist.dtype)
    return u.reshape(n, sets, *shape)


def scores(dist: Relaxable, u: jax.Array) -> jax.Array:
    """The scores s, of which the sample is the sign or the argmax."""
    if isinstance(dist, Bernoulli):
        return dist.logits + logistic_of_uniform(u)
    return dist.logits + gumbel_of_uniform(u)


def harden(dist: Relaxable, s: jax.Array) -> jax.Array:
    """The discrete sample from s, a constant."""
    s = lax.stop_gradient(s)
    if isinstance(dist, Bernoulli):
        return (s > 0).astype(s.dtype)
    return jax.nn.one_hot(jnp.argmax(s, axis=-1), s.shape[-1], dtype=s.dtype)


def soften(dist: Relaxable, s: jax.Array, temperature: Any) -> jax.Array:
    """The relaxed sample from s."""
    temperature = jnp.asarray(temperature, s.dtype)
    return (
        jax.nn.sigmoid(s / temperature)
        if isinstance(dist, Bernoulli)
        else jax.nn.softmax(s / temperature)
    )


def scores_given(dist: Relaxable, x: jax.Array, v: jax.Array) -> jax.Array:
    """The scores given that their sample is x; differentiable in φ."""
    if isinstance(dist, Bernoulli):
        theta = jax.nn.sigmoid(dist.logits)
        eps = jnp.finfo(v.dtype).eps
        u = jnp.where(x > 0.5, (1 - theta) + theta * v, (1 - theta) * v)
        u = jnp.clip(u, jnp.finfo(v.dtype).tiny, 1 - eps / 2)
        return dist.logits + logistic_of_uniform(u)
    log_v = jnp.log(v)
    top = jnp.sum(x * log_v, axis=-1, keepdims=True)
    # −log π_k − log(−log v_k) on one scale with the top's: log(−log v_k/π_k − log v_x)
    rest = -jnp.logaddexp(jnp.log(-log_v) - dist.logits, jnp.log(-top))
    return jnp.where(x > 0.5, -jnp.log(-top), rest)
