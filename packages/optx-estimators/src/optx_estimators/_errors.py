"""The errors of this package.

An estimator that does not hold for a problem would return zero or another wrong number. Every such case
that can be detected raises one of these errors.
"""

from __future__ import annotations


class EstimatorError(ValueError):
    """The base class of the errors of this package."""


class BatchShapeError(EstimatorError):
    """The distribution is a batch of distributions; an estimator needs one event."""


class CoupledRowsError(EstimatorError):
    """Independent rows were requested of a method or noise whose rows depend on one another."""


class NoDerivativeError(EstimatorError):
    """The estimator has no derivative with respect to a parameter that is differentiated."""


class NotReparameterizedError(EstimatorError):
    """A pathwise derivative was taken through samples that do not move with the parameters."""


class SecondDerivativeError(EstimatorError):
    """A higher derivative was taken of an estimator that holds to first order only."""


class UnsupportedDistributionError(EstimatorError):
    """The method does not support this distribution."""
