"""Conversion of distributions of distrax, TFP and NumPyro.

A known family is rebuilt from its parameters, so that all methods and all noises work on it. Any other
distribution stays opaque: only its `sample` and `log_prob` are used. None of the three libraries is
imported; a class is recognized by its name and its library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_estimators import _discrete, _gamma, _location_scale, _positive
from optx_estimators._distribution import Distribution
from optx_estimators._opaque import Opaque, check_one_event

LIBRARIES = ("distrax", "tensorflow_probability", "numpyro")


def _first(dist: Any, *names: str) -> Any:
    """The first attribute that exists and is not None; methods are called."""
    for name in names:
        value = getattr(dist, name, None)
        if value is not None:
            return value() if callable(value) else value
    raise AttributeError(f"{type(dist).__name__} has none of {names}")


def _loc_scale(make: Callable[..., Distribution]) -> Callable[[Any], Distribution]:
    return lambda d: make(d.loc, d.scale)


def _logits(make: Callable[..., Distribution]) -> Callable[[Any], Distribution]:
    def read(d: Any) -> Distribution:
        # The logits that a library computes from a probability of 0 have no finite derivative.
        if getattr(d, "_logits", None) is None and getattr(d, "_probs", None) is not None:
            return make(probs=d._probs)
        return make(logits=_first(d, "logits_parameter", "logits"))

    return read


def _diagonal(d: Any) -> Distribution:
    scale = d.scale_diag if hasattr(d, "scale_diag") else d.scale.diag_part()
    return _location_scale.Normal(d.loc, scale)


_FAMILIES: dict[str, Callable[[Any], Distribution]] = {
    "Bernoulli": _logits(_discrete.Bernoulli),
    "BernoulliLogits": _logits(_discrete.Bernoulli),
    "BernoulliProbs": lambda d: _discrete.Bernoulli(probs=d.probs),
    "Beta": lambda d: _gamma.Beta(
        _first(d, "concentration1", "alpha"), _first(d, "concentration0", "beta")
    ),
    "Categorical": _logits(_discrete.Categorical),
    "CategoricalLogits": _logits(_discrete.Categorical),
    "CategoricalProbs": lambda d: _discrete.Categorical(probs=d.probs),
    "Cauchy": _loc_scale(_location_scale.Cauchy),
    "Dirichlet": lambda d: _gamma.Dirichlet(d.concentration),
    "Exponential": lambda d: _positive.Exponential(d.rate),
    "Gamma": lambda d: _gamma.Gamma(d.concentration, d.rate),
    "Gumbel": _loc_scale(_location_scale.Gumbel),
    "Laplace": _loc_scale(_location_scale.Laplace),
    "Logistic": _loc_scale(_location_scale.Logistic),
    "MultivariateNormalDiag": _diagonal,
    "Normal": _loc_scale(_location_scale.Normal),
    "OneHotCategorical": _logits(_discrete.OneHotCategorical),
    "Poisson": lambda d: _discrete.Poisson(_first(d, "rate_parameter", "rate")),
    "StudentT": lambda d: _location_scale.StudentT(d.df, d.loc, d.scale),
    "Weibull": lambda d: _positive.Weibull(d.scale, d.concentration),
}


def _known(dist: Any) -> Distribution | None:
    if isinstance(dist, Distribution):
        return dist
    if type(dist).__module__.split(".")[0] not in LIBRARIES:
        return None
    name = type(dist).__name__
    if name == "Independent":
        return _known(getattr(dist, "base_dist", None) or dist.distribution)
    make = _FAMILIES.get(name)
    try:
        return make(dist) if make else None
    except (
        AttributeError,
        ValueError,
        TypeError,
    ):  # an unknown version, or parameters that need broadcasting
        return None


def as_event(dist: Any, where: str) -> Distribution:
    """Converts a distribution to a `Distribution`.

    Args:
      dist: a `Distribution`, or any object with `sample` and `log_prob`.
      where: the name of the calling function, for errors.

    Returns:
      A `Distribution`.

    Raises:
      TypeError: if `dist` has no `sample` or no `log_prob`.
      BatchShapeError: if `dist` is a batch of distributions.
    """
    check_one_event(dist, where)
    if isinstance(dist, Distribution):
        return dist
    known = _known(dist)
    if known is not None and hasattr(dist, "event_shape"):
        shape = dist.event_shape
        if tuple(shape() if callable(shape) else shape) != known.event_shape:
            known = None  # its parameters were broadcast
    return known if known is not None else Opaque(dist)
