"""Likelihoods of a model's outputs: the loss, a sampler of labels, and a root of the curvature.

For outputs f that are the natural parameters of an exponential family, the Hessian of −log p(y|f) with
respect to f does not depend on y and equals the Fisher information. Roots R with
R Rᵀ = ∂²(−log p)/∂f² have a closed form:

    categorical   p = softmax(f)    R u = √p·u − p Σ √p·u
    bernoulli     p = sigmoid(f)    R u = √(p(1 − p))·u
    gaussian      mean f            R u = u / scale
    poisson       rate exp(f)       R u = √rate·u

Unlike an eigendecomposition, they are differentiable where eigenvalues coincide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from optx_core.build import check_number
from optx_second_order._leaves import as_wide


@dataclass(frozen=True)
class Likelihood:
    """A distribution of labels y given a model's outputs f for one example.

    A likelihood can be called like a loss: `likelihood(f, y)` is `nll(f, y)`.

    Attributes:
      name: the name in error messages.
      nll: (f, y) ↦ −log p(y|f), a scalar.
      sample: (key, f) ↦ labels sampled from p(y|f).
      root: (f, u) ↦ R u, linear in u and of f's shape, with R Rᵀ = ∂²(−log p)/∂f²; None if the
        Hessian depends on y or no closed form is known.
    """

    name: str
    nll: Callable[[Any, Any], jax.Array]
    sample: Callable[[jax.Array, Any], Any]
    root: Callable[[Any, Any], Any] | None = None

    def __call__(self, outputs: Any, y: Any) -> jax.Array:
        """Returns −log p(y|outputs)."""
        return self.nll(outputs, y)


def _categorical_nll(f: jax.Array, y: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(as_wide(f), axis=-1)
    index = jnp.asarray(y)[..., None]
    return -jnp.sum(jnp.take_along_axis(log_p, index, axis=-1, mode="fill"))


def _categorical_sample(key: jax.Array, f: jax.Array) -> jax.Array:
    return jax.random.categorical(key, as_wide(f), axis=-1)


def _categorical_root(f: jax.Array, u: jax.Array) -> jax.Array:
    f, u = as_wide(f), as_wide(u)
    p = jax.nn.softmax(f, axis=-1)
    root = jnp.exp(0.5 * jax.nn.log_softmax(f, axis=-1))
    return root * u - p * jnp.sum(root * u, axis=-1, keepdims=True)


def categorical() -> Likelihood:
    """A categorical distribution over classes; outputs are logits.

    Returns:
      A `Likelihood` for outputs of shape (..., classes) and integer labels of shape (...). Labels along
      leading axes, such as the positions of a sequence, are independent, and their losses are summed.
      An out-of-range label gives NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import categorical
      >>> categorical().nll(jnp.zeros(4), jnp.array(1))
      Array(1.3862944, dtype=float32)
    """
    return _CATEGORICAL


def _bernoulli_nll(f: jax.Array, y: jax.Array) -> jax.Array:
    f = as_wide(f)
    y = jnp.asarray(y).astype(f.dtype)
    return jnp.sum(jax.nn.softplus(f) - y * f)


def _bernoulli_sample(key: jax.Array, f: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(as_wide(f))).astype(f.dtype)


def _bernoulli_root(f: jax.Array, u: jax.Array) -> jax.Array:
    f = as_wide(f)
    return jnp.exp(0.5 * (jax.nn.log_sigmoid(f) + jax.nn.log_sigmoid(-f))) * as_wide(u)


def bernoulli() -> Likelihood:
    """Independent binary labels; outputs are logits.

    Returns:
      A `Likelihood` for outputs of any shape and labels 0 or 1 of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import bernoulli
      >>> bernoulli().root(jnp.zeros(2), jnp.ones(2))
      Array([0.5, 0.5], dtype=float32)
    """
    return _BERNOULLI


@dataclass(frozen=True)
class _Gaussian:
    scale: float

    def nll(self, f: jax.Array, y: jax.Array) -> jax.Array:
        f = as_wide(f)
        z = (f - jnp.asarray(y).astype(f.dtype)) / self.scale
        return 0.5 * jnp.sum(jnp.square(z)) + f.size * math.log(self.scale * math.sqrt(2 * math.pi))

    def sample(self, key: jax.Array, f: jax.Array) -> jax.Array:
        f = as_wide(f)
        return f + self.scale * jax.random.normal(key, f.shape, f.dtype)

    def root(self, f: jax.Array, u: jax.Array) -> jax.Array:
        del f
        return as_wide(u) / self.scale


def gaussian(scale: float = 1.0) -> Likelihood:
    """Labels with independent Gaussian noise; outputs are the means.

    Args:
      scale: the standard deviation of the noise, in units of the labels; greater than 0. With 1 the
        loss is half the sum of squared errors, up to a constant.

    Returns:
      A `Likelihood` for outputs of any shape and labels of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import gaussian
      >>> gaussian(2.0).root(jnp.zeros(1), jnp.ones(1))
      Array([0.5], dtype=float32)
    """
    check_number("gaussian", above=0, scale=scale)
    own = _Gaussian(scale)
    return Likelihood("gaussian", own.nll, own.sample, own.root)


def _poisson_nll(f: jax.Array, y: jax.Array) -> jax.Array:
    f = as_wide(f)
    y = jnp.asarray(y).astype(f.dtype)
    return jnp.sum(jnp.exp(f) - y * f + jax.lax.lgamma(y + 1))


def _poisson_sample(key: jax.Array, f: jax.Array) -> jax.Array:
    return jax.random.poisson(key, jnp.exp(as_wide(f)))


def _poisson_root(f: jax.Array, u: jax.Array) -> jax.Array:
    return jnp.exp(0.5 * as_wide(f)) * as_wide(u)


def poisson() -> Likelihood:
    """Independent Poisson counts; outputs are the logarithms of the rates.

    Returns:
      A `Likelihood` for outputs of any shape and counts of the same shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import poisson
      >>> poisson().root(jnp.zeros(2), jnp.ones(2))
      Array([1., 1.], dtype=float32)
    """
    return _POISSON


_CATEGORICAL = Likelihood("categorical", _categorical_nll, _categorical_sample, _categorical_root)
_BERNOULLI = Likelihood("bernoulli", _bernoulli_nll, _bernoulli_sample, _bernoulli_root)
_POISSON = Likelihood("poisson", _poisson_nll, _poisson_sample, _poisson_root)
