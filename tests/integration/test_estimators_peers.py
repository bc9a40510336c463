"""Distributions of distrax, TFP and NumPyro in place of ours."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_estimators as oe


@pytest.fixture(autouse=True)
def usual_promotion():
    """The three libraries do not run under strict promotion, and warn of one another."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def distrax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("distrax", exc_type=ImportError)


def tfd():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "tensorflow_probability.substrates.jax"
        return pytest.importorskip(name, exc_type=ImportError).distributions


def numpyro():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("numpyro.distributions", exc_type=ImportError)


NORMALS = {
    "distrax": lambda p: distrax().MultivariateNormalDiag(p["m"], jnp.exp(p["s"])),
    "distrax independent": lambda p: distrax().Independent(
        distrax().Normal(p["m"], jnp.exp(p["s"])), reinterpreted_batch_ndims=1
    ),
    "TFP": lambda p: tfd().MultivariateNormalDiag(p["m"], jnp.exp(p["s"])),
    "TFP independent": lambda p: tfd().Independent(
        tfd().Normal(p["m"], jnp.exp(p["s"])), reinterpreted_batch_ndims=1
    ),
    "NumPyro": lambda p: numpyro().Normal(p["m"], jnp.exp(p["s"])).to_event(1),
    "TFP, full covariance": lambda p: tfd().MultivariateNormalTriL(
        p["m"], jnp.diag(jnp.exp(p["s"]))
    ),
}
METHODS = [oe.score_function(oe.leave_one_out()), oe.pathwise(), oe.measure_valued()]


@pytest.mark.parametrize("name", NORMALS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_normal_of_any_library_has_the_same_gradient(name, method):
    p = {"m": jnp.array([1.0, -0.5]), "s": jnp.zeros(2)}

    def loss(p):
        return oe.expectation(
            lambda x: jnp.sum(x**2), NORMALS[name], p, jax.random.key(0), 20_000, method=method
        )

    if name == "TFP, full covariance" and method == oe.measure_valued():
        with pytest.raises(oe.UnsupportedDistributionError):
            jax.eval_shape(jax.grad(loss), p)
        return
    grad = jax.jit(jax.grad(loss))(p)
    np.testing.assert_allclose(grad["m"], 2 * p["m"], atol=0.15)
    np.testing.assert_allclose(grad["s"], 2.0, atol=0.3)


@pytest.mark.parametrize(
    "batch",
    [
        lambda m: distrax().Normal(m, 1.0),
        lambda m: tfd().Normal(m, 1.0),
        lambda m: numpyro().Normal(m, 1.0),
    ],
    ids=["distrax", "TFP", "NumPyro"],
)
def test_a_batch_of_any_library_is_refused(batch):
    with pytest.raises(oe.BatchShapeError):
        oe.pathwise_jacobians(jnp.sum, [jnp.ones(3)], batch, jax.random.key(0), 4)


DISCRETE = {
    "distrax Bernoulli": lambda p: distrax().Bernoulli(p),
    "TFP Bernoulli": lambda p: tfd().Bernoulli(p),
    "NumPyro Bernoulli": lambda p: numpyro().Bernoulli(logits=p),
    "NumPyro probabilities": lambda p: numpyro().Bernoulli(probs=jax.nn.sigmoid(p)),
    "TFP Poisson": lambda p: tfd().Poisson(log_rate=p),
    "NumPyro Poisson": lambda p: numpyro().Poisson(jnp.exp(p)),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_distributions_of_any_library_work_and_refuse_as_ours_do(name):
    def grad(method):
        return jax.grad(
            lambda p: oe.expectation(
                lambda x: jnp.asarray(x, jnp.float32) * 2,
                DISCRETE[name],
                p,
                jax.random.key(0),
                8,
                method=method,
            )
        )(jnp.float32(0.3))

    v = jax.nn.sigmoid(0.3) * jax.nn.sigmoid(-0.3)
    truth = 2 * (np.exp(0.3) if "Poisson" in name else v)
    np.testing.assert_allclose(grad(oe.measure_valued()), truth, rtol=1e-5)
    with pytest.raises(oe.NotReparameterizedError):
        grad(oe.pathwise())
    assert jnp.isfinite(grad(oe.score_function()))


OTHERS = {
    "Categorical": (lambda lib, p: lib.Categorical(logits=p), oe.Categorical),
    "Gamma": (lambda lib, p: lib.Gamma(jnp.exp(p[0]), jnp.exp(p[1])), None),
    "Beta": (lambda lib, p: lib.Beta(jnp.exp(p[0]), jnp.exp(p[1])), None),
    "Dirichlet": (lambda lib, p: lib.Dirichlet(jnp.exp(p)), None),
    "Laplace": (lambda lib, p: lib.Laplace(p[0], jnp.exp(p[1])), None),
    "Logistic": (lambda lib, p: lib.Logistic(p[0], jnp.exp(p[1])), None),
    "StudentT": (lambda lib, p: lib.StudentT(4.0, p[0], jnp.exp(p[1])), None),
    "Exponential": (lambda lib, p: lib.Exponential(jnp.exp(p[0])), None),
    "Cauchy": (lambda lib, p: lib.Cauchy(p[0], jnp.exp(p[1])), None),
    "Gumbel": (lambda lib, p: lib.Gumbel(p[0], jnp.exp(p[1])), None),
}


@pytest.mark.parametrize("library", [tfd, numpyro], ids=["TFP", "NumPyro"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_known_family_is_rebuilt_with_the_same_density(library, name):
    from optx_estimators._foreign import as_event
    from optx_estimators._opaque import Opaque

    theirs = OTHERS[name][0](library(), jnp.array([0.3, -0.2, 0.5]))
    ours = as_event(theirs, "test")
    assert not isinstance(ours, Opaque)
    x = ours.sample((5,), jax.random.key(0))
    np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(x), rtol=2e-4, atol=2e-5)


def test_mixture_weights_of_a_library_are_refused_on_the_path_and_taken_by_the_score():
    def mixture(p):
        t = tfd()
        return t.MixtureSameFamily(t.Categorical(logits=p["w"]), t.Normal(p["m"], jnp.ones(2)))

    p = {"w": jnp.zeros(2), "m": jnp.array([-1.0, 1.0])}

    def loss(p, method):
        return oe.expectation(lambda x: x**2, mixture, p, jax.random.key(0), 64, method=method)

    with pytest.raises(oe.NotReparameterizedError, match="'w'"):
        jax.eval_shape(lambda p: jax.grad(loss)(p, oe.pathwise()), p)
    grad = jax.grad(loss)(p, oe.score_function(oe.leave_one_out()))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grad))
