"""CTC beside all of its alignments, written out."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

FRAMES, CLASSES = 3, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(1, FRAMES, CLASSES))
LOG_P = np.asarray(LOGITS[0] - np.log(np.exp(LOGITS[0]).sum(-1, keepdims=True)))


def paths(labels, frames):
    """The log-probability of each path over some frames that spells the labels."""
    for path in itertools.product(range(CLASSES), repeat=frames):
        if [k for k, _ in itertools.groupby(path) if k] == list(labels):
            yield path, sum(LOG_P[t, k] for t, k in enumerate(path))


def log_sum(terms):
    return np.logaddexp.reduce(terms) if terms else -math.inf


@functools.partial(jax.jit, static_argnames=("zero_infinity", "log_epsilon"))
def loss_of(logits, labels, padding, **kwargs):
    return L.ctc_loss(logits, jnp.zeros(logits.shape[:2]), labels, padding, **kwargs)[0]


@jax.jit
def derivatives_of(logits, labels, padding):
    """The gradient, and the product of the Hessian with a direction."""
    gradient = jax.grad(lambda x: loss_of(x, labels, padding))
    return jax.jvp(gradient, (logits,), (jnp.tanh(logits),))


@jax.jit
def forward_of(logits, labels, padding):
    return L.ctc_loss_with_forward_probs(logits, jnp.zeros(logits.shape[:2]), labels, padding)


def padded(labels):
    """Labels and their padding, of the length of the longest row here, so that one program serves all."""
    padding = np.arange(4)[None] >= len(labels)
    return jnp.asarray([[*labels, 0, 0, 0, 0][:4]], jnp.int32), jnp.asarray(padding)


def ctc(logits, labels, **kwargs):
    return loss_of(logits, *padded(labels), **kwargs)


@pytest.mark.parametrize(
    "labels", [[], [1], [1, 2], [1, 1], [1, 2, 3], [1, 1, 2], [1, 1, 1], [1, 2, 3, 1]]
)
def test_losses_are_sums_over_all_alignments_and_infinite_without_one(labels, x64):
    expected = -log_sum([p for _, p in paths(labels, FRAMES)])
    x = jnp.asarray(LOGITS)
    np.testing.assert_allclose(ctc(x, labels), expected, rtol=1e-10)
    slope, product = derivatives_of(x, *padded(labels))
    assert np.isfinite(slope).all()
    assert np.isfinite(product).all()
    if expected == math.inf:
        np.testing.assert_array_equal(slope, 0)
        np.testing.assert_array_equal(product, 0)
        assert ctc(x, labels, zero_infinity=True) == 0
        assert 9e4 < ctc(x, labels, log_epsilon=-1e5) < 2e5
    else:
        assert ctc(x, labels, zero_infinity=True) == ctc(x, labels)
        assert np.abs(slope).max() > 1e-3


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [1, 2, 3]])
def test_forward_probabilities_are_those_of_all_beginnings_at_every_frame(labels, x64):
    n = len(labels)
    loss, blank, label = forward_of(jnp.asarray(LOGITS), *padded(labels))
    np.testing.assert_allclose(loss[0], ctc(jnp.asarray(LOGITS), labels), rtol=1e-12)
    for t in range(FRAMES):
        for i in range(n + 1):
            so_far = list(paths(labels[:i], t + 1))
            np.testing.assert_allclose(
                blank[t, 0, i], log_sum([p for path, p in so_far if path[-1] == 0]), rtol=1e-10
            )
            if i:
                np.testing.assert_allclose(
                    label[t, 0, i - 1],
                    log_sum([p for path, p in so_far if path[-1] != 0]),
                    rtol=1e-10,
                )


def test_a_loss_of_more_than_1e5_is_not_cut_off():
    frames = 3000
    logits = jnp.zeros((1, frames, 5)).at[..., 4].set(50)
    # Two labels split the frames into five runs, of which the blanks' may be empty.
    alignments = math.log(math.comb(frames + 2, 4))
    expected = frames * (50 + math.log1p(4 * math.exp(-50))) - alignments
    np.testing.assert_allclose(ctc(logits, [1, 2]), expected, rtol=1e-4)
    assert np.isfinite(derivatives_of(logits, *padded([1, 2]))[0]).all()


def test_an_excluded_class_that_a_label_needs_gives_an_infinite_loss_and_no_gradient():
    x = jnp.asarray(LOGITS, jnp.float32).at[..., 1].set(-jnp.inf)
    assert ctc(x, [1]) == jnp.inf
    slope, product = derivatives_of(x, *padded([1]))
    assert np.isfinite(slope).all()
    assert np.isfinite(product).all()


def test_padding_and_excluded_examples_may_hold_anything():
    x = jnp.asarray(np.concatenate([LOGITS, LOGITS]), jnp.float32)
    frames = jnp.zeros((2, FRAMES)).at[0, 2].set(1)
    labels, length = jnp.array([[1, -5], [9, 9]]), jnp.array([[0, 1], [0, 0]])
    where = jnp.array([True, False])

    def loss(x):
        return L.ctc_loss_with_forward_probs(x, frames, labels, length, where=where)[0]

    @jax.jit
    def results(fill):
        full = x.at[0, 2].set(fill).at[1].set(fill)
        gradient = jax.grad(lambda x: jnp.sum(loss(x)))
        return loss(full), jax.jvp(gradient, (full,), (jnp.ones_like(full),))

    expected = [ctc(x[:1, :2], [1]), 0]
    for fill in (0.0, jnp.nan, jnp.inf, -jnp.inf):
        value, derivatives = results(fill)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for part in derivatives:
            assert np.isfinite(part).all()
            np.testing.assert_array_equal(part[0, 2], 0)
            np.testing.assert_array_equal(part[1], 0)
