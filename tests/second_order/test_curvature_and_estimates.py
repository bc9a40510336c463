"""Gauss-Newton, Fisher, products, estimates and sketches, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from optx_second_order import (
    Likelihood,
    activation_estimator,
    bernoulli,
    categorical,
    exact_hessian_diag,
    fisher_diag,
    fisher_vp,
    gaussian,
    ggn_diag,
    ggn_estimator,
    ggn_vp,
    gnb_estimator,
    hessian_diag,
    hessian_diag_estimate,
    hessian_vp,
    hutchinson_diag,
    hutchinson_estimator,
    hutchinson_trace,
    hutchpp_trace,
    hvp,
    linearize_hessian_vp,
    poisson,
    true_fisher_diag,
    xdiag,
)

LIKELIHOODS = {
    "categorical": (categorical(), lambda rng: rng.integers(0, 3, 6)),
    "bernoulli": (bernoulli(), lambda rng: rng.integers(0, 2, (6, 3)).astype(float)),
    "gaussian": (gaussian(0.7), lambda rng: rng.normal(size=(6, 3))),
    "poisson": (poisson(), lambda rng: rng.integers(0, 5, (6, 3))),
}


def model(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["t"] @ p["t2"]


def problem(name="categorical"):
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 5), "b": (5,), "t": (5, 3), "t2": (3, 3)}
    params = {k: jnp.asarray(rng.normal(size=s)) for k, s in shapes.items()}
    likelihood, labels = LIKELIHOODS[name]
    return likelihood, params, jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(labels(rng))


def gauss_newton(loss, params, x, y):
    flat, unravel = ravel_pytree(params)

    def one(x, y):
        j = jax.jacobian(lambda q: model(unravel(q), x))(flat)
        h = jax.hessian(lambda f: loss(f, y))(model(params, x))
        return j.T @ h @ j

    return jax.jit(lambda: jnp.mean(jax.vmap(one)(x, y), axis=0))()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_gauss_newton_matrix_has_the_diagonal_and_products_of_its_definition(name, x64):
    likelihood, params, x, y = problem(name)
    matrix = gauss_newton(likelihood.nll, params, x, y)
    v = jax.tree.map(jnp.sin, params)
    close = lambda a, b: np.testing.assert_allclose(ravel_pytree(a)[0], b, rtol=1e-10, atol=1e-12)

    @jax.jit
    def found(params, v):
        return (
            [ggn_diag(model, likelihood, params, x), ggn_diag(model, likelihood.nll, params, x, y)],
            [
                ggn_vp(model, likelihood, params, v, x),
                ggn_vp(model, likelihood.nll, params, v, x, y),
                fisher_vp(model, likelihood, params, v, x),
            ],
        )

    diagonals, products = found(params, v)
    for diagonal in diagonals:
        close(diagonal, jnp.diag(matrix))
    for product in products:
        close(product, matrix @ ravel_pytree(v)[0])


EXTREME = [-1e4, -100.0, -30.0, 0.0, 30.0, 100.0, 1e4]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_confident_outputs_have_finite_curvature(name):
    likelihood = LIKELIHOODS[name][0]
    y = jnp.array(0) if name == "categorical" else jnp.array([0.0, 1.0, 1.0])
    outputs = jnp.array([[value, 0.0, 1.0] for value in EXTREME if name != "poisson" or value < 50])
    derivatives = jax.jit(
        jax.vmap(
            lambda f: (
                likelihood.nll(f, y),
                jax.grad(likelihood.nll)(f, y),
                jax.hessian(likelihood.nll)(f, y),
                jax.jacobian(lambda u: likelihood.root(f, u))(f),
                jax.jacobian(lambda f: likelihood.root(f, jnp.ones(3)))(f),
            )
        )
    )(outputs)
    for derivative in derivatives:
        assert jnp.isfinite(derivative).all()
    _, _, hessian, root, _ = derivatives
    np.testing.assert_allclose(root @ jnp.swapaxes(root, 1, 2), hessian, rtol=1e-4, atol=1e-6)


def test_one_confident_example_does_not_spoil_the_diagonal():
    w, x = {"w": jnp.array([1.0, -2.0])}, jnp.array([[0.3, 0.1], [-1e3, 1e3], [0.2, -0.4]])
    y = jnp.array([1.0, 0.0, 0.0])
    model = lambda p, x: x @ p["w"]
    loss = lambda p, x, y: bernoulli().nll(model(p, x), y)
    p = jax.nn.sigmoid(x @ w["w"])
    exact = jnp.mean((p * (1 - p))[:, None] * x**2, axis=0)
    for diagonal in (
        exact_hessian_diag(loss, w, x, y),
        ggn_diag(model, bernoulli(), w, x),
        ggn_diag(model, bernoulli().nll, w, x, y),
    ):
        np.testing.assert_allclose(diagonal["w"], exact, rtol=1e-5)
    others = (
        hessian_vp(loss, w, w, x, y),
        ggn_vp(model, bernoulli(), w, w, x),
        hessian_diag_estimate(loss, w, x, y, key=jax.random.key(0)).value,
        true_fisher_diag(model, bernoulli(), w, x, method="mc", key=jax.random.key(0)),
    )
    for vector in others:
        assert jnp.isfinite(vector["w"]).all()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("method", ["mc", "rademacher"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_sampled_fishers_have_the_exact_mean(name, method, x64):
    likelihood, params, x, _ = problem(name)
    exact = ravel_pytree(true_fisher_diag(model, likelihood, params, x))[0]
    sampled = lambda key: true_fisher_diag(
        model, likelihood, params, x, method=method, key=key, num_samples=400
    )
    runs = jax.jit(jax.vmap(sampled))(jax.random.split(jax.random.key(0), 20))
    runs = jax.vmap(lambda t: ravel_pytree(t)[0])(runs)
    stderr = runs.std(0, ddof=1) / 20**0.5 + 1e-9  # some entries have no variance
    assert jnp.max(jnp.abs(runs.mean(0) - exact) / stderr) < 5.5


@pytest.mark.sampled(2)
@pytest.mark.parametrize("method", ["exact", "mc"])
def test_examples_by_themselves_average_to_the_whole(method, x64):
    likelihood, params, x, _ = problem()
    options = {"method": method, "key": jax.random.key(1), "num_samples": 3}
    each = ggn_diag(model, likelihood, params, x, reduction="none", **options)
    whole = ggn_diag(model, likelihood, params, x, microbatch=4, **options)
    for a, b in zip(jax.tree.leaves(each), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a.mean(0), b, rtol=1e-12)


def test_the_hessian_product_is_that_of_the_hessian(x64):
    likelihood, params, x, y = problem()
    loss = lambda p, x, y: likelihood.nll(model(p, x), y)
    flat, unravel = ravel_pytree(params)
    total = lambda q: jnp.mean(jax.vmap(lambda *e: loss(unravel(q), *e))(x, y))
    v = jax.tree.map(jnp.cos, params)
    wanted = jax.jit(jax.hessian(total))(flat) @ ravel_pytree(v)[0]
    for found in (hessian_vp(loss, params, v, x, y), linearize_hessian_vp(loss, params, x, y)(v)):
        np.testing.assert_allclose(ravel_pytree(found)[0], wanted, rtol=1e-10)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("probe", ["activations", "parameters"])
@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_estimates_lie_within_their_standard_errors(probe, distribution, x64):
    likelihood, params, x, y = problem()
    loss = lambda p, x, y: likelihood.nll(model(p, x), y)
    exact = hessian_diag(
        lambda p, x, y: jnp.mean(jax.vmap(lambda *e: loss(p, *e))(x, y)), params, x, y
    )
    estimate = jax.jit(
        lambda p: hessian_diag_estimate(
            loss, p, x, y, key=jax.random.key(0), num_samples=3000, probe=probe,
            distribution=distribution,
        )
    )(params)  # fmt: skip
    z = (ravel_pytree(estimate.value)[0] - exact) / (ravel_pytree(estimate.stderr)[0] + 1e-9)
    assert 0.2 < float(jnp.std(z)) < 2
    assert jnp.max(jnp.abs(z)) < 5


def test_one_sample_has_no_standard_error():
    estimate = hessian_diag_estimate(
        lambda w, x: 0.5 * (w @ x) ** 2, jnp.zeros(2), jnp.ones((3, 2)), key=jax.random.key(0)
    )
    assert estimate.stderr is None


def decaying(n, rng):
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return jnp.asarray(q * 0.5 ** np.arange(n) @ q.T)


def test_sketches_gain_where_the_spectrum_decays(x64):
    a, like = decaying(40, np.random.default_rng(0)), jnp.zeros(40)
    keys = jax.random.split(jax.random.key(0), 30)
    product = lambda v: a @ v
    error = lambda found, wanted: float(jnp.sqrt(jnp.mean(jnp.square(found - wanted))))
    plain = jax.vmap(lambda k: hutchinson_diag(product, like, k, 20).value)(keys)
    better = jax.vmap(lambda k: xdiag(product, like, k, 20).value)(keys)
    assert error(better, jnp.diag(a)[None]) < 0.1 * error(plain, jnp.diag(a)[None])
    plain = jax.vmap(lambda k: hutchinson_trace(product, like, k, 30).value)(keys)
    better = jax.vmap(lambda k: hutchpp_trace(product, like, k, 30).value)(keys)
    assert error(better, jnp.trace(a)) < 0.1 * error(plain, jnp.trace(a))


@pytest.mark.parametrize("count", [4, 10])
def test_xdiag_has_no_bias(count, x64):
    rng = np.random.default_rng(1)
    b = rng.normal(size=(12, 12))
    a = jnp.asarray(b + b.T)
    keys = jax.random.split(jax.random.key(0), 20000)
    runs = jax.jit(jax.vmap(lambda k: xdiag(lambda v: a @ v, jnp.zeros(12), k, count).value))(keys)
    stderr = runs.std(0) / 20000**0.5
    assert jnp.max(jnp.abs(runs.mean(0) - jnp.diag(a)) / stderr) < 4.5


@pytest.mark.parametrize("find", [xdiag, hutchinson_diag])
def test_a_zero_matrix_has_a_zero_diagonal(find):
    found = find(
        lambda v: jax.tree.map(jnp.zeros_like, v),
        {"a": jnp.ones(5), "b": None},
        jax.random.key(0),
        4,
    ).value
    assert found["b"] is None
    assert not jnp.any(found["a"])


def test_probing_activations_has_far_less_variance_than_hutchinson(x64):
    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(64, 30)) / 8),
        "t": jnp.asarray(rng.normal(size=(30, 10)) / 5),
    }
    x, y = jnp.asarray(rng.normal(size=(64, 64))), jnp.asarray(rng.integers(0, 10, 64))
    loss = lambda p, x, y: categorical().nll(jnp.tanh(x @ p["w"]) @ p["t"], y)

    def variance(probe):
        runs = hessian_diag_estimate(
            loss, params, x, y, key=jax.random.key(0), num_samples=50, probe=probe
        )
        return sum(jnp.sum(jnp.square(s)) for s in jax.tree.leaves(runs.stderr))

    found = jax.jit(lambda: (variance("activations"), variance("parameters")))()
    assert found[1] > 100 * found[0]


def test_the_optimizers_estimators_have_the_exact_mean(x64):
    likelihood, params, x, y = problem()
    loss = lambda p, x, y: likelihood.nll(model(p, x), y)
    total = lambda p: jnp.mean(jax.vmap(lambda *e: loss(p, *e))(x, y))
    hessian = hessian_diag(lambda p, x, y: total(p), params, x, y)
    fisher = ravel_pytree(true_fisher_diag(model, likelihood, params, x))[0]
    rows = [
        (hutchinson_estimator(), {"obj_fn": total}, hessian),
        (activation_estimator(loss), {"batch": (x, y)}, hessian),
        (gnb_estimator(model, likelihood), {"inputs": x}, fisher),
        (ggn_estimator(model, likelihood), {"inputs": x}, fisher),
    ]
    for estimator, extra, wanted in rows:

        def step(state, _, estimator=estimator, extra=extra):
            found, state = estimator.update(params, state, params, **extra)
            return state, ravel_pytree(found)[0]

        _, runs = jax.lax.scan(step, estimator.init(params), length=1000)
        z = (runs.mean(0) - wanted) / (runs.std(0) / 1000**0.5 + 1e-9)
        assert jnp.max(jnp.abs(z)) < 5.5, estimator


def test_estimators_are_values_and_say_what_they_lack():
    assert hutchinson_estimator(3) == hutchinson_estimator(seed=3)
    assert repr(hutchinson_estimator(3)).startswith("hutchinson_estimator(seed=3")
    estimator, p = hutchinson_estimator(), jnp.ones(2)
    with pytest.raises(ValueError, match="hutchinson_estimator needs obj_fn"):
        estimator.update(p, estimator.init(p), p)
    with pytest.raises(ValueError, match="needs the parameters"):
        estimator.update(p, estimator.init(p), obj_fn=jnp.sum)


def test_adahessian_averages_over_the_window():
    estimator = hutchinson_estimator(average_window=True)
    p = jnp.arange(8.0).reshape(2, 2, 1, 2)
    found, _ = estimator.update(p, estimator.init(p), p, obj_fn=lambda p: jnp.sum(p**3))
    wanted = jnp.broadcast_to(jnp.mean(6 * p, axis=(0, 1), keepdims=True), p.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_seeds_functions_take_and_give_flat_arrays(x64):
    likelihood, params, x, y = problem()
    loss = lambda p, x, y: jnp.mean(jax.vmap(lambda x, y: likelihood.nll(model(p, x), y))(x, y))
    flat, unravel = ravel_pytree(params)
    matrix = jax.jit(jax.hessian(lambda q: loss(unravel(q), x, y)))(flat)
    np.testing.assert_allclose(hessian_diag(loss, params, x, y), jnp.diag(matrix), rtol=1e-10)
    v = jnp.cos(flat)
    for found in (hvp(loss, v, params, x, y), hvp(loss, unravel(v), params, x, y)):
        np.testing.assert_allclose(ravel_pytree(found)[0], matrix @ v, rtol=1e-10)
    on_flat = lambda q, x, y: loss(unravel(q), x, y)
    np.testing.assert_allclose(hvp(on_flat, v, flat, x, y), matrix @ v, rtol=1e-10)
    grad = ravel_pytree(jax.grad(loss)(params, x, y))[0]
    np.testing.assert_allclose(fisher_diag(loss, params, x, y), grad**2, rtol=1e-12)


def test_the_true_fisher_is_the_hessian_at_the_optimum_and_the_squared_mean_gradient_is_zero(x64):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(64, 3))), jnp.zeros(3)
    y = jnp.asarray(rng.integers(0, 2, 64), float)
    loss = lambda w, x, y: jnp.mean(jax.vmap(lambda x, y: bernoulli().nll(x @ w, y))(x, y))
    for _ in range(30):
        w = w - jnp.linalg.solve(jax.hessian(loss)(w, x, y), jax.grad(loss)(w, x, y))
    fisher = true_fisher_diag(lambda w, x: x @ w, bernoulli(), w, x)
    np.testing.assert_allclose(fisher, hessian_diag(loss, w, x, y), rtol=1e-12)
    np.testing.assert_allclose(fisher_diag(loss, w, x, y), 0, atol=1e-25)
    assert jnp.min(fisher) > 0.1


def test_a_likelihood_without_a_root_is_sampled_or_refused():
    own = Likelihood("laplace", lambda f, y: jnp.sum(jnp.abs(f - y)), jax.random.laplace)
    with pytest.raises(ValueError, match="has no root"):
        true_fisher_diag(lambda w, x: x @ w, own, jnp.ones(2), jnp.ones((3, 2)))
