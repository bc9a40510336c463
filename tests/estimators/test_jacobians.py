"""The estimators as plain functions: shapes, parameters of any kind, control variates."""

import functools

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


def ones_and_zeros(*shape):
    return [np.ones(shape, np.float32), np.zeros(shape, np.float32)]


LOC, LOG_SCALE = ones_and_zeros(3)
PARAMETERS = {
    "vector": ([LOC, LOG_SCALE], multi_normal),
    "matrix": (tuple(ones_and_zeros(2, 2)), multi_normal),
    "scalar": (ones_and_zeros(), multi_normal),
    "dict": ({"loc": LOC, "log_scale": LOG_SCALE}, multi_normal),
    "bare": (np.ones(4, np.float32), lambda loc: Normal(loc, 1.0)),
    "nested": ([{"a": LOC}, np.float32(0)], lambda t, s: multi_normal(t["a"], s)),
    "bfloat16": ([LOC.astype(jnp.bfloat16), LOG_SCALE.astype(jnp.bfloat16)], multi_normal),
    "empty": (ones_and_zeros(0), multi_normal),
}


@functools.cache
def rows_by_name(jit, estimator):
    builders = {name: build for name, (_, build) in PARAMETERS.items()}

    @jit
    def run(params, key):
        return {name: estimator(square, p, builders[name], key, 6) for name, p in params.items()}

    return run({name: p for name, (p, _) in PARAMETERS.items()}, jax.random.key(0))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_rows_have_the_shape_and_dtype_of_the_parameters(jit, estimator, name):
    params, rows = PARAMETERS[name][0], rows_by_name(jit, estimator)[name]
    assert jax.tree.structure(rows) == jax.tree.structure(params)
    for row, p in zip(jax.tree.leaves(rows), jax.tree.leaves(params), strict=True):
        assert row.shape == (6, *p.shape)
        assert row.dtype == p.dtype
        assert np.all(np.isfinite(np.asarray(row, np.float32)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_key_is_used_twice(estimator):
    def rows(key):
        return control_variates_jacobians(
            square,
            control_delta_method,
            estimator,
            [LOC, LOG_SCALE],
            multi_normal,
            key,
            8,
            estimate_cv_coeffs=True,
        )

    with jax.debug_key_reuse(True):  # which looks at the traced program
        jax.eval_shape(rows, jax.random.key(1))


def test_a_key_that_is_used_twice_would_be_seen():
    def twice(key):
        return measure_valued_jacobians(square, [LOC, LOG_SCALE], multi_normal, key, 8), (
            jax.random.normal(key)
        )

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.eval_shape(twice, jax.random.key(1))


@pytest.mark.parametrize("coupling", [True, False])
def test_the_evaluations_of_measure_valued_are_at_most_3ND_plus_N(jit, coupling):
    counted = []

    def counts(x):
        jax.debug.callback(lambda _: counted.append(1), x[0])
        return square(x)

    D, N = 5, 7
    rows = jit(lambda p, k: measure_valued_jacobians(counts, p, multi_normal, k, N, coupling))(
        ones_and_zeros(D), jax.random.key(0)
    )
    jax.block_until_ready(rows)
    jax.effects_barrier()
    assert len(counted) == 3 * N * D + N


@pytest.mark.parametrize("estimator", [score_function_jacobians, pathwise_jacobians])
def test_memory_is_of_the_size_of_the_rows(jit, estimator):
    D = N = 200
    run = jit(lambda p, k: estimator(square, p, multi_normal, k, N))
    compiled = run.lower(ones_and_zeros(D), jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16 * N * D * 4


def test_measure_valued_at_a_thousand_dimensions_fits_in_64_megabytes(jit):
    run = jit(lambda p, k: measure_valued_jacobians(square, p, multi_normal, k, 1000))
    compiled = run.lower(ones_and_zeros(1000), jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 64e6


def controlled(estimator, cv, N, seed, f=square, D=1, **fit):
    """Rows of gradients at the mean 1 and the scale 1, and the state."""
    key = jax.random.key(seed)
    return control_variates_jacobians(
        f, cv, estimator, ones_and_zeros(D), multi_normal, key, N, **fit
    )


@pytest.mark.parametrize("N", [2, 4, 8])
def test_the_first_step_of_the_moving_average_is_unbiased(jit, N):
    """A state updated before its use multiplies the gradient by 1 − 1/N."""

    @jit
    @jax.vmap
    def mean(seed):
        rows, _ = controlled(score_function_jacobians, moving_avg_baseline, N, seed)
        return jnp.mean(rows[0])

    means = np.asarray(mean(np.arange(20_000)))
    assert abs(means.mean() - 2) < 5 * means.std() / np.sqrt(len(means))
    assert 5 * means.std() / np.sqrt(len(means)) < 2 / N  # the bias would be seen


@pytest.mark.parametrize("zero_debias", [True, False])
@pytest.mark.parametrize("heuristic", [True, False])
def test_the_moving_average_of_a_constant_is_the_constant(jit, zero_debias, heuristic):
    value, _, update = moving_avg_baseline(lambda x: jnp.float32(1.0), 0.95, zero_debias, heuristic)
    state, plain = (0.0, 0), 0.0
    step_of = jit(lambda state: update(None, np.zeros((3, 1), np.float32), state))
    value_of = jit(lambda state: value(None, None, state))
    for t in range(40):
        state = step_of(state)
        step = min(0.95, (1 + t) / (10 + t)) if heuristic else 0.95
        plain = step * plain + (1 - step)
        expected = 1.0 if zero_debias else plain
        assert float(value_of(state)) == pytest.approx(expected, rel=1e-5)
    assert int(state[1]) == 40


@pytest.mark.parametrize("heuristic", [True, False])
def test_the_debiased_average_is_the_weighted_mean_of_the_past(jit, heuristic):
    _, _, update = moving_avg_baseline(jnp.sum, 0.9, True, heuristic)
    state, total, weight = None, 0.0, 0.0
    step_of = jit(lambda new, state: update(None, jnp.full((2, 1), new), state))
    for t in range(30):
        new = float(np.sin(t))
        state = step_of(new, state)
        step = min(0.9, (1 + t) / (10 + t)) if heuristic else 0.9
        total, weight = step * total + (1 - step) * new, step * weight + (1 - step)
        assert float(state[0]) == pytest.approx(total / weight, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_carry_the_variance_of_their_mean(jit, estimator):
    N, repeats = 8, 4000

    @jit
    @jax.vmap
    def one(seed):
        cubic = lambda x: jnp.sum(x**3)
        rows, _ = controlled(estimator, control_delta_method, N, seed, cubic)
        return jnp.mean(rows[0]), jnp.var(rows[0], ddof=1) / N

    means, reported = map(np.asarray, one(np.arange(repeats)))
    actual = means.var()
    assert reported.mean() == pytest.approx(actual, rel=0.15)
    assert abs(means.mean() - 6) < 5 * np.sqrt(actual / repeats)  # 3(μ² + σ²)


def test_a_quadratic_under_the_delta_method_has_no_variance(jit):
    rows, _ = jit(lambda: controlled(pathwise_jacobians, control_delta_method, 64, 0, D=3))()
    np.testing.assert_allclose(rows[0], 2.0, atol=1e-5)
    np.testing.assert_allclose(rows[1], 2.0, atol=1e-5)


BAD = {
    "far from quadratic": (1.0, 0.0, 0.0),
    "a step": (0.0, 1.0, 0.0),
    "steep": (0.0, 0.0, 1.0),
}


def badly_quadratic(parts):
    return lambda x: jnp.sum(
        parts[0] * jnp.cos(4 * x) + parts[1] * jnp.tanh(8 * x) + parts[2] * jnp.exp(0.5 * x)
    )


@functools.cache
def plain_and_fitted(jit, estimator):
    N, fit = 4000, {"estimate_cv_coeffs": True, "estimate_cv_coeffs_num_samples": 2000}

    def run(parts):
        f = badly_quadratic(parts)
        plain = estimator(f, ones_and_zeros(1), multi_normal, jax.random.key(0), N)
        return plain, controlled(estimator, control_delta_method, N, 0, f, **fit)[0]

    return jit(run)


@pytest.mark.parametrize("estimator", [score_function_jacobians, pathwise_jacobians])
@pytest.mark.parametrize("parts", BAD.values(), ids=BAD)
def test_a_fitted_coefficient_does_not_raise_the_variance(jit, estimator, parts):
    rows = plain_and_fitted(jit, estimator)(np.array(parts, np.float32))
    for g, h in zip(*rows, strict=True):
        assert np.var(h) <= 1.1 * np.var(g)


def test_a_useless_control_variate_is_left_out(jit):
    def noise(function):
        del function
        return (lambda p, x, s: jnp.cos(50 * jnp.sum(x)), lambda p, s: 0.0 * jnp.sum(p[0]), _keep)

    @jit
    def run():
        plain = pathwise_jacobians(square, ones_and_zeros(2), multi_normal, jax.random.key(0), 500)
        return plain, controlled(pathwise_jacobians, noise, 500, 0, D=2, estimate_cv_coeffs=True)[0]

    plain, fitted = run()
    assert np.var(fitted[0]) < 2 * np.var(plain[0])


def _keep(params, samples, state):
    return state


def test_a_control_variate_may_depend_on_the_parameters_by_itself(jit):
    def shifted(function):
        def value(params, x, state):
            return jnp.sum(params[0] * x)

        def expected_value(params, state):
            return jnp.sum(params[0] ** 2)

        return value, expected_value, _keep

    rows, _ = jit(lambda: controlled(pathwise_jacobians, shifted, 20_000, 0, D=2))()
    spread = np.asarray(rows[0]).std(0) / np.sqrt(20_000)
    assert np.all(abs(np.asarray(rows[0]).mean(0) - 2) < 5 * spread)


def test_the_fourth_power_has_four_times_the_cube_as_derivative(jit):
    """E x⁴ at σ → 0 has the derivative 4μ³."""
    params = [np.array([1.5], np.float32), np.array([-12.0], np.float32)]
    rows = jit(lambda p, k: pathwise_jacobians(lambda x: jnp.sum(x**4), p, multi_normal, k, 10))(
        params, jax.random.key(0)
    )
    np.testing.assert_allclose(rows[0], 4 * 1.5**3, rtol=1e-3)


def test_bernoulli_probabilities_are_differentiated(jit):
    def rows(params, key):
        f = lambda x: jnp.sum(x * np.arange(3, dtype=np.float32))
        return measure_valued_jacobians(f, params, Bernoulli, key, 4)

    probs = np.array([0.2, 0.5, 0.7], np.float32)
    rows = jit(rows)({"probs": probs}, jax.random.key(0))
    np.testing.assert_allclose(rows["probs"], np.tile(np.arange(3.0), (4, 1)), rtol=1e-6)
