"""REBAR and RELAX: a relaxed function as a control variate of the score function.

x = harden(s),  s ~ p(s; φ),  s̃ ~ p(s | x; φ)

g = (f(x) − c(s̃))·∇log p(x) + ∇c(s) − ∇c(s̃)

rebar:  c(s) = η·f(soften(s; λ))
relax:  c(s) = critic(ψ, s), plus REBAR's if `with_function`

where s is the relaxed sample and φ its parameters. Unbiased for every c. The parameters of c (η, λ, ψ) can
be trained on E‖g‖², whose gradient is also unbiased.

References: Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, "REBAR: Low-variance, unbiased gradient
estimates for discrete latent variable models", 2017; Grathwohl, Choi, Wu, Roeder, Duvenaud,
"Backpropagation through the Void", 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree, apply_updates
from optx_core.build import check_number, recorded
from optx_estimators._attach import attach
from optx_estimators._discrete import Bernoulli, OneHotCategorical
from optx_estimators._distribution import Distribution
from optx_estimators._method import Aux, Method, check_optimizer
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem, fixed
from optx_estimators._relaxation import (
    check_relaxable,
    harden,
    scores,
    scores_given,
    soften,
    uniforms,
)


class RelaxState(NamedTuple):
    """State of `rebar` and `relax`.

    Attributes:
      eta: η, a scalar.
      log_temperature: log λ, a scalar.
      critic: ψ, a tree of arrays or ().
      inner_state: the optimizer's state, or ().
    """

    eta: jax.Array
    log_temperature: jax.Array
    critic: PyTree
    inner_state: Any


class Relax(Method):
    """See `rebar` and `relax`."""

    def __init__(
        self,
        critic: Callable[[Any, jax.Array], Any] | None,
        critic_params: PyTree,
        temperature: Any,
        eta: Any,
        optimizer: Any,
        with_function: bool,
    ) -> None:
        self.critic, self.critic_params = critic, critic_params
        self.temperature, self.eta = temperature, eta
        self.optimizer, self.with_function = optimizer, with_function

    def init(self, params: PyTree) -> RelaxState:
        del params
        eta = jnp.array(self.eta, jnp.float32)
        log_temperature = jnp.log(jnp.array(self.temperature, jnp.float32))
        critic = jax.tree_util.tree_map(jnp.array, self.critic_params)
        trained = (eta, log_temperature, critic)
        inner = () if self.optimizer is None else self.optimizer.init(trained)
        return RelaxState(eta, log_temperature, critic, inner)

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> jax.Array:
        check_relaxable(self.name, dist)
        return uniforms(dist, key, n, noise, 2)

    def _gradients(
        self, problem: Problem, params: PyTree, z: jax.Array, trained: Any
    ) -> tuple[jax.Array, jax.Array]:
        """Samples, and gradients with respect to the logits, one row per sample."""
        held = fixed(params)
        at_rest = check_relaxable(self.name, problem.dist(held))
        make = Bernoulli if isinstance(at_rest, Bernoulli) else OneHotCategorical
        eta, log_temperature, critic = trained

        def control(s: jax.Array) -> jax.Array:
            c = jnp.zeros((), s.dtype)
            if self.with_function:
                soft = soften(at_rest, s, jnp.exp(log_temperature.astype(s.dtype)))
                c = c + eta.astype(s.dtype) * problem.value(soft, held).astype(s.dtype)
            if self.critic is not None:
                out = jnp.asarray(self.critic(critic, s))
                if out.ndim:
                    raise ValueError(
                        f"{self.name}: critic must return a scalar, not shape {out.shape}"
                    )
                c = c + out.astype(s.dtype)
            return c

        def row(uv: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = harden(at_rest, scores(at_rest, uv[0]))

            def paths(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
                dist = make(logits)
                c = control(scores(dist, uv[0]))
                c_given = control(scores_given(dist, x, uv[1]))
                return c, c_given, dist.event_log_prob(x)

            logits = lax.stop_gradient(at_rest.logits)
            (_, c_given, _), pull = jax.vjp(paths, logits)
            one = jnp.ones((), logits.dtype)
            fx = lax.stop_gradient(problem.value(x, held)).astype(logits.dtype)
            return x, pull((one, -one, fx - c_given))[0]

        return jax.vmap(row)(z)

    def surrogate(
        self, problem: Problem, params: PyTree, z: jax.Array, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del context
        dist = check_relaxable(self.name, problem.dist(params))
        trained = (state.eta, state.log_temperature, state.critic)
        xs, rows = fixed(self._gradients(problem, params, z, fixed(trained)))
        values = problem.values(xs, params)
        g = jnp.mean(rows, axis=0)
        return attach(self.name, jnp.mean(values), dist.logits, g), Aux(lax.stop_gradient(values))

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        del context, aux
        if self.optimizer is None:
            return state
        trained = (state.eta, state.log_temperature, state.critic)

        def second_moment(trained: Any) -> jax.Array:
            rows = self._gradients(problem, params, z, trained)[1]
            return jnp.sum(jnp.square(rows)) / rows.shape[0]

        grads = jax.grad(second_moment)(trained)
        updates, inner = self.optimizer.update(grads, state.inner_state, trained)
        eta, log_temperature, critic = apply_updates(trained, updates)
        return RelaxState(eta, log_temperature, critic, inner)

    def evaluations(self, dist: Distribution, n: int) -> int:
        del dist
        return 3 * n if self.with_function else n


def _check(where: str, optimizer: Any, temperature: Any, eta: Any) -> None:
    check_number(where, above=0, temperature=temperature)
    check_number(where, eta=eta)
    if optimizer is not None:
        check_optimizer(where, optimizer)


@recorded
def rebar(temperature: Any = 0.5, eta: Any = 1.0, optimizer: Any = None) -> Relax:
    """REBAR: the relaxed function as a control variate; unbiased, with three evaluations per sample.

    Args:
      temperature: λ > 0, the temperature of the relaxation.
      eta: η, the coefficient of the control variate.
      optimizer: a transformation with `init` and `update` that trains η and log λ on the variance in
        `value_and_grad`; None to keep them fixed.

    Returns:
      A method that refuses second derivatives, for `Bernoulli` and `OneHotCategorical` and a function
      that is differentiable at relaxed samples.

    Raises:
      ValueError: if `temperature` is not positive.
      TypeError: if `optimizer` has no `init` or no `update`.

    Example:
      >>> from optx_estimators import rebar
      >>> rebar(0.5)
      rebar(temperature=0.5, eta=1.0, optimizer=None)
    """
    _check("rebar", optimizer, temperature, eta)
    return Relax(None, (), temperature, eta, optimizer, True)


@recorded
def relax(
    critic: Callable[[Any, jax.Array], Any],
    critic_params: PyTree = (),
    temperature: Any = 0.5,
    eta: Any = 1.0,
    optimizer: Any = None,
    with_function: bool = False,
) -> Relax:
    """RELAX: a trainable critic as a control variate; unbiased. The function is not differentiated.

    Args:
      critic: a differentiable function from ψ and s, an array like the logits, to a scalar.
      critic_params: the initial ψ, a tree of arrays.
      temperature: λ > 0, used with `with_function`.
      eta: η, used with `with_function`.
      optimizer: a transformation with `init` and `update` that trains the critic (and η, log λ) on the
        variance in `value_and_grad`; None to keep it fixed.
      with_function: whether to add the control variate of REBAR; the function is then differentiated.

    Returns:
      A method that refuses second derivatives, for `Bernoulli` and `OneHotCategorical`.

    Raises:
      ValueError: if `temperature` is not positive.
      TypeError: if `critic` is not callable, or `optimizer` has no `init` or no `update`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import relax
      >>> method = relax(lambda w, s: jnp.sum(w * jnp.tanh(s)), jnp.zeros(3))
    """
    _check("relax", optimizer, temperature, eta)
    if not callable(critic):
        raise TypeError(
            f"relax: critic must be a function critic(critic_params, s), not {critic!r}"
        )
    return Relax(critic, critic_params, temperature, eta, optimizer, bool(with_function))
