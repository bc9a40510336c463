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
def test_a_perturbed_argmax_is_softmax_with_its_derivatives(options):
    x, weights = jnp.array([0.3, -0.2, 0.5]), jnp.array([1.0, 2.0, 4.0])
    soft = oe.make_perturbed_fun(argmax, 50_000, 1.0, **options)
    value, grad = jax.jit(
        jax.value_and_grad(lambda x: jnp.sum(weights * soft(jax.random.key(0), x)))
    )(x)
    exact = jax.value_and_grad(lambda x: jnp.sum(weights * jax.nn.softmax(x)))(x)
    np.testing.assert_allclose(value, exact[0], atol=0.03)
    np.testing.assert_allclose(grad, exact[1], atol=0.08)


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


def test_rebar_learns_to_lower_its_variance():
    from optx_core import scale

    method = oe.rebar(0.5, optimizer=scale(-0.5))
    fn = oe.value_and_grad(
        lambda x: jnp.sum((x - 0.49) ** 2), oe.Bernoulli, method=method, num_samples=64
    )
    p = jnp.zeros(1)

    def second_moment(state, key):
        z = fn.estimator.draw(p, key, 4096)
        return float(jnp.mean(fn.estimator.gradients(p, z, state) ** 2))

    state = fn.init(p)
    before = second_moment(state, jax.random.key(1))
    step = jax.jit(lambda state, key: fn(p, key, state)[1])
    for key in jax.random.split(jax.random.key(0), 60):
        state = step(state, key)
    assert second_moment(state, jax.random.key(1)) < before
