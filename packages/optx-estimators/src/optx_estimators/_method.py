"""The interface of a gradient estimator.

A method computes a differentiable scalar, its surrogate, from parameters and noise: the value of the
surrogate estimates E f, its gradient ∇E f. `expectation` is the surrogate at fresh noise, and
`per_sample_grads` its gradients at single units of noise.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import Recorded, short_repr
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError, UnsupportedDistributionError
from optx_estimators._noise import Noise
from optx_estimators._opaque import Opaque
from optx_estimators._problem import Problem

_WORTH_A_LOOP = 2**16


class Aux(NamedTuple):
    """The output of a surrogate from which the state of its method is updated.

    Attributes:
      values: f of the samples, shape (n,).
      scores: ∇log p of each sample, a tree like the parameters with a leading axis, or None.
    """

    values: jax.Array
    scores: PyTree = None


class Method(Recorded):
    """A gradient estimator, such as `score_function()` or `pathwise()`.

    Attributes:
      unbiased: whether the expectation of the estimate is the true gradient.
      unit: the number of rows of noise that interact; None if all do.
      needs_independent_rows: whether it would be biased if the rows of noise were dependent.
    """

    unbiased: ClassVar[bool] = True
    unit: int | None = 1
    needs_independent_rows: bool = False

    @property
    def name(self) -> str:
        """The name, for errors."""
        return self._call.name if self._call is not None else type(self).__name__

    def check(self, noise: Noise, n: int | None = None) -> None:
        """Refuses a noise or a number of samples that the method does not support."""
        if self.needs_independent_rows and noise.unit != 1:
            raise EstimatorError(
                f"{self!r} compares each sample with the others as if they were independent; under "
                f"{noise!r} they are not, and the estimate would be biased. Use noise=iid(), or a "
                "baseline from past steps, such as ema_baseline()"
            )
        if n is not None and n < 1:
            raise EstimatorError(f"{self.name}: num_samples must be at least 1, not {n}")
        if n is not None and self.unit is not None and n % self.unit:
            raise EstimatorError(
                f"{self!r} needs num_samples to be a multiple of {self.unit}, not {n}"
            )

    def init(self, params: PyTree) -> Any:
        """The initial state, () for a method without a state."""
        del params
        return ()

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        """Draws noise for n rows, a tree with a leading axis of n."""
        return draw_base(dist, key, n, noise)

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        """The differentiable estimate from rows of noise, and the input of `update`."""
        raise NotImplementedError

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        """The next state."""
        del problem, params, z, context, aux
        return state

    def evaluations(self, dist: Distribution, n: int) -> int:
        """The number of evaluations of f on n rows, without its derivatives."""
        del dist
        return n


def draw_base(dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
    """Draws the base noise of n samples of a distribution."""
    if noise.plain:
        return _draw_once(dist, key, n)
    if isinstance(dist, Opaque):
        raise UnsupportedDistributionError(
            f"{noise!r} needs an inverse distribution function, which {dist.family} does not have "
            "here. Use noise=iid() or a family of this package"
        )
    u = noise.uniforms(key, n, math.prod(dist.base_shape), dist.dtype)
    return jax.vmap(dist.base_from_uniform)(u.reshape(n, *dist.base_shape))


def _draw_once(dist: Distribution, key: jax.Array, n: int) -> Any:
    """Draws base noise and stores it.

    Otherwise the compiler fuses the random number generator into every consumer and computes the numbers
    several times; the output of a loop is computed once.
    """
    if n % 2 or n * math.prod(dist.base_shape) < _WORTH_A_LOOP:
        return dist.draw_base(key, n)
    halves = lax.map(lambda k: dist.draw_base(k, n // 2), jax.random.split(key))
    return jax.tree_util.tree_map(lambda z: z.reshape(n, *z.shape[2:]), halves)


def need(method: Method, dist: Distribution, *kinds: type[Distribution]) -> None:
    """Refuses distributions of other kinds."""
    if not isinstance(dist, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UnsupportedDistributionError(f"{method.name} needs {names}, not {dist.family}")


def by_row(f: jax.Array, rows: jax.Array) -> jax.Array:
    """One number per sample, broadcast to the shape and dtype of rows."""
    return jnp.broadcast_to(f.reshape(-1, *(1,) * (rows.ndim - 1)).astype(rows.dtype), rows.shape)


def check_optimizer(where: str, optimizer: Any) -> None:
    """Refuses an optimizer without `init` and `update`."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"{where}: optimizer must be a transformation with init and update, not {short_repr(optimizer)}"
        )
