"""An estimate with its noise in the open: draw the noise, then estimate as a function of θ alone.

estimator.draw(params, key, n) → noise;   estimator.estimate(params, noise) → a differentiable scalar

The same noise at other parameters gives common random numbers; quadrature nodes instead of noise give
exact expectations and variances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from optx_core import PyTree
from optx_core.build import Recorded, recorded
from optx_estimators._errors import CoupledRowsError, EstimatorError
from optx_estimators._method import Method
from optx_estimators._noise import Noise, iid
from optx_estimators._problem import Problem
from optx_estimators._score import score_function


class Estimator(Recorded):
    """An estimator of E f(x) and its gradient; see `estimator`.

    Attributes:
      method: the gradient estimator.
      noise: the source of randomness of `draw`.
    """

    def __init__(self, problem: Problem, method: Method, noise: Noise) -> None:
        if not isinstance(method, Method):
            raise TypeError(
                f"{problem.where}: method must be a method such as score_function() or pathwise(), "
                f"not {method!r}"
            )
        if not isinstance(noise, Noise):
            raise TypeError(
                f"{problem.where}: noise must be a noise such as iid() or antithetic(), not {noise!r}"
            )
        self.problem, self.method, self.noise = problem, method, noise

    @property
    def unit(self) -> int:
        """The number of rows of noise in one independent estimate.

        Raises:
          CoupledRowsError: if all rows depend on one another.
        """
        if self.method.unit is None:
            raise CoupledRowsError(
                f"{self.method!r} compares all samples with one another: its rows are not independent "
                "and their variance is not that of the estimate. Use groups, as in "
                "leave_one_out(group=2), or gradient_stats, which repeats the whole estimate"
            )
        if self.noise.unit is None:
            raise CoupledRowsError(
                f"all rows of {self.noise!r} depend on one another: their variance is not that of the "
                "estimate. Use iid(), or gradient_stats, which repeats the whole estimate"
            )
        return math.lcm(self.method.unit, self.noise.unit)

    def init(self, params: PyTree) -> Any:
        """The initial state of the method."""
        return self.method.init(params)

    def draw(self, params: PyTree, key: jax.Array, num_samples: int) -> Any:
        """Draws noise for an estimate: a tree whose leaves have a leading axis of num_samples."""
        self.method.check(self.noise, num_samples)
        return self.method.draw(self.problem.at_rest(params), key, num_samples, self.noise)

    def estimate(
        self, params: PyTree, noise: Any, state: Any = None, *, context: Any = None
    ) -> jax.Array:
        """An estimate of E f, a scalar whose derivative is the gradient estimate of the method."""
        state = self.init(params) if state is None else state
        return self.method.surrogate(self.problem, params, noise, state, context)[0]

    def gradients(
        self, params: PyTree, noise: Any, state: Any = None, *, context: Any = None
    ) -> PyTree:
        """One gradient for each independent unit of rows, on a leading axis of rows / unit."""
        unit = self.unit
        rows = jax.tree_util.tree_leaves(noise)[0].shape[0]
        if rows % unit:
            raise EstimatorError(
                f"the number of rows of noise, {rows}, must be a multiple of {unit}"
            )
        units = jax.tree_util.tree_map(lambda z: z.reshape(rows // unit, unit, *z.shape[1:]), noise)
        gradient = jax.grad(lambda p, z: self.estimate(p, z, state, context=context))
        return jax.vmap(gradient, in_axes=(None, 0))(params, units)

    def value_and_grad(
        self, params: PyTree, noise: Any, state: Any = None, *, context: Any = None
    ) -> tuple[tuple[jax.Array, PyTree], Any]:
        """The value, its gradient, and the next state."""
        method, problem = self.method, self.problem
        state = self.init(params) if state is None else state
        (value, aux), grads = jax.value_and_grad(
            lambda p: method.surrogate(problem, p, noise, state, context), has_aux=True
        )(params)
        return (value, grads), method.update(problem, params, noise, state, context, aux)

    def evaluations(self, params: PyTree, num_samples: int) -> int:
        """The number of evaluations of f for num_samples rows."""
        return self.method.evaluations(self.problem.dist(params), num_samples)


@recorded
def estimator(
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    *,
    method: Method = score_function(),  # noqa: B008 (immutable)
    noise: Noise = iid(),  # noqa: B008
    with_params: bool = False,
) -> Estimator:
    """Combines a problem and a method, with the noise as an explicit argument.

    Args:
      f: a function from one sample to a real scalar; called `f(x, params)` if `with_params`.
      dist_fn: a function from the parameters to a distribution of one event: of this package, distrax,
        TFP or NumPyro, or any object with `sample` and `log_prob`.
      method: the gradient estimator.
      noise: the source of randomness of `draw`.
      with_params: whether f takes the parameters as its second argument.

    Returns:
      An `Estimator` with `draw`, `estimate`, `gradients` and `value_and_grad`.

    Raises:
      TypeError: if `method` is not a method or `noise` is not a noise.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Normal, estimator, pathwise
      >>> e = estimator(lambda x: x**2, lambda mean: Normal(mean, 1.0), method=pathwise())
      >>> noise = jnp.array([-1.0, 1.0])   # two points instead of random numbers
      >>> jax.value_and_grad(e.estimate)(3.0, noise)
      (Array(10., dtype=float32), Array(6., dtype=float32, weak_type=True))
    """
    return Estimator(Problem(f, dist_fn, with_params, "estimator"), method, noise)


def make(
    where: str,
    f: Callable[..., Any],
    dist_fn: Callable[[Any], Any],
    method: Method,
    noise: Noise,
    with_params: bool,
) -> Estimator:
    """An estimator that names `where` in its errors."""
    if getattr(method, "stick_the_landing", False):
        raise EstimatorError(
            f"{where}: stick_the_landing omits the score of the guide of an ELBO and applies to no "
            "other function. Use elbo(..., method=pathwise(stick_the_landing=True))"
        )
    return Estimator(Problem(f, dist_fn, with_params, where), method, noise)
