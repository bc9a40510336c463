"""The range test for the learning rate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    chain,
    clip_by_global_norm,
    find_learning_rate,
    inject_hyperparams,
    scale,
    trace,
)
from optx_core import scale_by_learning_rate as sgd


def quadratic(params, batch):
    return 0.5 * jnp.sum(batch * params["w"] ** 2)


PARAMS = {"w": jnp.ones(2)}
CURVATURE = jnp.array([1.0, 10.0])  # gradient descent diverges above 0.2


def sweep(make=sgd, loss=quadratic, params=PARAMS, batches=None, **options):
    batches = itertools.repeat(CURVATURE) if batches is None else batches
    return find_learning_rate(make, loss, params, batches, **{"low": 1e-4, "high": 10.0, **options})


def by_hand(rates, smoothing):
    """The sweep on the quadratic, in NumPy."""
    w, average, losses, smoothed = np.ones(2), 0.0, [], []
    for k, rate in enumerate(rates, 1):
        losses.append(0.5 * np.sum([1.0, 10.0] * w**2))
        average = smoothing * average + (1 - smoothing) * losses[-1]
        smoothed.append(average / (1 - smoothing**k))
        w = w - rate * np.array([1.0, 10.0]) * w
    return np.array(losses), np.array(smoothed)


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.9])
def test_the_rates_grow_exponentially_and_the_losses_are_averaged(smoothing):
    made = sweep(steps=40, high=0.1, smoothing=smoothing)
    np.testing.assert_allclose(made.learning_rates, np.geomspace(1e-4, 0.1, 40), rtol=1e-12)
    losses, smoothed = by_hand(made.learning_rates, smoothing)
    np.testing.assert_allclose(made.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(made.smoothed, smoothed, rtol=1e-4)
    assert not made.diverged


def test_it_stops_where_the_loss_diverges_and_suggests_a_rate_below():
    made = sweep(steps=100)
    assert made.diverged
    assert len(made.losses) < 100
    assert made.learning_rates[-1] > 0.2
    assert 1e-3 < made.suggestion < 0.2
    slopes = np.gradient(made.smoothed, np.log(made.learning_rates))
    lowest = int(np.argmin(made.smoothed))
    assert made.suggestion == made.learning_rates[10 + np.argmin(slopes[10:lowest])]


def test_the_noise_of_the_first_steps_makes_no_suggestion():
    noise = np.random.default_rng(0).normal(size=60)
    batches = [(CURVATURE, jnp.float32(0.3 * x)) for x in noise]
    made = sweep(loss=lambda p, b: quadratic(p, b[0]) + b[1], batches=batches, steps=60)
    assert 1e-3 < made.suggestion < 0.3


def test_a_loss_that_is_not_finite_ends_the_sweep():
    made = sweep(loss=lambda p, b: jnp.where(p["w"][1] > 0.5, quadratic(p, b), jnp.nan), steps=60)
    assert made.diverged
    assert not np.isfinite(made.losses[-1])
    assert np.isfinite(made.losses[:-1]).all()
    assert made.suggestion is not None


def test_a_loss_that_never_falls_has_no_suggestion():
    assert sweep(make=scale, steps=10, high=1e-2).suggestion is None


def test_negative_losses_diverge_by_their_magnitude():
    made = sweep(loss=lambda p, b: quadratic(p, b) - 100.0, steps=100)
    assert made.diverged
    assert made.smoothed[-1] > made.smoothed.min() + 3 * abs(made.smoothed.min())


def test_it_ends_with_the_batches():
    made = sweep(batches=[CURVATURE] * 7, steps=100)
    assert len(made.losses) == 7
    assert not made.diverged


def test_neither_the_parameters_nor_the_batches_after_it_are_used():
    batches = iter([CURVATURE] * 9)
    sweep(batches=batches, steps=5)
    assert len(list(batches)) == 4
    np.testing.assert_array_equal(PARAMS["w"], 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: chain(clip_by_global_norm(1.0), trace(0.5), sgd(rate)),
        lambda rate: inject_hyperparams(sgd)(rate),
        lambda rate: scale(-rate),
    ],
)
def test_any_transformation_with_a_learning_rate_is_swept_in_one_compilation(make):
    traced = []

    def counted(rate):
        traced.append(1)
        return make(rate)

    assert sweep(make=counted, steps=20, high=0.05).learning_rates.shape == (20,)
    assert len(traced) <= 3  # init, one trace, and one more if the state's first types are weak


def test_what_the_loss_carries_goes_from_step_to_step():
    seen = []

    def loss(params, steps, batch):
        jax.debug.callback(lambda n: seen.append(int(n)), steps, ordered=True)
        return quadratic(params, batch), steps + 1

    sweep(loss=loss, steps=5, extra_state=jnp.int32(3))
    jax.effects_barrier()
    assert seen == [3, 4, 5, 6, 7]


WRONG = {
    "0 < low < high": [{"low": 0.0}, {"low": 1.0, "high": 1.0}, {"high": float("inf")}],
    "steps": [{"steps": 1}, {"steps": 2.5}],
    "smoothing": [{"smoothing": 1.0}, {"smoothing": -0.1}],
    "divergence": [{"divergence": 1.0}, {"divergence": float("nan")}],
    "the sweep ended after": [{"batches": []}, {"batches": [CURVATURE]}],
}


@pytest.mark.parametrize("message", WRONG)
def test_arguments_out_of_range_are_refused(message):
    for options in WRONG[message]:
        with pytest.raises(ValueError, match=f"find_learning_rate: {message}"):
            sweep(**options)
