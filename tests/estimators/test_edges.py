"""Every family at the edge of its support, at degenerate scales, and with one sample; what f may hold there."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_estimators as oe

KEY = jax.random.key(0)
INF = np.inf


def f32(*values):
    return tuple(np.asarray(v, np.float32) for v in values)


# name: (how it is built, points with their log-densities at given parameters, parameters at the edge of
# what they may be). Samples at these parameters round to the edge of the support, or to the mean.
ROWS = {
    "Normal": (oe.Normal, [((0, 1), INF, -INF)], [(1, 1e-30), (1e6, 1e-6), (0, 1e30)]),
    "MultiNormal": (oe.MultiNormal, [((0, 0), -INF, -INF)], [(1, -60), (1e6, -14)]),
    "Laplace": (oe.Laplace, [((0, 1), INF, -INF)], [(1, 1e-30), (1e6, 1e-6)]),
    "Cauchy": (oe.Cauchy, [((0, 1), 1e30, -139.29974)], [(1, 1e-30), (1e6, 1e-6)]),
    "Logistic": (oe.Logistic, [((0, 1), INF, -INF)], [(1, 1e-30), (1e6, 1e-6)]),
    "Gumbel": (oe.Gumbel, [((0, 1), -1e3, -INF)], [(1, 1e-30), (1e6, 1e-6)]),
    "StudentT": (
        oe.StudentT,
        [((1, 0, 1), 1e30, -139.29974)],
        [(1e-3, 0, 1), (1e9, 0, 1), (3, 1, 1e-30), (0.5, 1e6, 1e-6)],
    ),
    "Gamma": (
        oe.Gamma,
        [((0.1, 1), 0, INF), ((1, 2), 0, np.log(2)), ((3, 1), 0, -INF), ((3, 1), -1, -INF)],
        [(0.1, 1), (1e-3, 1), (1e6, 1e-3), (1e9, 1), (0.5, 1e9)],
    ),
    "Beta": (
        oe.Beta,
        [
            ((0.3, 0.3), 0, INF),
            ((0.3, 0.3), 1, INF),
            ((1, 1), 0, 0),
            ((1, 2), 0, np.log(2)),
            ((2, 3), 1, -INF),
            ((2, 3), 1.5, -INF),
        ],
        [(0.3, 0.3), (0.5, 0.5), (0.01, 0.01), (1e-3, 1e9), (1e9, 1e9), (1e6, 1)],
    ),
    "Dirichlet": (
        oe.Dirichlet,
        [
            (([0.05, 1],), [0, 1], INF),
            (([1, 1, 1],), [0, 0, 1], np.log(2)),
            (([2, 1],), [0, 1], -INF),
            (([1, 1],), [-1, 2], -INF),
        ],
        [([0.05] * 3,), ([1e-3] * 3,), ([1e9] * 3,), ([1e-3, 1, 1e9],)],
    ),
    "Exponential": (oe.Exponential, [((2,), 0, np.log(2)), ((2,), -1, -INF)], [(1e-15,), (1e30,)]),
    "Weibull": (
        oe.Weibull,
        [((1, 0.5), 0, INF), ((2, 1), 0, -np.log(2)), ((1, 2), 0, -INF), ((1, 2), -1, -INF)],
        [(1, 1e-3), (1, 0.1), (1e-20, 1), (3, 1e9)],
    ),
    "Bernoulli": (
        lambda p: oe.Bernoulli(probs=p),
        [((0,), 0, 0), ((0,), 1, -INF), ((1,), 1, 0), ((1,), 0, -INF)],
        [(0,), (1,), (1e-30,)],
    ),
    "Categorical": (
        lambda p: oe.Categorical(probs=p),
        [
            (([0, 1],), 1, 0),
            (([0, 1],), 0, -INF),
            (([0.5, 0.5],), 2, -INF),
            (([0.5, 0.5],), -1, -INF),
        ],
        [([0, 0.3, 0.7, 0],), ([0, 1],), ([1e-30, 1],)],
    ),
    "OneHotCategorical": (
        lambda p: oe.OneHotCategorical(probs=p),
        [(([0, 1],), [0, 1], 0), (([0, 1],), [1, 0], -INF)],
        [([0, 0.3, 0.7, 0],), ([0, 1],)],
    ),
    "Poisson": (
        oe.Poisson,
        [((2,), 0, -2), ((0,), 0, 0), ((2,), -1, -INF)],
        [(1e-30,), (1e6,), (1e9,)],
    ),
}


def test_every_public_family_has_a_row():
    public = {
        name
        for name in oe.__all__
        if inspect.isclass(getattr(oe, name)) and issubclass(getattr(oe, name), oe.Distribution)
    }
    assert public - {"Distribution", "LocationScale"} == set(ROWS)


POINTS = [(name, i) for name, row in ROWS.items() for i in range(len(row[1]))]
PARAMS = [(name, i) for name, row in ROWS.items() for i in range(len(row[2]))]


@pytest.mark.parametrize(("name", "i"), POINTS)
def test_log_densities_at_the_edge_are_their_limits(name, i):
    make, points, _ = ROWS[name]
    params, x, expected = points[i]
    x = np.asarray(x, np.int32) if name == "Categorical" else np.asarray(x, np.float32)
    np.testing.assert_allclose(make(*f32(*params)).log_prob(x), expected, rtol=1e-6, atol=1e-6)


def bounded(x):
    return jnp.sum(jnp.cos(jnp.asarray(x, jnp.float32)))


def one(x):
    del x
    return jnp.float32(1)


# By name: the method, and a function. Of the function 1 the score function's gradient is the score itself.
METHODS = {
    "score": (oe.score_function(), one),
    "pathwise": (oe.pathwise(), bounded),
    "measure_valued": (oe.measure_valued(), bounded),
    "enumerate": (oe.enumerate_support(), bounded),
}


def holds(name, method):
    if method == "measure_valued":
        return name not in ("Gumbel", "Beta", "Dirichlet", "Gamma", "Weibull", "StudentT")
    finite = name in ("Bernoulli", "Categorical", "OneHotCategorical")
    if method == "enumerate":
        return finite
    return method == "score" or not (finite or name == "Poisson")


@functools.cache
def at_the_edge(jit, name):
    """Values and gradients from one sample each, for many samples, and their log-densities."""
    make = ROWS[name][0]
    dist_fn = lambda p: make(*p)
    methods = {m: method for m, method in METHODS.items() if holds(name, m)}

    def run(p, key):
        base = make(*p).draw_base(key, 2000)  # the same for all that does not draw more

        def estimates(method, f):
            e = oe.estimator(f, dist_fn, method=method)
            z = (
                e.draw(p, key, 100)
                if method.name in ("measure_valued", "enumerate_support")
                else base
            )
            return jax.vmap(jax.value_and_grad(e.estimate), (None, 0))(
                p, jax.tree.map(lambda a: a[:, None], z)
            )

        out = {m: estimates(*method) for m, method in methods.items()}
        return out, make(*p).log_prob(jax.vmap(make(*p).transform)(base))

    return jit(run)


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("name", "i"), PARAMS)
def test_one_sample_gives_finite_estimates_at_the_edge(jit, name, i):
    out, log_prob = at_the_edge(jit, name)(f32(*ROWS[name][2][i]), KEY)
    for method, estimates in out.items():
        for leaf in jax.tree.leaves(estimates):
            assert np.all(np.isfinite(leaf)), (method, estimates)
    assert np.all(np.isfinite(log_prob))
    # The score has the mean zero: samples that were rounded to the edge do not bias it.
    if name in ("Bernoulli", "Categorical", "OneHotCategorical"):
        return  # the score in a probability that is 0 is not defined
    for score in out["score"][1]:
        score = np.asarray(score, np.float64).reshape(2000, -1)
        score = score / abs(score).max()
        if np.all(score.std(0) > 0):
            assert np.all(abs(score.mean(0)) < 6 * score.std(0) / np.sqrt(2000) + 1e-6), score.mean(
                0
            )


WEIGHTS = np.array([1.0, 2.0, 4.0], np.float32)
BY_PROBS = {
    "Categorical": (
        lambda p: oe.Categorical(probs=jax.nn.softmax(p)),
        lambda x: jnp.asarray(WEIGHTS)[x],
    ),
    "OneHotCategorical": (
        lambda p: oe.OneHotCategorical(probs=jax.nn.softmax(p)),
        lambda x: jnp.sum(WEIGHTS * x),
    ),
    "Bernoulli": (
        lambda p: oe.Bernoulli(probs=jax.nn.sigmoid(p)),
        lambda x: jnp.sum(WEIGHTS * x) ** 2,
    ),
}
IMPOSSIBLE = {
    "Categorical": [[0, 1, -INF], [0, 1, -200]],
    "OneHotCategorical": [[0, 1, -INF], [0, 1, -200]],
    "Bernoulli": [[-200, 0.5, 200], [-INF, 0.5, INF]],
}
DISCRETE = [
    oe.enumerate_support(),
    oe.score_function(),
    oe.measure_valued(),
    oe.gumbel_softmax(),
    oe.gumbel_softmax(hard=True),
    oe.straight_through(),
    oe.reinmax(),
    oe.rebar(),
    oe.arm(),
    oe.disarm(),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("method", DISCRETE, ids=repr)
@pytest.mark.parametrize("name", BY_PROBS)
def test_probabilities_of_zero_have_the_gradient_zero_by_every_method(jit, name, method):
    dist_fn, f = BY_PROBS[name]

    def loss(p):
        return oe.expectation(f, dist_fn, p, KEY, 64, method=method)

    try:
        jax.eval_shape(loss, np.zeros(3, np.float32))
    except oe.UnsupportedDistributionError:
        return
    run = jit(jax.value_and_grad(loss))
    for p in IMPOSSIBLE[name]:
        value, grad = run(np.asarray(p, np.float32))
        assert np.isfinite(value)
        assert np.all(np.isfinite(grad)), grad
        np.testing.assert_allclose(grad[2], 0, atol=1e-6)
        if method == oe.enumerate_support() and name != "Bernoulli":
            v = 1 / (1 + np.exp(-1.0)) / (1 + np.exp(1.0))
            np.testing.assert_allclose(grad, [-v, v, 0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", [oe.enumerate_support(), oe.measure_valued()], ids=repr)
@pytest.mark.parametrize("family", [oe.Categorical, oe.OneHotCategorical])
def test_a_probability_that_is_zero_itself_has_its_exact_derivative(jit, family, method):
    f = BY_PROBS[family.__name__][1]
    probs = np.array([0.25, 0.75, 0.0], np.float32)
    grad = jit(
        jax.grad(lambda p: oe.expectation(f, lambda p: family(probs=p), p, KEY, 4, method=method))
    )(probs)
    np.testing.assert_allclose(grad, WEIGHTS - WEIGHTS @ probs, rtol=1e-6)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_an_elbo_over_impossible_outcomes_is_enumerated(jit, mode):
    def guide(p):
        return oe.Bernoulli(probs=jax.nn.sigmoid(p))

    def bound(p):
        joint = lambda x: jnp.sum(x * np.float32(0.3))
        return oe.elbo(joint, guide, p, KEY, 1, method=oe.enumerate_support())

    p = np.array([-200.0, 0.5], np.float32)
    value, grad = jit(bound)(p), jit(mode(bound))(p)
    q = 1 / (1 + np.exp(-0.5))
    expected = 0.3 * q - q * np.log(q) - (1 - q) * np.log(1 - q)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, [0, q * (1 - q) * (0.3 - 0.5)], rtol=1e-5, atol=1e-7)


def test_one_sample_of_infinite_density_does_not_poison_the_mean():
    class Edge:
        """Half of its samples are 0, where its density is infinite."""

        def __init__(self, a):
            self.a = a

        def sample(self, seed):
            return jnp.where(jax.random.bernoulli(seed), 0.0, 0.5)

        def log_prob(self, x):
            return (self.a - 1) * jnp.log(x)

    for baseline in (None, oe.leave_one_out()):
        value = oe.expectation(
            lambda x: x, Edge, np.float32(0.3), KEY, 64, method=oe.score_function(baseline)
        )
        assert 0.1 < value < 0.4
    np.testing.assert_array_equal(oe.magic_box(np.array([INF, -INF, 1.0], np.float32)), np.ones(3))


@jax.custom_jvp
def opaque(x):
    return jnp.sum(jnp.asarray(x, jnp.float32) ** 2)


@opaque.defjvp
def _never(primals, tangents):
    raise AssertionError("the function was differentiated")


def normal(p):
    return oe.Normal(p, 1.0)


def gradient_of(method, dist_fn=normal):
    def run(p):
        fn = oe.value_and_grad(opaque, dist_fn, method=method, num_samples=8)
        return fn(p, KEY, context=p)  # with the update of the method's state

    return run


def learned():
    from optx_core import scale

    def predict(phi, context):
        return opaque(context) + phi

    return oe.learned_baseline(predict, np.float32(0), scale(-0.1))


# By the name of the public function: something that must not differentiate its function.
UNDIFFERENTIATED = {
    "score_function": gradient_of(oe.score_function()),
    "leave_one_out": gradient_of(oe.score_function(oe.leave_one_out())),
    "ema_baseline": gradient_of(oe.score_function(oe.ema_baseline())),
    "optimal_baseline": gradient_of(oe.score_function(oe.optimal_baseline())),
    "constant_baseline": gradient_of(oe.score_function(oe.constant_baseline(1.0))),
    "learned_baseline": lambda p: jax.grad(
        lambda p: oe.expectation(
            opaque, normal, p, KEY, 8, method=oe.score_function(learned()), context=p
        )
    )(p),
    "measure_valued": gradient_of(oe.measure_valued()),
    "measure_valued of bits": gradient_of(oe.measure_valued(), oe.Bernoulli),
    "measure_valued of choices": gradient_of(oe.measure_valued(), oe.OneHotCategorical),
    "evolution": gradient_of(oe.evolution()),
    "evolution about the center": gradient_of(oe.evolution(antithetic=False, baseline="center")),
    "enumerate_support": gradient_of(oe.enumerate_support(), oe.Bernoulli),
    "arm": gradient_of(oe.arm(), oe.Bernoulli),
    "disarm": gradient_of(oe.disarm(), oe.Bernoulli),
    "relax": gradient_of(oe.relax(lambda w, s: jnp.sum(jnp.tanh(s))), oe.Bernoulli),
    "make_perturbed_fun": jax.grad(lambda p: oe.make_perturbed_fun(opaque, 8)(KEY, p)),
    "make_perturbed_fun without its center": jax.grad(
        lambda p: oe.make_perturbed_fun(opaque, 8, use_baseline=False)(KEY, p)
    ),
    "score_function_jacobians": lambda p: oe.score_function_jacobians(opaque, [p], normal, KEY, 4),
    "measure_valued_jacobians": lambda p: oe.measure_valued_jacobians(opaque, [p], normal, KEY, 4),
    "moving_avg_baseline": jax.grad(
        lambda p: oe.moving_avg_baseline(opaque).update(None, p[None], None)[0]
    ),
    "control_variates_jacobians": lambda p: oe.control_variates_jacobians(
        opaque, oe.moving_avg_baseline, oe.score_function_jacobians, [p], normal, KEY, 4
    )[0],
    "iwae by its score": jax.grad(lambda p: oe.iwae(opaque, normal, p, KEY, 3, gradient="score")),
    "iwae by vimco": jax.grad(lambda p: oe.iwae(opaque, normal, p, KEY, 3, gradient="vimco")),
}


@pytest.mark.parametrize("name", UNDIFFERENTIATED)
def test_what_promises_not_to_differentiate_the_function_does_not(name):
    jax.eval_shape(UNDIFFERENTIATED[name], np.full(3, 0.5, np.float32))
