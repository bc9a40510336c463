"""The estimated quantity: E f(x), x ~ dist_fn(params)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import common_real_dtype
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError
from optx_estimators._foreign import as_event


def fixed(x: Any) -> Any:
    """Stops the gradient of every leaf of a tree."""
    return jax.tree_util.tree_map(lax.stop_gradient, x)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function and a distribution.

    Attributes:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution.
      with_params: whether f takes the parameters as its second argument.
      where: the name of the calling function, for errors.
    """

    f: Callable[..., Any]
    dist_fn: Callable[[Any], Any]
    with_params: bool = False
    where: str = "expectation"

    def dist(self, params: PyTree) -> Distribution:
        """The distribution at these parameters."""
        return as_event(self.dist_fn(params), self.where)

    def at_rest(self, params: PyTree) -> Distribution:
        """The distribution at these parameters, held fixed."""
        return self.dist(fixed(params))

    def samples(self, params: PyTree, z: Any) -> Any:
        """Samples from rows of noise, as constants."""
        return fixed(jax.vmap(self.at_rest(params).transform)(z))

    def log_probs(self, params: PyTree, z: Any) -> jax.Array:
        """Log-densities of `samples`, shape (n,), as functions of the parameters."""
        dist, at_rest = self.dist(params), self.at_rest(params)
        return jax.vmap(lambda z: dist.base_log_prob(z, at_rest))(z)

    def value(self, x: Any, params: PyTree) -> jax.Array:
        """The value of f at one sample, checked to be a real scalar."""
        value = jnp.asarray(self.f(x, params) if self.with_params else self.f(x))
        if value.ndim or jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise EstimatorError(
                f"{self.where}: the function must return one real number for one sample, not "
                f"{value.dtype}{list(value.shape)}"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            value = value.astype(jnp.result_type(float))
        return value.astype(common_real_dtype(value.dtype))

    def values(self, xs: Any, params: PyTree) -> jax.Array:
        """The values of f at n samples, shape (n,)."""
        return jax.vmap(lambda x: self.value(x, params))(xs)
