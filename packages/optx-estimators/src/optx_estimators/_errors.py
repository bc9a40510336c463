"""What this package refuses, each by its own name.

An estimator used where it does not hold gives a number all the same: zero, or a wrong one. Every
such case that can be seen is one of these errors instead.
"""

from __future__ import annotations


class EstimatorError(ValueError):
    """The base of all refusals of this package."""


class BatchShapeError(EstimatorError):
    """The distribution is a batch of distributions; an estimator needs one event."""


class CoupledRowsError(EstimatorError):
    """Rows that share samples were asked for as if they were independent."""


class NoDerivativeError(EstimatorError):
    """The estimator has no derivative with respect to a parameter that is differentiated."""


class NotReparameterizedError(EstimatorError):
    """A pathwise derivative through a sampler whose samples do not move with the parameters."""


class SecondDerivativeError(EstimatorError):
    """A derivative of second or higher order of an estimator that is right to the first only."""


class UnsupportedDistributionError(EstimatorError):
    """The method does not know this distribution."""
