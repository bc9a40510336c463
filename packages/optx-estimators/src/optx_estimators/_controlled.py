"""A method with a control variate subtracted, with a fitted coefficient.

g = mean_i g_i − c·(mean_i h_i − ∇E h)

h_i is the same method's gradient of the control variate on the same noise, and c has one value for each entry
of the parameters. It is fitted on one half of the rows and used on the other, which avoids bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import check_number, recorded
from optx_estimators._attach import attach
from optx_estimators._control_variates import ControlVariate, DeltaControlVariate
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError
from optx_estimators._fit import fit_coefficient
from optx_estimators._method import Aux, Method
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem, fixed


class Controlled(Method):
    """See `controlled`."""

    def __init__(
        self,
        method: Method,
        control_variate: Callable[[Callable[[Any], Any]], ControlVariate],
        coefficient: float | None,
    ) -> None:
        self.method, self.control_variate, self.coefficient = method, control_variate, coefficient
        self.unit = None if coefficient is None else method.unit
        self.needs_independent_rows = coefficient is None or method.needs_independent_rows
        self.unbiased = method.unbiased  # type: ignore[misc]

    def init(self, params: PyTree) -> Any:
        return self.method.init(params)

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        return self.method.draw(dist, key, n, noise)

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        params_ = jax.tree_util.tree_map(jnp.asarray, params)
        held = fixed(params_)
        cv = self.control_variate(lambda x: problem.value(x, held))
        value_of, expected_value = cv[0], cv[1]
        by_dist = isinstance(cv, DeltaControlVariate)

        def argument(p: PyTree) -> Any:
            return problem.dist(p) if by_dist else p

        control = Problem(
            lambda x, p: value_of(argument(p), x, None), problem.dist_fn, True, self.name
        )
        unit = self.method.unit or 1
        n = jax.tree_util.tree_leaves(z)[0].shape[0] // unit
        units = jax.tree_util.tree_map(lambda a: a.reshape(n, unit, *a.shape[1:]), z)

        def rows(of: Problem) -> PyTree:
            def one(z: Any) -> PyTree:
                return jax.grad(lambda p: self.method.surrogate(of, p, z, state, context)[0])(held)

            return fixed(jax.vmap(one)(units))

        g, h = rows(problem), rows(control)
        expected = jax.grad(lambda p: expected_value(argument(p), None))(held)
        value, aux = self.method.surrogate(problem, held, z, state, context)
        g = jax.tree_util.tree_map(self._corrected, g, h, expected)
        return attach(self.name, lax.stop_gradient(value), params_, g), aux

    def _corrected(self, g: jax.Array, h: jax.Array, expected: jax.Array) -> jax.Array:
        excess = h - expected[None]
        if self.coefficient is not None:
            return jnp.mean(g - jnp.asarray(self.coefficient, g.dtype) * excess, axis=0)
        n = g.shape[0]
        if n < 8:
            raise EstimatorError(
                f"controlled: fitting the coefficient needs at least 8 samples, not {n}"
            )
        half = n // 2
        first, second = fit_coefficient(g[half:], h[half:]), fit_coefficient(g[:half], h[:half])
        total = jnp.sum(g[:half] - first[None] * excess[:half], axis=0)
        return (total + jnp.sum(g[half:] - second[None] * excess[half:], axis=0)) / n

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        return self.method.update(problem, params, z, state, context, aux)

    def evaluations(self, dist: Distribution, n: int) -> int:
        return self.method.evaluations(dist, n)


@recorded
def controlled(
    method: Method,
    control_variate: Callable[[Callable[[Any], Any]], ControlVariate],
    coefficient: float | None = None,
) -> Controlled:
    """Subtracts a control variate from a method.

    Args:
      method: a method with independent rows: `score_function()`, `pathwise()`, `measure_valued()`.
      control_variate: a function from f to a `ControlVariate` without a state, such as
        `control_delta_method`.
      coefficient: a number, or None to fit one for each entry of the parameters, which needs
        independent noise and at least 8 samples.

    Returns:
      A method that refuses second derivatives.

    Raises:
      EstimatorError: if the method compares all samples with one another.

    Example:
      >>> from optx_estimators import control_delta_method, controlled, pathwise
      >>> controlled(pathwise(), control_delta_method)
      controlled(
        method=pathwise(stick_the_landing=False),
        control_variate=control_delta_method,
        coefficient=None,
      )
    """
    check_number("controlled", coefficient=coefficient)
    if method.unit is None:
        raise EstimatorError(
            f"controlled: {method!r} compares all samples with one another; use "
            "leave_one_out(group=...) as its baseline"
        )
    return Controlled(method, control_variate, coefficient)
