"""What a method of estimation is.

A method makes a differentiable scalar, its surrogate, from parameters and noise: the surrogate's
value estimates E f, its gradient ∇E f. Everything else is built on that: `expectation` is the
surrogate at fresh noise, `per_sample_grads` its gradients at single units of noise.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
from jax import lax

from optx_core import PyTree
from optx_core.build import Recorded
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError, UnsupportedDistributionError
from optx_estimators._noise import Noise
from optx_estimators._opaque import Opaque
from optx_estimators._problem import Problem

_WORTH_A_LOOP = 2**16


class Aux(NamedTuple):
    """What a surrogate leaves for its method's state to learn from.

    Attributes:
      values: f of the samples, shape (n,).
      scores: ∇log p of each sample, a tree like the parameters with a leading axis, or None.
    """

    values: jax.Array
    scores: PyTree = None


class Method(Recorded):
    """A way to estimate a gradient; made by the functions named in lower case.

    Attributes:
      unbiased: whether the gradient's expectation is the true gradient.
      unit: how many rows of noise interact; None where all do.
      needs_independent_rows: whether a noise that ties rows together would make it biased.
    """

    unbiased: ClassVar[bool] = True
    unit: int | None = 1
    needs_independent_rows: bool = False

    @property
    def name(self) -> str:
        """The name to give in errors."""
        return self._call.name if self._call is not None else type(self).__name__

    def check(self, noise: Noise, n: int | None = None) -> None:
        """Refuses a noise or a number of samples that the method cannot take."""
        if self.needs_independent_rows and noise.unit != 1:
            raise EstimatorError(
                f"{self!r} compares each sample with the others as if they were independent; over "
                f"{noise!r} they are not, and the estimate would be biased. Use noise=iid(), or a "
                "baseline that looks at the past only (ema_baseline)"
            )
        if n is not None and n < 1:
            raise EstimatorError(f"{self.name}: num_samples must be at least 1, not {n}")
        if n is not None and self.unit is not None and n % self.unit:
            raise EstimatorError(
                f"{self!r} works on {self.unit} samples at a time; num_samples={n} is no multiple"
            )

    def init(self, params: PyTree) -> Any:
        """The method's state, () for most."""
        del params
        return ()

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        """Noise for n rows: a tree with a leading axis of n."""
        return draw_base(dist, key, n, noise)

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        """The differentiable estimate from rows of noise, and what to learn from."""
        raise NotImplementedError

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        """The next state."""
        del problem, params, z, context, aux
        return state

    def evaluations(self, dist: Distribution, n: int) -> int:
        """How many times f is evaluated on n rows (its derivative not counted)."""
        del dist
        return n


def draw_base(dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
    """Base noise of n samples of a distribution."""
    if noise.plain:
        return _draw_once(dist, key, n)
    if isinstance(dist, Opaque):
        raise UnsupportedDistributionError(
            f"{noise!r} needs a distribution with a known inverse; {dist.family} is known by its "
            "sampler only. Use noise=iid() or one of this package's families"
        )
    u = noise.uniforms(key, n, math.prod(dist.base_shape), dist.dtype)
    return jax.vmap(dist.base_from_uniform)(u.reshape(n, *dist.base_shape))


def _draw_once(dist: Distribution, key: jax.Array, n: int) -> Any:
    """Base noise that is written out.

    Left to itself the compiler fuses the drawing of numbers into all that reads them, and draws them
    over again in each; the output of a loop is written once.
    """
    if n % 2 or n * math.prod(dist.base_shape) < _WORTH_A_LOOP:
        return dist.draw_base(key, n)
    halves = lax.map(lambda k: dist.draw_base(k, n // 2), jax.random.split(key))
    return jax.tree_util.tree_map(lambda z: z.reshape(n, *z.shape[2:]), halves)


def need(method: Method, dist: Distribution, *kinds: type[Distribution]) -> None:
    """Refuses distributions that are none of the kinds."""
    if not isinstance(dist, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UnsupportedDistributionError(f"{method.name} needs {names}, not {dist.family}")
