"""The estimators as plain functions: shapes, parameters of any kind, control variates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_estimators import (
    Bernoulli,
    Normal,
    control_delta_method,
    control_variates_jacobians,
    measure_valued_jacobians,
    moving_avg_baseline,
    multi_normal,
    pathwise_jacobians,
    score_function_jacobians,
)

ESTIMATORS = [score_function_jacobians, pathwise_jacobians, measure_valued_jacobians]


def square(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("params", "build"),
    [
        ([jnp.ones(3), jnp.zeros(3)], multi_normal),
        ((jnp.ones((2, 2)), jnp.zeros((2, 2))), multi_normal),
        ([jnp.ones(()), jnp.zeros(())], multi_normal),
        ({"loc": jnp.ones(3), "log_scale": jnp.zeros(3)}, multi_normal),
        (jnp.ones(4), lambda loc: Normal(loc, 1.0)),
        ([{"a": jnp.ones(2)}, jnp.zeros(())], lambda t, s: multi_normal(t["a"], s)),
        ([jnp.ones(3, jnp.bfloat16), jnp.zeros(3, jnp.bfloat16)], multi_normal),
        ([jnp.ones(0), jnp.zeros(0)], multi_normal),
    ],
    ids=["vector", "matrix", "scalar", "dict", "bare", "nested", "bfloat16", "empty"],
)
def test_rows_have_the_shape_and_dtype_of_the_parameters(estimator, params, build):
    rows = jax.jit(lambda p, k: estimator(square, p, build, k, 6))(params, jax.random.key(0))
    assert jax.tree.structure(rows) == jax.tree.structure(params)
    for row, p in zip(jax.tree.leaves(rows), jax.tree.leaves(params), strict=True):
        assert row.shape == (6, *p.shape)
        assert row.dtype == p.dtype
        assert np.all(np.isfinite(np.asarray(row, np.float32)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_key_is_used_twice(estimator):
    with jax.debug_key_reuse(True):
        control_variates_jacobians(
            square,
            control_delta_method,
            estimator,
            [jnp.ones(3), jnp.zeros(3)],
            multi_normal,
            jax.random.key(1),
            8,
            estimate_cv_coeffs=True,
        )


@pytest.mark.parametrize("coupling", [True, False])
def test_the_evaluations_of_measure_valued_are_at_most_3ND_plus_N(coupling):
    counted = []

    def counts(x):
        jax.debug.callback(lambda _: counted.append(1), x[0])
        return square(x)

    D, N = 5, 7
    params = [jnp.ones(D), jnp.zeros(D)]
    rows = measure_valued_jacobians(counts, params, multi_normal, jax.random.key(0), N, coupling)
    jax.block_until_ready(rows)
    jax.effects_barrier()
    assert len(counted) == 3 * N * D + N


@pytest.mark.parametrize("estimator", [score_function_jacobians, pathwise_jacobians])
def test_memory_is_of_the_size_of_the_rows(estimator):
    D = N = 200
    params = [jnp.ones(D), jnp.zeros(D)]
    run = jax.jit(lambda p, k: estimator(square, p, multi_normal, k, N))
    compiled = run.lower(params, jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16 * N * D * 4


def test_measure_valued_at_a_thousand_dimensions_fits_in_64_megabytes():
    params = [jnp.ones(1000), jnp.zeros(1000)]
    run = jax.jit(lambda p, k: measure_valued_jacobians(square, p, multi_normal, k, 1000))
    compiled = run.lower(params, jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 64e6


def controlled(estimator, cv, N, seed, state=None, fit=False, f=square, D=1):
    params = [jnp.ones(D), jnp.zeros(D)]

    @jax.jit
    def run(params, key):
        return control_variates_jacobians(
            f, cv, estimator, params, multi_normal, key, N, state, fit
        )

    return run(params, jax.random.key(seed))


@pytest.mark.parametrize("N", [2, 4, 8])
def test_the_first_step_of_the_moving_average_is_unbiased(N):
    """A state updated before its use multiplies the gradient by 1 − 1/N."""

    @jax.jit
    @jax.vmap
    def mean(seed):
        rows, _ = control_variates_jacobians(
            square,
            moving_avg_baseline,
            score_function_jacobians,
            [jnp.ones(1), jnp.zeros(1)],
            multi_normal,
            jax.random.key(seed),
            N,
        )
        return jnp.mean(rows[0])

    means = np.asarray(mean(jnp.arange(20_000)))
    assert abs(means.mean() - 2) < 5 * means.std() / np.sqrt(len(means))
    assert 5 * means.std() / np.sqrt(len(means)) < 2 / N  # the bias would be seen


@pytest.mark.parametrize("zero_debias", [True, False])
@pytest.mark.parametrize("heuristic", [True, False])
def test_the_moving_average_of_a_constant_is_the_constant(zero_debias, heuristic):
    value, _, update = moving_avg_baseline(lambda x: jnp.float32(1.0), 0.95, zero_debias, heuristic)
    state, plain = (0.0, 0), 0.0
    for t in range(40):
        state = update(None, jnp.zeros((3, 1)), state)
        step = min(0.95, (1 + t) / (10 + t)) if heuristic else 0.95
        plain = step * plain + (1 - step)
        expected = 1.0 if zero_debias else plain
        assert float(value(None, None, state)) == pytest.approx(expected, rel=1e-5)
    assert int(state[1]) == 40


@pytest.mark.parametrize("heuristic", [True, False])
def test_the_debiased_average_is_the_weighted_mean_of_the_past(heuristic):
    _, _, update = moving_avg_baseline(jnp.sum, 0.9, True, heuristic)
    state, total, weight = None, 0.0, 0.0
    for t in range(30):
        new = float(np.sin(t))
        state = update(None, jnp.full((2, 1), new), state)
        step = min(0.9, (1 + t) / (10 + t)) if heuristic else 0.9
        total, weight = step * total + (1 - step) * new, step * weight + (1 - step)
        assert float(state[0]) == pytest.approx(total / weight, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_carry_the_variance_of_their_mean(estimator):
    N, repeats = 8, 4000
    keys = jnp.arange(repeats)

    @jax.jit
    @jax.vmap
    def one(seed):
        rows, _ = controlled(estimator, control_delta_method, N, seed, f=lambda x: jnp.sum(x**3))
        return jnp.mean(rows[0]), jnp.var(rows[0], ddof=1) / N

    means, reported = one(keys)
    actual = float(jnp.var(means))
    assert float(jnp.mean(reported)) == pytest.approx(actual, rel=0.15)
    assert abs(float(jnp.mean(means)) - 6) < 5 * np.sqrt(actual / repeats)  # 3(μ² + σ²)


def test_a_quadratic_under_the_delta_method_has_no_variance():
    rows, _ = controlled(pathwise_jacobians, control_delta_method, 64, 0, D=3)
    np.testing.assert_allclose(rows[0], 2.0, atol=1e-5)
    np.testing.assert_allclose(rows[1], 2.0, atol=1e-5)


BAD = [
    ("far from quadratic", lambda x: jnp.sum(jnp.cos(4 * x))),
    ("a step", lambda x: jnp.sum(jnp.tanh(8 * x))),
    ("steep", lambda x: jnp.sum(jnp.exp(0.5 * x))),
]


@pytest.mark.parametrize("estimator", [score_function_jacobians, pathwise_jacobians])
@pytest.mark.parametrize("row", BAD, ids=lambda r: r[0])
def test_a_fitted_coefficient_does_not_raise_the_variance(estimator, row):
    f, N = row[1], 4000
    params = [jnp.ones(1), jnp.zeros(1)]
    plain = estimator(f, params, multi_normal, jax.random.key(0), N)

    def rows(seed, n_fit):
        return control_variates_jacobians(
            f,
            control_delta_method,
            estimator,
            params,
            multi_normal,
            jax.random.key(seed),
            N,
            estimate_cv_coeffs=True,
            estimate_cv_coeffs_num_samples=n_fit,
        )[0]

    fitted = jax.jit(lambda seed: rows(seed, 2000))(0)
    for g, h in zip(plain, fitted, strict=True):
        assert float(jnp.var(h)) <= 1.1 * float(jnp.var(g))


def test_a_useless_control_variate_is_left_out():
    def noise(function):
        del function
        return (lambda p, x, s: jnp.cos(50 * jnp.sum(x)), lambda p, s: 0.0 * jnp.sum(p[0]), _keep)

    rows, _ = controlled(pathwise_jacobians, noise, 500, 0, fit=True, D=2)
    plain = pathwise_jacobians(
        square, [jnp.ones(2), jnp.zeros(2)], multi_normal, jax.random.key(0), 500
    )
    assert float(jnp.var(rows[0])) < 2 * float(jnp.var(plain[0]))


def _keep(params, samples, state):
    return state


def test_a_control_variate_may_depend_on_the_parameters_by_itself():
    def shifted(function):
        def value(params, x, state):
            return jnp.sum(params[0] * x)

        def expected_value(params, state):
            return jnp.sum(params[0] ** 2)

        return value, expected_value, _keep

    rows, _ = controlled(pathwise_jacobians, shifted, 20_000, 0, D=2)
    spread = np.asarray(rows[0]).std(0) / np.sqrt(20_000)
    assert np.all(abs(np.asarray(rows[0]).mean(0) - 2) < 5 * spread)


def test_the_fourth_power_has_four_times_the_cube_as_derivative():
    """E x⁴ at σ → 0 has the derivative 4μ³."""
    params = [jnp.array([1.5]), jnp.array([-12.0])]
    rows = pathwise_jacobians(lambda x: jnp.sum(x**4), params, multi_normal, jax.random.key(0), 10)
    np.testing.assert_allclose(rows[0], 4 * 1.5**3, rtol=1e-3)


def test_bernoulli_probabilities_are_differentiated():
    rows = measure_valued_jacobians(
        lambda x: jnp.sum(x * jnp.arange(3.0)),
        {"probs": jnp.array([0.2, 0.5, 0.7])},
        Bernoulli,
        jax.random.key(0),
        4,
    )
    np.testing.assert_allclose(rows["probs"], np.tile(np.arange(3.0), (4, 1)), rtol=1e-6)
