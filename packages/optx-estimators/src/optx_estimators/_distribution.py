"""Distributions as the estimators need them: one event, a function of noise that can be held fixed.

z ~ base noise,  x = transform(z; θ),  log p(x; θ)

Every distribution here is one event: the entries of its parameters are independent coordinates, and
`log_prob` is their sum. The base noise z is drawn at given parameters and then held fixed: it can be kept,
enumerated, replaced by quadrature nodes, or drawn from a low-discrepancy sequence.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from optx_core.build import common_real_dtype
from optx_estimators._errors import EstimatorError, UnsupportedDistributionError
from optx_estimators._noise import open_unit


def real(where: str, **values: Any) -> list[jax.Array]:
    """The parameters as floating-point arrays of at least float32 and of one shape.

    Scalars are broadcast to the shape of the others; all other shapes must agree.
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
      shaped_as: the name of a parameter with the shape of the event and the dtype of all
        parameters; a family without one overrides `event_shape` and `dtype`.
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
            if not name.startswith("_")
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
        """Base noise of n samples, with a leading axis of n."""
        bits = jax.random.bits(key, (n, *self.base_shape), "uint32")
        return self.base_from_uniform(open_unit(bits, self.dtype))

    def base_from_uniform(self, u: jax.Array) -> Any:
        """Base noise from uniform numbers in (0, 1), with `base_shape` as their last axes."""
        raise UnsupportedDistributionError(
            f"{type(self).__name__} has no inverse distribution function here, which quasi-random "
            "and antithetic noise need; use noise=iid()"
        )

    def transform(self, z: Any) -> Any:
        """One sample from its base noise."""
        raise NotImplementedError

    def event_log_prob(self, x: Any) -> jax.Array:
        """The log-density of one event, a scalar."""
        raise NotImplementedError

    def base_log_prob(self, z: Any, drawn_from: Any) -> jax.Array:
        """The log-density of the event that `drawn_from`, of the same family, computes from base noise.

        The event is held fixed. Unlike `event_log_prob`, this sees samples before they are rounded:
        at the edge of the support, or beside a large mean, the rounded sample has lost the digits
        on which the density depends.
        """
        return self.event_log_prob(lax.stop_gradient(drawn_from.transform(z)))

    def log_prob(self, x: Any) -> jax.Array:
        """The log-density, which is −inf outside the support.

        Args:
          x: samples, of shape `(..., *event_shape)`.

        Returns:
          An array of shape `(...)`.

        Raises:
          EstimatorError: if the shape of `x` does not end in `event_shape`.
        """
        x = jnp.asarray(x)
        extra = x.ndim - len(self.event_shape)
        if extra < 0 or x.shape[extra:] != self.event_shape:
            raise EstimatorError(
                f"{type(self).__name__}.log_prob: the shape of the samples, {x.shape}, must end in "
                f"the event's shape, {self.event_shape}"
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

        Raises:
          TypeError: if `seed` is missing.
        """
        if seed is None:
            raise TypeError(f"{type(self).__name__}.sample needs a key: sample(shape, seed=key)")
        shape = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
        n = math.prod(shape)
        x = jax.vmap(self.transform)(self.draw_base(seed, n))
        return jax.tree_util.tree_map(lambda a: a.reshape(*shape, *a.shape[1:]), x)
