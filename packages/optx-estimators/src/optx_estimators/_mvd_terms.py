"""Signed measures whose difference is the derivative of a density, family by family.

∂p(x; θ)/∂θ = c·(p⁺(x) − p⁻(x)),   so ∂E f/∂θ = c·(E⁺f − E⁻f)

z is the sample's base noise, e ~ Exp(1), and `other` is z again where the two sides are coupled, or
another draw of it. The sample itself, x, serves as one of the two sides wherever it can.

| family, parameter | c | + | − |
| --- | --- | --- | --- |
| symmetric unimodal p, location μ | p(0)/σ | μ + σ·further(0, e) | μ − σ·further(0, e) |
| scale σ | 1/σ | μ + σ·sign(z)·further(z, e) | x |
| Poisson, λ | 1 | z + 1 | x |
| Exponential, λ | 1/λ | x | (z + e)/λ |
| Gamma, rate b | a/b | x | (z + e)/b, z ~ Gamma(a, 1) |
| Weibull, scale λ | k/λ | λ·(z + e)^(1/k) | x |

with further(z, e) = p⁻¹(e⁻ᵉ·p(|z|)). Why, for the scale: −∂ₓ(x·p(x)) = p⁺ − p with p⁺(x) = −x·p′(x), and a
point under the graph of p, uniform in height, is seen from the side. Bernoulli and Categorical are
finite sums (see `_measure_valued`).

References: Pflug, "Sampling derivatives of probabilities", 1989; Mohamed, Rosca, Figurnov, Mnih,
"Monte Carlo Gradient Estimation in Machine Learning", 2020, table 1, for Normal, Poisson, Weibull
and Gamma; the rule for all symmetric unimodal families contains its row for Normal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_estimators._attach import undifferentiable
from optx_estimators._discrete import Poisson
from optx_estimators._distribution import Distribution
from optx_estimators._gamma import Gamma
from optx_estimators._location_scale import LocationScale, StudentT
from optx_estimators._positive import Exponential, Weibull


class Term(NamedTuple):
    """The derivative with respect to one parameter, coordinate by coordinate.

    Attributes:
      coefficient: c.
      plus: the point of the positive side; None for the sample itself.
      minus: the point of the negative side; None for the sample itself.
    """

    coefficient: jax.Array
    plus: jax.Array | None
    minus: jax.Array | None


class Row(NamedTuple):
    """The noise of one sample.

    Attributes:
      base: z.
      other: z again, or another draw.
      exponentials: e of shape (draws, *event_shape).
    """

    base: Any
    other: Any
    exponentials: jax.Array


class Rule(NamedTuple):
    """How one family is differentiated.

    Attributes:
      exponentials: how many e a coupled row needs.
      uncoupled: how many an uncoupled row needs.
      parameters: names of the attributes that are differentiated.
      refused: names of those that cannot be.
      terms: the terms of one row, in the order of `parameters`.
    """

    exponentials: int
    uncoupled: int
    parameters: tuple[str, ...]
    refused: tuple[str, ...]
    terms: Callable[[Any, Row], tuple[Term, ...]]


def _location_scale(d: LocationScale, row: Row) -> tuple[Term, ...]:
    e = row.exponentials
    out, back = d.further(jnp.zeros_like(e[0]), e[0]), d.further(jnp.zeros_like(e[-1]), e[-1])
    back = out if e.shape[0] == 2 else back
    side = jnp.where(row.other < 0, -1, 1).astype(d.dtype)
    wider = side * d.further(row.other, e[1])
    return (
        Term(d.peak / d.scale, d.loc + d.scale * out, d.loc - d.scale * back),
        Term(1 / d.scale, d.loc + d.scale * wider, None),
    )


def _poisson(d: Poisson, row: Row) -> tuple[Term, ...]:
    return (Term(jnp.ones_like(d.rate), row.other + 1, None),)


def _exponential(d: Exponential, row: Row) -> tuple[Term, ...]:
    return (Term(1 / d.rate, None, (row.other + row.exponentials[0]) / d.rate),)


def _gamma(d: Gamma, row: Row) -> tuple[Term, ...]:
    longer = jnp.logaddexp(row.other, jnp.log(row.exponentials[0])) - jnp.log(d.rate)
    minus = longer if d.log_space else jnp.exp(longer)
    return (Term(d.concentration / d.rate, None, minus),)


def _weibull(d: Weibull, row: Row) -> tuple[Term, ...]:
    longer = d.transform(row.other + row.exponentials[0])
    return (Term(d.concentration / d.scale, longer, None),)


def rule_of(dist: Distribution) -> Rule | None:
    """The rule for a distribution's family, or None."""
    match dist:
        case StudentT():
            return Rule(2, 3, ("loc", "scale"), ("df",), _location_scale)
        case LocationScale() if dist.symmetric:
            return Rule(2, 3, ("loc", "scale"), (), _location_scale)
        case Poisson():
            return Rule(0, 0, ("rate",), (), _poisson)
        case Exponential():
            return Rule(1, 1, ("rate",), (), _exponential)
        case Gamma():
            return Rule(1, 1, ("rate",), ("concentration",), _gamma)
        case Weibull():
            return Rule(1, 1, ("scale",), ("concentration",), _weibull)
    return None


def guard(dist: Distribution, rule: Rule, value: jax.Array) -> jax.Array:
    """The value; differentiating it through a parameter without a rule is an error."""
    for name in rule.refused:
        family = type(dist).__name__
        wall = undifferentiable(
            f"measure_valued has no rule for {name} of {family}, which the parameters change; "
            "use score_function() or pathwise()",
            getattr(dist, name),
        )
        value = jnp.where(jnp.all(wall > 0), value, jnp.nan)
    return value
