"""Any object with `sample` and `log_prob`, as a distribution whose base noise is a PRNG key.

For a fixed key, the sample is a function of θ.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optx_estimators._distribution import Distribution
from optx_estimators._errors import BatchShapeError, EstimatorError


def draw_sample(dist: Any, key: jax.Array) -> Any:
    """Draws one sample, for any order and names of the arguments of the sampler."""
    parameters: Mapping[str, inspect.Parameter] = {}
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(dist.sample).parameters
    for name in ("seed", "key", "rng", "rng_key"):
        if name in parameters:
            return dist.sample(**{name: key})
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dist.sample(seed=key)
    return dist.sample(key)


def check_one_event(dist: Any, where: str) -> None:
    """Refuses objects without `sample` and `log_prob`, and batches of distributions."""
    if not (hasattr(dist, "sample") and hasattr(dist, "log_prob")):
        raise TypeError(
            f"{where}: the distribution must have sample and log_prob; {type(dist).__name__} lacks them"
        )
    if isinstance(dist, Distribution):
        return
    key = jax.eval_shape(lambda: jax.random.key(0))
    shape = jax.eval_shape(lambda key: dist.log_prob(draw_sample(dist, key)), key).shape
    if shape:
        raise BatchShapeError(
            f"{where}: {type(dist).__name__} is a batch of distributions (log_prob of one sample has "
            f"shape {shape}); the estimators need one event. Write "
            "distrax.Independent(dist, reinterpreted_batch_ndims=n), tfd.Independent(...), or "
            "dist.to_event(n) in NumPyro"
        )


class Opaque(Distribution):
    """A foreign distribution of which only the sampler and the density are known."""

    def __init__(self, dist: Any) -> None:
        self.dist = dist

    @property
    def family(self) -> str:
        return type(self.dist).__name__

    @property
    def base_shape(self) -> tuple[int, ...]:
        return ()

    def draw_base(self, key: jax.Array, n: int) -> jax.Array:
        return jax.random.split(key, n)

    def transform(self, z: jax.Array) -> Any:
        return draw_sample(self.dist, z)

    def event_log_prob(self, x: Any) -> jax.Array:
        value = jnp.asarray(self.dist.log_prob(x))
        if value.ndim:
            raise EstimatorError(
                f"{self.family}.log_prob must return a scalar for one sample, not shape {value.shape}"
            )
        return value
