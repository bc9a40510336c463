"""Distributions as the estimators need them: one event, made from noise that can be held fixed.

z ~ base noise,  x = transform(z; θ),  log p(x; θ)

Every distribution here is one event: the entries of its parameters are independent coordinates,
`log_prob` is their sum. The base noise z does not depend on θ, so that it can be kept, enumerated,
replaced by quadrature nodes, or drawn from a low-discrepancy sequence.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from optx_core.build import common_real_dtype
from optx_estimators._errors import EstimatorError, UnsupportedDistributionError


def real(where: str, **values: Any) -> list[jax.Array]:
    """The parameters as floating-point arrays of at least float32 and of one shape.

    Scalars are spread over the shape of the others; other shapes must agree.
    """
    arrays = {}
    for name, value in values.items():
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(f"{where}: {name} must be real, not {array.dtype}")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(jnp.result_type(float))
        arrays[name] = array
    dtype = common_real_dtype(*(array.dtype for array in arrays.values()))
    shapes = {array.shape for array in arrays.values() if array.ndim}
    if len(shapes) > 1:
        shown = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{where}: parameters must have one shape or be scalars, not {shown}")
    shape = shapes.pop() if shapes else ()
    return [jnp.broadcast_to(array.astype(dtype), shape) for array in arrays.values()]


class Distribution:
    """One event of independent coordinates.

    Attributes:
      discrete: whether the samples take countably many values.
      reparameterized: whether `transform` moves smoothly with the parameters.
      shaped_as: the name of a parameter whose shape is the event's and whose dtype is all
        parameters'; what has none says so in `event_shape` and `dtype` itself.
    """

    discrete: ClassVar[bool] = False
    reparameterized: ClassVar[bool] = True
    shaped_as: ClassVar[str] = ""

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value.dtype}{list(value.shape)}"
            if hasattr(value, "shape")
            else f"{name}={value}"
            for name, value in vars(self).items()
        )
        return f"{type(self).__name__}({shown})"

    @property
    def family(self) -> str:
        """The name to give in errors."""
        return type(self).__name__

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self._shaped().shape

    @property
    def base_shape(self) -> tuple[int, ...]:
        """The shape of the base noise of one sample."""
        return self.event_shape

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters."""
        return self._shaped().dtype

    def _shaped(self) -> jax.Array:
        if not self.shaped_as:
            raise NotImplementedError(f"{self.family} names no parameter in shaped_as")
        return getattr(self, self.shaped_as)

    def draw_base(self, key: jax.Array, n: int) -> Any:
        """Base noise of n samples, a leading axis of n."""
        low = jnp.finfo(self.dtype).tiny
        u = jax.random.uniform(key, (n, *self.base_shape), self.dtype, minval=low)
        return self.base_from_uniform(u)

    def base_from_uniform(self, u: jax.Array) -> Any:
        """Base noise from uniform numbers of shape `base_shape`."""
        raise UnsupportedDistributionError(
            f"{type(self).__name__} has no inverse distribution function here, which quasi-random "
            "and antithetic noise need; use noise=iid()"
        )

    def transform(self, z: Any) -> Any:
        """One sample from one base noise."""
        raise NotImplementedError

    def event_log_prob(self, x: Any) -> jax.Array:
        """The log-density of one event, a scalar."""
        raise NotImplementedError

    def log_prob(self, x: Any) -> jax.Array:
        """The log-density.

        Args:
          x: samples, of shape `(..., *event_shape)`.

        Returns:
          An array of shape `(...)`.
        """
        x = jnp.asarray(x)
        extra = x.ndim - len(self.event_shape)
        if extra < 0 or x.shape[extra:] != self.event_shape:
            raise EstimatorError(
                f"{type(self).__name__}.log_prob: samples of shape {x.shape} do not end in the "
                f"event's shape {self.event_shape}"
            )
        function = self.event_log_prob
        for _ in range(extra):
            function = jax.vmap(function)
        return function(x)

    def sample(self, sample_shape: int | tuple[int, ...] = (), seed: Any = None) -> Any:
        """Draws samples.

        Args:
          sample_shape: the leading shape, an integer or a tuple.
          seed: a PRNG key.

        Returns:
          An array of shape `(*sample_shape, *event_shape)`.
        """
        if seed is None:
            raise TypeError(f"{type(self).__name__}.sample needs a key: sample(shape, seed=key)")
        shape = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
        n = math.prod(shape)
        x = jax.vmap(self.transform)(self.draw_base(seed, n))
        return jax.tree_util.tree_map(lambda a: a.reshape(*shape, *a.shape[1:]), x)
