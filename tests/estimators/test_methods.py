"""Methods as values, perturbed functions, diagnostics."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_estimators as oe

MADE = [
    lambda: oe.score_function(oe.leave_one_out()),
    lambda: oe.score_function(oe.ema_baseline(0.9)),
    lambda: oe.pathwise(True),
    lambda: oe.measure_valued(False),
    lambda: oe.evolution(),
    lambda: oe.enumerate_support(),
    lambda: oe.gumbel_softmax(0.3),
    lambda: oe.straight_through(),
    lambda: oe.reinmax(),
    lambda: oe.arm(),
    lambda: oe.disarm(),
    lambda: oe.rebar(0.2),
    lambda: oe.controlled(oe.pathwise(), oe.control_delta_method),
    lambda: oe.sobol(),
    lambda: oe.lattice(),
]


@pytest.mark.parametrize("make", MADE, ids=lambda m: " ".join(repr(m()).split()))
def test_a_method_can_be_printed_compared_hashed_and_pickled(make):
    a, b = make(), make()
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert "object at" not in repr(a)


def argmax(x):
    return jax.nn.one_hot(jnp.argmax(x), 3)


@pytest.mark.parametrize(
    "options",
    [{}, {"use_baseline": False}, {"baseline": oe.leave_one_out()}],
    ids=["centre", "none", "leave-one-out"],
)
def test_a_perturbed_argmax_is_softmax_with_its_derivatives(jit, options):
    x, weights = np.array([0.3, -0.2, 0.5]), np.array([1.0, 2.0, 4.0])
    soft = oe.make_perturbed_fun(argmax, 50_000, 1.0, **options)

    def total(x, weights, key):
        return jnp.sum(weights * soft(key, x))

    single = x.astype(np.float32), weights.astype(np.float32)
    value, grad = jit(jax.value_and_grad(total))(*single, jax.random.key(0))
    p = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(value, weights @ p, atol=0.03)
    np.testing.assert_allclose(grad, p * (weights - weights @ p), atol=0.08)


def test_the_variance_that_is_reported_is_that_of_the_mean(x64):
    stats = oe.gradient_stats(
        lambda x: x**2,
        lambda m: oe.Normal(m, 1.0),
        jnp.array(1.0),
        jax.random.key(0),
        4,
        method=oe.score_function(oe.leave_one_out()),
        repeats=1500,
    )
    np.testing.assert_allclose(stats.variance, 5.3333, rtol=0.25)
    assert stats.evaluations == 4
    np.testing.assert_allclose(stats.snr, 2 / np.sqrt(5.3333), rtol=0.25)


def test_select_takes_the_least_variance_and_leaves_out_what_does_not_hold():
    choice = oe.select(
        [oe.score_function(), oe.score_function(oe.leave_one_out()), oe.pathwise(), oe.reinmax()],
        16,
        lambda x: jnp.sum((x - 0.45) ** 2),
        oe.Bernoulli,
        jnp.zeros(2),
        jax.random.key(0),
        repeats=16,
    )
    assert choice.method == oe.score_function(oe.leave_one_out())
    assert len(choice.table) == 2
    assert "variance" in str(choice.table)
    with pytest.raises(oe.EstimatorError, match="biased"):
        oe.select([oe.reinmax()], 4, jnp.sum, oe.Bernoulli, jnp.zeros(2), jax.random.key(0))


def test_rebar_learns_to_lower_its_variance(jit):
    from optx_core import scale

    method = oe.rebar(0.5, optimizer=scale(-0.5))
    fn = oe.value_and_grad(
        lambda x: jnp.sum((x - 0.49) ** 2), oe.Bernoulli, method=method, num_samples=64
    )
    p = np.zeros(1, np.float32)

    @jit
    def second_moments(p):
        z = fn.estimator.draw(p, jax.random.key(1), 4096)

        def at(state):
            return jnp.mean(fn.estimator.gradients(p, z, state) ** 2)

        def step(state, seed):
            return fn(p, jax.random.key(seed), state)[1], None

        state = fn.init(p)
        trained, _ = jax.lax.scan(step, state, jnp.arange(60))
        return jax.lax.map(at, jax.tree.map(lambda *s: jnp.stack(s), state, trained))

    before, after = second_moments(p)
    assert after < before
