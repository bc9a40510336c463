"""E (x − t)², x ~ Bernoulli(σ(φ)): every method for discrete variables, by enumeration and quadrature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from optx_estimators import (
    Bernoulli,
    OneHotCategorical,
    RelaxState,
    arm,
    constant_baseline,
    disarm,
    enumerate_support,
    estimator,
    gumbel_softmax,
    leave_one_out,
    measure_valued,
    rebar,
    reinmax,
    relax,
    score_function,
    straight_through,
)

SETTINGS = [(0.5, 0.49), (0.5, 0.45), (0.3, 0.49), (0.3, 0.45), (0.9, 0.49)]


def cost(x, p):
    return (x - jax.lax.stop_gradient(p["t"])) ** 2


def flip(p):
    return Bernoulli(p["phi"])


def make(method):
    return estimator(cost, flip, method=method, with_params=True)


def params(theta, t):
    return {"phi": np.array(logit(theta)), "t": np.array(t)}


def truth(theta, t):
    return (1 - 2 * t) * theta * (1 - theta)


def coin(theta):
    """Noise for one flip that comes out 1, then 0, and the probabilities."""
    return np.array([theta / 2, (1 + theta) / 2]), np.array([theta, 1 - theta])


def moments_of_flips(quadrature, method, theta, t, K=1, given=None):
    u, w = coin(theta)
    nodes = np.array(np.meshgrid(*[u] * K, indexing="ij")).reshape(K, -1).T
    weights = np.array(np.meshgrid(*[w] * K, indexing="ij")).reshape(K, -1).prod(0)
    noise = nodes.reshape(-1)
    if method == measure_valued():
        from optx_estimators._mvd_terms import Row

        noise = Row(noise, noise, np.zeros((len(noise), 0)))
    e = make(method) if given is None else told
    mean, var = quadrature.moments(e, params(theta, t), noise, weights, given=given)
    return mean["phi"], var["phi"]


def score_variance(theta, t):
    v = theta * (1 - theta)
    score = theta * (1 - t) ** 4 * (1 - theta) ** 2 + (1 - theta) * t**4 * theta**2
    return score - (1 - 2 * t) ** 2 * v**2


def leave_one_out_variance(theta, t, K):
    v = theta * (1 - theta)
    inner = v * (1 - 3 * v) + v**2 / (K - 1) - (K - 2) * v**2 / (K - 1)
    return (1 - 2 * t) ** 2 * inner / K


def optimal(theta, t):
    """b = E f s² / E s²."""
    p, s = np.array([theta, 1 - theta]), np.array([1 - theta, -theta])
    f = np.array([(1 - t) ** 2, t**2])
    return float(np.sum(p * f * s**2) / np.sum(p * s**2))


def told(b):
    """With a constant baseline."""
    return make(score_function(constant_baseline(b)))


# name, method or a number for a constant baseline, variance, flips in a unit
FLIPS = [
    ("score", lambda th, t: score_function(), score_variance, 1),
    (
        "mean baseline",
        lambda th, t: th * (1 - t) ** 2 + (1 - th) * t**2,
        lambda th, t: (1 - 2 * t) ** 2 * th * (1 - th) * (1 - 4 * th * (1 - th)),
        1,
    ),
    ("optimal baseline", optimal, lambda th, t: 0.0, 1),
    ("measure-valued", lambda th, t: measure_valued(), lambda th, t: 0.0, 1),
    *(
        (
            f"leave one out of {K}",
            lambda th, t, K=K: score_function(leave_one_out(group=K)),
            lambda th, t, K=K: leave_one_out_variance(th, t, K),
            K,
        )
        for K in (2, 4, 8)
    ),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("row", FLIPS, ids=lambda r: r[0])
def test_flips_have_the_moments_of_the_table(x64, quadrature, row, setting):
    _, method, variance, K = row
    made = method(*setting)
    given = made if isinstance(made, float) else None
    mean, var = moments_of_flips(quadrature, made, *setting, K, given)
    np.testing.assert_allclose(mean, truth(*setting), rtol=1e-10)
    np.testing.assert_allclose(var, variance(*setting), rtol=1e-8, atol=1e-16)


def pieces(ends, n=8):
    """Gauss–Legendre on consecutive intervals: exact for piecewise polynomials."""
    x, w = np.polynomial.legendre.leggauss(n)
    nodes, weights = [], []
    for a, b in itertools.pairwise(ends):
        nodes.append(a + (b - a) * (x + 1) / 2)
        weights.append((b - a) * w / 2)
    return np.concatenate(nodes), np.concatenate(weights)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("method", [arm(), disarm()], ids=repr)
def test_arm_and_disarm_have_the_moments_of_the_table(x64, quadrature, method, setting):
    theta, t = setting
    r = min(theta, 1 - theta)
    u, w = pieces([0.0, r, 0.5, 1 - r, 1.0])
    mean, var = quadrature.moments(make(method), params(theta, t), u, w, ())
    mean, var = mean["phi"], var["phi"]
    v, delta = theta * (1 - theta), 1 - 2 * t
    if method == arm():
        expected = delta**2 * (2 / 3 * (1 / 8 - (0.5 - r) ** 3) - v**2)
    else:
        expected = delta**2 * r * (1 - r) ** 2 * (0.5 - r)
    np.testing.assert_allclose(mean, truth(*setting), rtol=1e-10)
    np.testing.assert_allclose(var, expected, rtol=1e-8, atol=1e-16)


def uv(quadrature, theta):
    x, _, w = quadrature.unit_interval(100)
    u = np.concatenate([(1 - theta) * x, (1 - theta) + theta * x])
    wu = np.concatenate([(1 - theta) * w, theta * w])
    U, V = (a.reshape(-1) for a in np.meshgrid(u, x, indexing="ij"))
    U, V = np.clip(U, 1e-300, 1 - 1e-16), np.clip(V, 1e-300, 1 - 1e-16)
    return np.stack([U, V], axis=1), np.outer(wu, w).reshape(-1)


def rebar_state(temperature, eta):
    return RelaxState(np.float32(eta), np.log(np.float32(temperature)), (), ())


def test_the_state_of_rebar_holds_its_temperature_and_its_coefficient():
    made, expected = rebar(0.3, 0.7).init(()), rebar_state(0.3, 0.7)
    assert jax.tree.structure(made) == jax.tree.structure(expected)
    np.testing.assert_allclose(jax.tree.leaves(made), jax.tree.leaves(expected), rtol=1e-6)


REBAR = [
    (theta, t, temperature, eta)
    for theta, t in ((0.5, 0.49), (0.3, 0.45), (0.9, 0.49))
    for temperature, eta in ((0.1, 1.0), (0.5, 1.0), (1.0, 1.0), (0.5, 0.3))
]


@pytest.mark.parametrize("row", REBAR, ids=str)
def test_rebar_is_unbiased_whatever_its_coefficient_and_temperature(x64, quadrature, row):
    theta, t, temperature, eta = row
    p = params(theta, t)
    state = rebar_state(temperature, eta)  # η and λ live in the state
    noise, w = uv(quadrature, theta)
    mean, var = quadrature.moments(make(rebar()), p, noise, w, state)
    mean, var = mean["phi"], var["phi"]
    # η and λ are float32 in the state
    np.testing.assert_allclose(mean, truth(theta, t), rtol=1e-6, atol=1e-9)
    known = {(0.5, 0.1): 0.0838428, (0.5, 0.5): 0.0223046, (0.5, 1.0): 0.0183824}
    if (theta, temperature) in known and eta == 1.0:
        np.testing.assert_allclose(var, known[theta, temperature], rtol=1e-5)


@pytest.mark.parametrize("with_function", [False, True])
def test_relax_is_unbiased_whatever_its_critic(x64, quadrature, with_function):
    def critic(w, s):
        return jnp.sum(w * jnp.tanh(s)) + 0.1 * jnp.sum(s**2)

    method = relax(critic, np.array(0.7), with_function=with_function)
    e, p = make(method), params(0.3, 0.45)
    noise, w = uv(quadrature, 0.3)
    mean, _ = quadrature.moments(e, p, noise, w, e.init(p))
    np.testing.assert_allclose(mean["phi"], truth(0.3, 0.45), rtol=1e-6)


BIASED = [
    (straight_through(), 0.5, 0.49, 0.005, None),
    (straight_through(), 0.3, 0.49, -0.0798, None),
    (straight_through(), 0.9, 0.49, 0.0738, None),
    (gumbel_softmax(1.0), 0.5, 0.49, 0.02 / 6, 0.00476413),
    (gumbel_softmax(0.5), 0.5, 0.49, 0.00429204, 0.0139414),
    (gumbel_softmax(0.1), 0.5, 0.49, 0.00495978, 0.0827968),
    (gumbel_softmax(0.1), 0.3, 0.49, -0.00401, None),
    (gumbel_softmax(0.5), 0.3, 0.49, -0.02291, None),
    (gumbel_softmax(1.0), 0.3, 0.49, -0.02284, None),
]


@pytest.mark.parametrize("row", BIASED, ids=lambda r: repr(r[:3]))
def test_biased_methods_have_the_bias_of_the_table(x64, quadrature, row):
    method, theta, t, mean_is, variance_is = row
    if method == straight_through():
        mean, var = moments_of_flips(quadrature, method, theta, t)
    else:
        u, w = pieces(np.concatenate([[0], np.geomspace(1e-8, 0.5, 40)]), 12)
        u, w = np.concatenate([u, 1 - u]), np.concatenate([w, w])
        mean, var = quadrature.moments(make(method), params(theta, t), u, w)
        mean, var = mean["phi"], var["phi"]
    np.testing.assert_allclose(mean, mean_is, rtol=2e-3 if variance_is is None else 2e-6)
    if variance_is is not None:
        np.testing.assert_allclose(var, variance_is, rtol=1e-5)


def outcomes_of(sites):
    """Every outcome of some bits."""
    return np.array(list(itertools.product([0, 1], repeat=sites)))


def middles(theta, outcomes, one_hot):
    """Noise in the middle of the interval of each outcome."""
    low = (1 + (1 - theta)) / 2 if one_hot else theta / 2
    high = (1 - theta) / 2 if one_hot else (1 + theta) / 2
    return np.where(outcomes == 1, low, high)


def polynomial(degree, one_hot):
    """A function of four bits, its logits, and the exact gradient of its expectation."""
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(4, 4)), rng.normal(size=4)

    def f(x):
        x = x[:, 1] if one_hot else x
        return x @ A @ x + (x + 0.3) ** degree @ b

    logits = rng.normal(size=(4, 2) if one_hot else (4,))
    theta, x = theta_of(logits, one_hot), outcomes_of(4)
    values = np.sum(x @ A * x, axis=1) + (x + 0.3) ** degree @ b
    exact = (probabilities_of(theta, x) * values) @ (x - theta)  # E f·∇log p
    return f, logits, np.stack([-exact, exact], axis=1) if one_hot else exact


def theta_of(logits, one_hot):
    return expit(logits[:, 1] - logits[:, 0]) if one_hot else expit(logits)


def probabilities_of(theta, outcomes):
    return np.where(outcomes == 1, theta, 1 - theta).prod(1)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("method", [reinmax(), straight_through()], ids=repr)
@pytest.mark.parametrize("degree", [2, 3])
def test_reinmax_is_unbiased_for_what_is_quadratic_in_each_bit(x64, jit, method, degree, one_hot):
    f, logits, exact = polynomial(degree, one_hot)
    theta, outcomes = theta_of(logits, one_hot), outcomes_of(4)
    family = OneHotCategorical if one_hot else Bernoulli
    gradients = jit(estimator(f, family, method=method).gradients)
    rows = np.asarray(gradients(logits, middles(theta, outcomes, one_hot)))
    mean = np.tensordot(probabilities_of(theta, outcomes), rows, 1)
    bias = np.linalg.norm(mean - exact) / np.linalg.norm(exact)
    if method == reinmax() and degree == 2:
        assert bias < 1e-12
    else:
        assert bias > 0.01


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("degree", [2, 3])
def test_enumeration_is_exact_for_several_bits(x64, jit, degree, one_hot):
    f, logits, exact = polynomial(degree, one_hot)
    family = OneHotCategorical if one_hot else Bernoulli
    ours = jit(jax.grad(estimator(f, family, method=enumerate_support()).estimate))
    np.testing.assert_allclose(ours(logits, np.zeros((1, 0))), exact, rtol=1e-10)


def test_disarm_has_no_variance_at_one_half_where_leave_one_out_has(x64, jit):
    u = np.random.default_rng(0).uniform(size=64)
    rows = jit(make(disarm()).gradients)(params(0.5, 0.45), u)
    np.testing.assert_allclose(rows["phi"], 0.025, rtol=1e-12)


@pytest.mark.parametrize("bit", [disarm(), arm(), measure_valued(), rebar()], ids=repr)
def test_several_bits_at_once_have_the_gradient_of_enumeration(x64, jit, bit):
    A = np.random.default_rng(1).normal(size=(3, 3))

    def f(x):
        return jnp.sum(x * (A @ x)) + jnp.prod(x)

    phi, x = np.array([0.3, -0.8, 1.1]), outcomes_of(3)
    theta = expit(phi)
    values = np.sum(x * (x @ A.T), axis=1) + x.prod(1)
    exact = (probabilities_of(theta, x) * values) @ (x - theta)  # E f·∇log p
    e = estimator(f, Bernoulli, method=bit)
    run = jit(lambda phi, key: e.gradients(phi, e.draw(phi, key, 20_000)))
    rows = np.asarray(run(phi, jax.random.key(1)))
    z = (rows.mean(0) - exact) / (rows.std(0) / np.sqrt(20_000) + 1e-12)
    assert np.all(abs(z) < 5)
