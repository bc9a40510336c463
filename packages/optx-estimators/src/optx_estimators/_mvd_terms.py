"""Pairs of measures whose difference is the derivative of a density, by family.

∂p(x; θ)/∂θ = c·(p⁺(x) − p⁻(x)),   so ∂E f/∂θ = c·(E⁺f − E⁻f)

ε is the standard variate of the sample, z its base noise and e ~ Exp(1); `other` is z again if the two parts
are coupled, else another draw. The sample x itself is one of the two parts where possible.

| family, parameter | c | + | − |
| --- | --- | --- | --- |
| symmetric unimodal p, location μ | p(0)/σ | μ + σ·further(0, e) | μ − σ·further(0, e) |
| scale σ | 1/σ | μ + σ·sign(ε)·further(ε, e) | x |
| Poisson, λ | 1 | z + 1 | x |
| Exponential, λ | 1/λ | x | (z + e)/λ |
| Gamma, rate b | a/b | x | (t + e)/b, t ~ Gamma(a, 1) |
| Weibull, scale λ | k/λ | λ·(z + e)^(1/k) | x |

with further(ε, e) = p⁻¹(e⁻ᵉ·p(|ε|)). For the scale: −∂ₓ(x·p(x)) = p⁺ − p with p⁺(x) = −x·p′(x), the law of
the edge of the graph of p at a uniform height. Bernoulli and Categorical are finite sums (see
`_measure_valued`).

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
from optx_estimators._special import exp_inside


class Term(NamedTuple):
    """The derivative with respect to one parameter, by coordinate.

    Attributes:
      coefficient: c.
      plus: the point of the positive part; None for the sample itself.
      minus: the point of the negative part; None for the sample itself.
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
    """The rule of one family.

    Attributes:
      exponentials: the number of e in a coupled row.
      uncoupled: the number of e in an uncoupled row.
      parameters: names of the differentiated attributes.
      refused: names of the attributes without a rule.
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
    other = d.standard(row.other)
    wider = jnp.where(other < 0, -1, 1).astype(d.dtype) * d.further(other, e[1])
    return (
        Term(d.peak / d.scale, d.loc + d.scale * out, d.loc - d.scale * back),
        Term(1 / d.scale, d.loc + d.scale * wider, None),
    )


def _poisson(d: Poisson, row: Row) -> tuple[Term, ...]:
    return (Term(jnp.ones_like(d.rate), row.other + 1, None),)


def _exponential(d: Exponential, row: Row) -> tuple[Term, ...]:
    return (Term(1 / d.rate, None, (row.other + row.exponentials[0]) / d.rate),)


def _gamma(d: Gamma, row: Row) -> tuple[Term, ...]:
    log_t = row.other + jnp.log(d.concentration)
    longer = jnp.logaddexp(log_t, jnp.log(row.exponentials[0])) - jnp.log(d.rate)
    minus = longer if d.log_space else exp_inside(longer)
    return (Term(d.concentration / d.rate, None, minus),)


def _weibull(d: Weibull, row: Row) -> tuple[Term, ...]:
    longer = d.transform(row.other + row.exponentials[0])
    return (Term(d.concentration / d.scale, longer, None),)


def rule_of(dist: Distribution) -> Rule | None:
    """The rule of the family of a distribution, or None."""
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
    """Returns the value; differentiating it in a parameter without a rule raises an error."""
    for name in rule.refused:
        family = type(dist).__name__
        wall = undifferentiable(
            f"measure_valued has no rule for {name} of {family}, which depends on the parameters; "
            "use score_function() or pathwise()",
            getattr(dist, name),
        )
        value = jnp.where(jnp.all(wall > 0), value, jnp.nan)
    return value
