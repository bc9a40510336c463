"""Losses beside scikit-learn's metrics and SciPy's assignment, where they have the thing."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

import optx_losses as L

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5))
Y = RNG.normal(size=(40, 5))
LABELS = np.concatenate([np.arange(5), RNG.integers(0, 5, 35)])
BITS = RNG.integers(0, 2, 40)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


ROWS = {
    "cross entropy": (
        lambda: L.softmax_cross_entropy_with_integer_labels(X, LABELS),
        lambda: metrics.log_loss(LABELS, softmax(X)),
    ),
    "binary cross entropy": (
        lambda: L.sigmoid_binary_cross_entropy(X[:, 0], BITS),
        lambda: metrics.log_loss(BITS, 1 / (1 + np.exp(-X[:, 0]))),
    ),
    "squared error": (
        lambda: L.squared_error(X, Y),
        lambda: metrics.mean_squared_error(Y, X),
    ),
    "quantile": (
        lambda: L.quantile_loss(X, Y, quantile=0.3),
        lambda: metrics.mean_pinball_loss(Y, X, alpha=0.3),
    ),
    "hinge": (
        lambda: L.hinge_loss(X[:, 0], 2 * BITS - 1),
        lambda: metrics.hinge_loss(2 * BITS - 1, X[:, 0]),
    ),
    "multiclass hinge": (
        lambda: L.multiclass_hinge_loss(X, LABELS),
        lambda: metrics.hinge_loss(LABELS, X),
    ),
    "cosine distance": (
        lambda: L.cosine_distance(X, Y),
        lambda: metrics.pairwise.paired_cosine_distances(X, Y).mean(),
    ),
    "Poisson": (  # the deviance is twice the difference from that of a perfect prediction
        lambda: (
            2
            * (
                L.poisson_nll_loss(np.log(np.abs(X)), np.abs(Y))
                - L.poisson_nll_loss(np.log(np.abs(Y)), np.abs(Y))
            )
        ),
        lambda: metrics.mean_poisson_deviance(np.abs(Y).ravel(), np.abs(X).ravel()),
    ),
    "Lovász of a hard segmentation": (
        lambda: L.lovasz_softmax_loss(
            np.eye(5)[None, LABELS[::-1]], LABELS[None], apply_softmax=False
        ),
        lambda: 1 - metrics.jaccard_score(LABELS, LABELS[::-1], average="macro"),
    ),
    "dice of a hard segmentation": (
        lambda: L.binary_dice_loss(
            BITS[None, ::-1].astype(float), BITS[None], apply_sigmoid=False, smooth=0.0
        ),
        lambda: 1 - metrics.f1_score(BITS, BITS[::-1]),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_mean_is_that_of_scikit_learn(name, x64):
    ours, theirs = ROWS[name]
    np.testing.assert_allclose(jnp.mean(ours()), theirs(), rtol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (12, 5), (5, 12), (30, 30)])
def test_assignments_cost_what_those_of_scipy_cost(shape):
    costs = RNG.normal(size=shape).astype(np.float32)
    ours, theirs = L.hungarian_algorithm(costs), linear_sum_assignment(costs)
    assert set(zip(*map(list, map(np.asarray, ours)), strict=True)) == set(
        zip(*theirs, strict=True)
    )
