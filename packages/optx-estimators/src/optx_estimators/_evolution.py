"""Evolution strategies: gradients of a Gaussian smoothing from function values only.

x = μ + σε, ε ~ N(0, I);  mirrored: x̃ = μ − σε

∂μ:  (f(x) − b)·ε/σ,              mirrored (f(x) − f(x̃))·ε/(2σ)
∂σ:  (f(x) − b)·(ε² − 1)/σ,       mirrored (½f(x) + ½f(x̃) − b)·(ε² − 1)/σ

where μ are the parameters, σ is the standard deviation, N(0, I) the standard normal distribution and b the
baseline.

Guided: ε = √a·z + √((1 − a)·D/k)·U w, with U an orthonormal basis of k directions. The estimate is then
Σ∇ for Σ = aI + (1 − a)(D/k)UUᵀ: a descent direction, not the gradient.

References: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution Strategies as a Scalable Alternative to
Reinforcement Learning", 2017; Nesterov, Spokoiny, "Random Gradient-Free Minimization of Convex
Functions", 2017; Maheswaranathan, Metz, Tucker, Choi, Sohl-Dickstein, "Guided evolutionary
strategies", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from optx_core import PyTree
from optx_core.build import check_number, recorded
from optx_estimators._attach import attach, undifferentiable
from optx_estimators._baseline import Baseline
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError
from optx_estimators._location_scale import Normal
from optx_estimators._method import Aux, Method, by_row, draw_base, need
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem, fixed


class Evolution(Method):
    """See `evolution`."""

    def __init__(
        self,
        antithetic: bool,
        baseline: Baseline | str | None,
        guide: Callable[[PyTree], Any] | None,
        mix: float,
    ) -> None:
        self.antithetic, self.baseline, self.guide, self.mix = antithetic, baseline, guide, mix
        self.unit = baseline.unit if isinstance(baseline, Baseline) else 1
        self.needs_independent_rows = self.unit != 1
        self.unbiased = guide is None  # type: ignore[misc]

    def init(self, params: PyTree) -> Any:
        return self.baseline.init(params) if isinstance(self.baseline, Baseline) else ()

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        need(self, dist, Normal)
        if self.guide is None:
            return draw_base(dist, key, n, noise)
        u = noise.uniforms(key, n, 2 * math.prod(dist.event_shape), dist.dtype)
        return special.ndtri(u).reshape(n, 2, *dist.event_shape)

    def _guided(self, params: PyTree, z: jax.Array) -> jax.Array:
        assert self.guide is not None  # noqa: S101 (for the type checker)
        shape = z.shape[2:]
        D = math.prod(shape)
        directions = jnp.asarray(self.guide(fixed(params)), z.dtype)
        if directions.shape[1:] != shape or not 1 <= directions.shape[0] <= D:
            raise EstimatorError(
                f"evolution: guide must return shape (k, *{shape}) with k between 1 and {D}, not "
                f"{directions.shape}"
            )
        k = directions.shape[0]
        U, _ = jnp.linalg.qr(directions.reshape(k, D).T)
        flat = z.reshape(-1, 2, D)
        inside = flat[:, 1, :k] @ U.T
        scale = math.sqrt((1 - self.mix) * D / k)
        return (math.sqrt(self.mix) * flat[:, 0] + scale * inside).reshape(-1, *shape)

    def surrogate(
        self, problem: Problem, params: PyTree, z: jax.Array, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        dist = problem.dist(params)
        need(self, dist, Normal)
        assert isinstance(dist, Normal)  # noqa: S101 (for the type checker)
        if self.guide is not None:
            z = lax.stop_gradient(self._guided(params, z))
        at_rest = problem.at_rest(params)
        assert isinstance(at_rest, Normal)  # noqa: S101 (for the type checker)
        values = problem.values(fixed(jax.vmap(at_rest.transform)(z)), params)
        spread = lax.broadcast(at_rest.scale, (z.shape[0],))

        difference: jax.Array | None = None
        if self.antithetic:
            opposite = problem.values(fixed(jax.vmap(at_rest.transform)(-z)), params)
            difference = lax.stop_gradient(values - opposite) / 2
            values = (values + opposite) / 2
        aux = Aux(lax.stop_gradient(values))
        b = lax.stop_gradient(self._baseline_of(problem, params, at_rest, aux, state, context))
        above = aux.values - b
        g_loc = by_row(above if difference is None else difference, z) * z / spread
        g_scale = by_row(above, z) * (jnp.square(z) - 1) / spread
        value, scale = jnp.mean(values), dist.scale
        if self.guide is not None:
            scale = undifferentiable(
                "evolution(guide=...) has no derivative with respect to the scale; use guide=None",
                scale,
            )
            g_scale = jnp.zeros_like(g_scale)
        g = (jnp.mean(g_loc, axis=0), jnp.mean(g_scale, axis=0))
        return attach("evolution", value, (dist.loc, scale), g), aux

    def _baseline_of(
        self, problem: Problem, params: PyTree, dist: Any, aux: Aux, state: Any, context: Any
    ) -> jax.Array:
        if isinstance(self.baseline, Baseline):
            b = self.baseline.value(fixed(state), aux, fixed(context))
            return jnp.asarray(b, aux.values.dtype)
        if self.baseline == "center":
            return problem.value(lax.stop_gradient(dist.loc), fixed(params)).astype(
                aux.values.dtype
            )
        return jnp.zeros((), aux.values.dtype)

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        del problem, params, z
        baseline = self.baseline
        return baseline.update(state, aux, context) if isinstance(baseline, Baseline) else state

    def evaluations(self, dist: Distribution, n: int) -> int:
        del dist
        return n * (2 if self.antithetic else 1) + (self.baseline == "center")


@recorded
def evolution(
    antithetic: bool = True,
    baseline: Baseline | str | None = None,
    guide: Callable[[PyTree], Any] | None = None,
    mix: float = 0.5,
) -> Evolution:
    """Evolution strategies, for `Normal`: gradients from function values only.

    Args:
      antithetic: whether each row of noise is used with both signs, in two evaluations. This beats
        one evaluation with a baseline only if the noise is large: for f = |x|² at x, if
        σ²·(D + 2)(D + 4) > 4|x|² + 4x_i².
      baseline: "center", the function at the mean; a `Baseline` with one value per sample; or None.
      guide: a function from the parameters to k preferred directions, an array of shape
        (k, *event_shape). The estimate is then biased towards them, and the scale has no gradient.
      mix: a in [0, 1], the share of isotropic search, with `guide`.

    Returns:
      A method that refuses second derivatives; unbiased without `guide`.

    Raises:
      ValueError: if `mix` is out of range.
      EstimatorError: if `baseline` is not one of these, or has a value for each parameter.

    Example:
      >>> from optx_estimators import evolution
      >>> evolution(antithetic=False, baseline="center")
      evolution(antithetic=False, baseline='center', guide=None, mix=0.5)
    """
    check_number("evolution", low=0, high=1, mix=mix)
    if isinstance(baseline, Baseline) and baseline.per_parameter:
        raise EstimatorError(
            "evolution needs a baseline with one value per sample, such as leave_one_out()"
        )
    if baseline is not None and baseline != "center" and not isinstance(baseline, Baseline):
        raise EstimatorError(
            f'evolution: baseline must be "center", a Baseline or None, not {baseline!r}'
        )
    return Evolution(bool(antithetic), baseline, guide, mix)
