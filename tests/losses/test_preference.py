"""Preference losses beside TRL's definitions in NumPy, packed answers, and labels of next tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

RNG = np.random.default_rng(0)
C, R, REF_C, REF_R = 20 * -np.abs(RNG.normal(size=(4, 7)))
BETA, E = 0.1, 0.2

log_sigmoid = lambda x: -np.logaddexp(0, -x)
sigmoid = lambda x: 1 / (1 + np.exp(-x))
logistic = lambda h: -(1 - E) * log_sigmoid(h) - E * log_sigmoid(-h)

# name: (options, TRL's definition as a function of a and b, the log-ratios of both answers)
CASES = {
    "dpo_loss": ({"label_smoothing": E}, lambda a, b: logistic(BETA * (a - b))),
    "robust_dpo_loss": (
        {"label_smoothing": E},
        lambda a, b: (-(1 - E) * log_sigmoid(BETA * (a - b)) + E * log_sigmoid(BETA * (b - a))) / (1 - 2 * E)),
    "ipo_loss": ({}, lambda a, b: (a - b - 1 / (2 * BETA)) ** 2),
    "slic_loss": ({}, lambda a, b: np.maximum(1 - BETA * (a - b), 0)),
    "exo_loss": (
        {"label_smoothing": E},
        lambda a, b: (
            sigmoid(BETA * (a - b)) * (log_sigmoid(BETA * (a - b)) - np.log(1 - E))
            + sigmoid(BETA * (b - a)) * (log_sigmoid(BETA * (b - a)) - np.log(E)))),
    "nca_loss": (
        {},
        lambda a, b: -log_sigmoid(BETA * a) - 0.5 * log_sigmoid(-BETA * a) - 0.5 * log_sigmoid(-BETA * b)),
    "sppo_loss": ({}, lambda a, b: (a - 0.5 / BETA) ** 2 + (b + 0.5 / BETA) ** 2),
    "apo_zero_loss": ({}, lambda a, b: 1 - sigmoid(BETA * a) + sigmoid(BETA * b)),
    "apo_down_loss": ({}, lambda a, b: sigmoid(BETA * a) + 1 - sigmoid(BETA * (a - b))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_preference_losses_are_those_of_trl_with_and_without_a_reference(name, x64):
    options, oracle = CASES[name]
    loss = lambda c, r, *refs: getattr(L, name)(c, r, *refs, beta=BETA, **options)

    @jax.jit
    def results(c, r, ref_c, ref_r):
        total = lambda c, r: jnp.sum(loss(c, r, ref_c, ref_r))
        return loss(c, r), loss(c, r, ref_c, ref_r), jax.grad(total, (0, 1))(c, r)

    alone, value, gradient = results(C, R, REF_C, REF_R)
    np.testing.assert_allclose(alone, oracle(C, R), rtol=1e-10)
    a, b = C - REF_C, R - REF_R
    np.testing.assert_allclose(value, oracle(a, b), rtol=1e-10)
    h = 1e-5
    for got, da, db in zip(gradient, (h, 0), (0, h), strict=True):
        want = (oracle(a + da, b + db) - oracle(a - da, b - db)) / (2 * h)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)
    # Padding has no effect, and the extremes are finite.
    far = jnp.array([0.0, 1e4, -1e4, jnp.nan])
    masked = jax.jit(
        jax.value_and_grad(
            lambda c, r: jnp.sum(getattr(L, name)(c, r, where=jnp.arange(4) < 3, **options)), (0, 1)
        )
    )(far, -far)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(masked))
    with pytest.raises(ValueError, match=f"{name}: reference_chosen and reference_rejected"):
        loss(C, R, REF_C)
    with pytest.raises(ValueError, match=f"{name}: beta is .*must be a scalar"):
        getattr(L, name)(C, R, beta=np.full((7, 1), BETA))


def test_simpo_with_flipped_labels_is_that_of_trl(x64):
    got = L.simpo_loss(C, R, beta=2.0, gamma=0.5, label_smoothing=E)
    np.testing.assert_allclose(got, logistic(2.0 * (C - R - 0.25)), rtol=1e-10)


def test_the_divergence_of_a_batch_is_the_mean_of_its_answers_at_least_0_without_a_gradient(x64):
    there = np.arange(7) != 2
    p, r = np.where(there, C, np.nan), np.where(there, REF_C, np.inf)
    mean = (C - REF_C)[there].mean()
    np.testing.assert_allclose(L.kto_kl(p, r, where=there), max(mean, 0), rtol=1e-12)
    np.testing.assert_allclose(L.kto_kl(r, p, where=there), max(-mean, 0), rtol=1e-12)
    np.testing.assert_array_equal(jax.grad(lambda p: L.kto_kl(p, r, where=there))(p), 0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_packed_answers_have_the_log_probabilities_of_answers_in_rows(reduction, x64):
    log_p = np.array([[-1.0, -2, -3, np.nan, -4], [-5, np.inf, -6, -7, -8]])
    ids = np.array([[0, 0, 2, 2, 1], [1, 1, 1, 0, 0]])
    there = np.isfinite(log_p)
    got = L.answer_log_probs(
        log_p, reduction=reduction, segment_ids=ids, num_segments=3, where=there
    )
    of = getattr(np, reduction)
    want = [[of([-1.0, -2]), -4, -3], [of([-7.0, -8]), of([-5.0, -6]), 0]]
    np.testing.assert_allclose(got, want)
    beyond = L.answer_log_probs(
        log_p, reduction=reduction, segment_ids=ids, num_segments=2, where=there
    )
    assert np.isnan(beyond[0]).all()
    np.testing.assert_allclose(beyond[1], want[1][:2])
    with pytest.raises(ValueError, match="segment_ids and num_segments go together"):
        L.answer_log_probs(log_p, segment_ids=ids)
    for wrong in (-1, 2.0, True):
        with pytest.raises(ValueError, match="num_segments must be a positive number"):
            L.answer_log_probs(log_p, segment_ids=ids, num_segments=wrong)


def test_no_token_predicts_across_the_end_of_its_sequence():
    tokens, ids = np.array([[5, 6, 7, 8, 9]]), np.array([[1, 1, 2, 2, 2]])
    where = np.array([[True, True, True, True, False]])
    np.testing.assert_array_equal(L.next_token_labels(tokens), [[6, 7, 8, 9, -100]])
    np.testing.assert_array_equal(
        L.next_token_labels(tokens, segment_ids=ids, where=where, ignore_index=-1),
        [[6, -1, 8, -1, -1]],
    )
    logits = jnp.asarray(RNG.normal(size=(1, 5, 10)), jnp.float32)
    whole = L.softmax_cross_entropy_with_integer_labels(
        logits, L.next_token_labels(tokens, segment_ids=ids), ignore_index=-100
    )
    parts = [
        L.softmax_cross_entropy_with_integer_labels(logits[:, a : b - 1], tokens[:, a + 1 : b])
        for a, b in ((0, 2), (2, 5))
    ]
    np.testing.assert_allclose(whole[:, [0, 2, 3]], jnp.concatenate(parts, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(whole[:, [1, 4]], 0)
    with pytest.raises(ValueError, match="segment_ids is"):
        L.next_token_labels(tokens, segment_ids=ids[0])
    with pytest.raises(ValueError, match="ignore_index=1099511627776 is out of range"):
        L.next_token_labels(np.int32(tokens), ignore_index=2**40)
