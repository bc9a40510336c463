"""What is refused, by name: never a silent zero, never a wrong number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_estimators as oe

KEY = jax.random.key(0)
ONE, ONES = np.ones(2, np.float32), np.ones(3, np.float32)
ZEROS = np.zeros(3, np.float32)


def square(x):
    return jnp.sum(jnp.asarray(x, jnp.float32) ** 2)


def grad_of(dist_fn, params, method, n=4, f=square, noise=None):
    """The gradient, as far as the shapes: refusals come before anything is run."""
    noise = oe.iid() if noise is None else noise
    return jax.eval_shape(
        jax.grad(lambda p: oe.expectation(f, dist_fn, p, KEY, n, method=method, noise=noise)),
        params,
    )


def numbers_of(jit, dist_fn, params, method):
    """The gradient in numbers."""
    grad = jax.grad(lambda p: oe.expectation(square, dist_fn, p, KEY, 4, method=method))
    return jax.tree.leaves(jit(grad)(params))


class Mixture:
    """Moves with the means, not with the weights."""

    def __init__(self, logits, means):
        self.logits, self.means = logits, means

    def sample(self, seed):
        a, b = jax.random.split(seed)
        return self.means[jax.random.categorical(a, self.logits)] + jax.random.normal(b)

    def log_prob(self, x):
        parts = jax.nn.log_softmax(self.logits) - (x - self.means) ** 2 / 2
        return jax.scipy.special.logsumexp(parts)


class Coin:
    """A float-valued discrete sampler."""

    def __init__(self, p):
        self.p = p

    def sample(self, seed):
        return jnp.where(jax.random.uniform(seed) < self.p, 1.0, 0.0)

    def log_prob(self, x):
        return x * jnp.log(self.p) + (1 - x) * jnp.log1p(-self.p)


class Batch:
    def __init__(self, loc):
        self.loc = loc

    def sample(self, seed):
        return self.loc + jax.random.normal(seed, self.loc.shape)

    def log_prob(self, x):
        return -((x - self.loc) ** 2) / 2


PAIR = {"logits": np.zeros(2, np.float32), "means": np.array([-1.0, 1.0], np.float32)}
DISCRETE = [
    (oe.Bernoulli, ZEROS),
    (oe.Categorical, ZEROS),
    (oe.OneHotCategorical, ZEROS),
    (oe.Poisson, ONES),
    (Coin, np.float32(0.3)),
    (lambda p: Mixture(**p), PAIR),
]


@pytest.mark.parametrize("row", DISCRETE, ids=lambda r: getattr(r[0], "__name__", ""))
def test_pathwise_through_a_sampler_that_does_not_move_is_refused(row):
    with pytest.raises(oe.NotReparameterizedError):
        grad_of(*row, oe.pathwise())
    with pytest.raises(oe.NotReparameterizedError):
        jax.eval_shape(lambda p: oe.pathwise_jacobians(square, [p], row[0], KEY, 3), row[1])


def test_the_refusal_names_the_parameter_that_does_not_move(jit):
    with pytest.raises(oe.NotReparameterizedError, match=r"params\['logits'\]"):
        grad_of(lambda p: Mixture(**p), PAIR, oe.pathwise())
    (means,) = numbers_of(
        jit, lambda m: Mixture(PAIR["logits"], m), PAIR["means"], oe.pathwise()
    )  # the means move
    assert np.all(np.isfinite(means))


def test_the_score_function_takes_what_pathwise_refuses(jit):
    grads = numbers_of(jit, lambda p: Mixture(**p), PAIR, oe.score_function())
    assert all(np.all(np.isfinite(g)) for g in grads)


@pytest.mark.parametrize("noise", [oe.antithetic(), oe.sobol(), oe.lattice(), oe.orthogonal()])
@pytest.mark.parametrize(
    "method",
    [
        oe.score_function(oe.leave_one_out()),
        oe.score_function(oe.leave_one_out(group=2)),
        oe.score_function(oe.optimal_baseline()),
        oe.evolution(antithetic=False, baseline=oe.leave_one_out()),
        oe.controlled(oe.pathwise(), oe.control_delta_method),
    ],
    ids=repr,
)
def test_what_compares_independent_samples_is_refused_over_others(noise, method):
    with pytest.raises(oe.EstimatorError, match="independent"):
        grad_of(lambda m: oe.Normal(m, 1.0), ONE, method, noise=noise)


FIRST_ORDER = [
    (oe.measure_valued(), lambda m: oe.Normal(m, 1.0)),
    (oe.evolution(), lambda m: oe.Normal(m, 1.0)),
    (oe.score_function(oe.optimal_baseline()), lambda m: oe.Normal(m, 1.0)),
    (oe.controlled(oe.pathwise(), oe.control_delta_method, 1.0), lambda m: oe.Normal(m, 1.0)),
    (oe.arm(), oe.Bernoulli),
    (oe.disarm(), oe.Bernoulli),
    (oe.rebar(), oe.Bernoulli),
    (oe.straight_through(), oe.Bernoulli),
    (oe.reinmax(), oe.Bernoulli),
    (oe.gumbel_softmax(hard=True), oe.Bernoulli),
    (oe.pathwise(), oe.Dirichlet),
    (oe.pathwise(), lambda a: oe.Gamma(a, 1.0)),
    (oe.pathwise(), lambda df: oe.StudentT(df)),
]


@functools.cache
def first_derivative(i):
    method, dist_fn = FIRST_ORDER[i]
    return jax.jit(jax.grad(lambda p: oe.expectation(square, dist_fn, p, KEY, 4, method=method)))


@pytest.mark.parametrize("order", ["forward over reverse", "reverse over reverse"])
@pytest.mark.parametrize(
    "i", range(len(FIRST_ORDER)), ids=lambda i: " ".join(repr(FIRST_ORDER[i][0]).split())
)
def test_second_derivatives_that_are_not_there_are_refused(i, order):
    first, p = first_derivative(i), np.full(2, 0.7, np.float32)
    assert jax.eval_shape(first, p).shape == (2,)  # the first derivative is there

    def second(f):
        if order == "forward over reverse":
            return lambda p: jax.jvp(f, (p,), (p,))
        return jax.grad(lambda p: jnp.sum(f(p)))

    for f in (first, first.__wrapped__):  # compiled by itself, and not
        with pytest.raises(oe.SecondDerivativeError):
            jax.eval_shape(second(f), p)


@pytest.mark.parametrize("gradient", ["dregs", "vimco"])
def test_second_derivatives_of_the_importance_weighted_bound_are_refused(gradient):
    def bound(m):
        return oe.iwae(lambda z: -(z**2), lambda m: oe.Normal(m, 1.0), m, KEY, 3, gradient=gradient)

    with pytest.raises(oe.SecondDerivativeError):
        jax.eval_shape(jax.grad(jax.grad(bound)), 0.5)


@pytest.mark.parametrize("method", [oe.score_function(), oe.pathwise(), oe.measure_valued()])
def test_a_batch_of_distributions_is_refused(method):
    with pytest.raises(oe.BatchShapeError, match="one event"):
        grad_of(Batch, ONES, method)


def test_a_batch_of_distributions_is_refused_by_the_plain_functions():
    for f in (oe.score_function_jacobians, oe.pathwise_jacobians, oe.measure_valued_jacobians):
        with pytest.raises(oe.BatchShapeError):
            f(square, [ONES], Batch, KEY, 3)


UNKNOWN = [
    (oe.measure_valued(), oe.Gumbel, ONE),
    (oe.measure_valued(), oe.Dirichlet, ONE),
    (oe.arm(), lambda m: oe.Normal(m, 1.0), ONE),
    (oe.disarm(), oe.OneHotCategorical, ONE),
    (oe.rebar(), oe.Categorical, ONE),
    (oe.gumbel_softmax(), oe.Poisson, ONE),
    (oe.straight_through(), oe.Categorical, ONE),
    (oe.evolution(), lambda m: oe.Laplace(m, 1.0), ONE),
    (oe.enumerate_support(), oe.Poisson, ONE),
    (oe.controlled(oe.pathwise(), oe.control_delta_method), lambda m: oe.Laplace(m), ONE),
]


@pytest.mark.parametrize("row", UNKNOWN, ids=lambda r: repr(r[0]))
def test_a_method_refuses_distributions_it_has_no_rule_for(row):
    method, dist_fn, params = row
    with pytest.raises(oe.UnsupportedDistributionError):
        grad_of(dist_fn, params, method, n=8)


WITHOUT_A_DERIVATIVE = [
    (oe.measure_valued(), lambda a: oe.Gamma(a, 1.0)),
    (oe.measure_valued(), lambda k: oe.Weibull(1.0, k)),
    (oe.measure_valued(), lambda df: oe.StudentT(df, 0.0, 1.0)),
]


@pytest.mark.parametrize("row", WITHOUT_A_DERIVATIVE)
def test_a_parameter_without_a_derivative_is_refused_when_it_is_differentiated(jit, row):
    method, dist_fn = row
    with pytest.raises(oe.NoDerivativeError):
        grad_of(dist_fn, np.float32(3.0), method)
    by_score = oe.estimator(square, dist_fn, method=oe.score_function())
    by_path = oe.estimator(square, dist_fn, method=oe.pathwise())
    noise = by_score.draw(np.float32(3.0), KEY, 2)
    for e in (by_score, by_path):
        assert np.isfinite(jit(jax.grad(e.estimate))(np.float32(3.0), noise))


COUPLED = [
    (oe.score_function(oe.leave_one_out()), oe.iid()),
    (oe.score_function(oe.optimal_baseline()), oe.iid()),
    (oe.pathwise(), oe.sobol()),
    (oe.pathwise(), oe.orthogonal()),
]


@pytest.mark.parametrize("row", COUPLED, ids=repr)
def test_rows_that_are_not_independent_are_not_given_out(row):
    method, noise = row
    with pytest.raises(oe.CoupledRowsError):
        oe.per_sample_grads(
            square, lambda m: oe.Normal(m, 1.0), ONE, KEY, 4, method=method, noise=noise
        )


def bad_calls():
    normal = lambda m: oe.Normal(m, 1.0)
    one = ONE
    return {
        "odd pairs": lambda: grad_of(normal, one, oe.pathwise(), n=3, noise=oe.antithetic()),
        "one sample left out": lambda: grad_of(
            normal, one, oe.score_function(oe.leave_one_out()), n=1
        ),
        "groups that do not divide": lambda: grad_of(
            normal, one, oe.score_function(oe.leave_one_out(group=2)), n=3
        ),
        "no samples": lambda: grad_of(normal, one, oe.pathwise(), n=0),
        "vector-valued function": lambda: grad_of(normal, one, oe.pathwise(), f=lambda x: x),
        "complex function": lambda: grad_of(
            normal, one, oe.pathwise(), f=lambda x: jnp.sum(x).astype(jnp.complex64)
        ),
        "too many points": lambda: grad_of(
            oe.Bernoulli, np.zeros(20, np.float32), oe.enumerate_support()
        ),
        "sticking outside an elbo": lambda: grad_of(normal, one, oe.pathwise(True)),
        "too few rows to fit": lambda: grad_of(
            normal, one, oe.controlled(oe.pathwise(), oe.control_delta_method), n=4
        ),
        "unknown gradient": lambda: oe.iwae(square, normal, one, KEY, 2, gradient="best"),
        "vimco alone": lambda: oe.iwae(square, normal, one, KEY, 1, gradient="vimco"),
        "pairs of Gumbel": lambda: oe.make_perturbed_fun(square, antithetic=True),
        "quasi-random counts": lambda: grad_of(
            oe.Poisson, one, oe.score_function(), noise=oe.sobol()
        ),
        "quasi-random stranger": lambda: grad_of(
            Coin, np.float32(0.3), oe.score_function(), noise=oe.sobol()
        ),
        "a group of one": lambda: oe.leave_one_out(group=1),
        "fitted on too few": lambda: oe.control_variates_jacobians(
            square,
            oe.control_delta_method,
            oe.pathwise_jacobians,
            [one, one],
            oe.multi_normal,
            KEY,
            4,
            estimate_cv_coeffs=True,
            estimate_cv_coeffs_num_samples=2,
        ),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_a_call_that_cannot_be_right_is_refused(name):
    with pytest.raises(oe.EstimatorError):
        jax.eval_shape(bad_calls()[name])


@pytest.mark.parametrize(
    "call",
    [
        lambda: oe.gumbel_softmax(0.0),
        lambda: oe.rebar(-1.0),
        lambda: oe.ema_baseline(1.0),
        lambda: oe.evolution(mix=2.0),
        lambda: oe.evolution(baseline="median"),
        lambda: oe.make_perturbed_fun(square, sigma=0.0),
        lambda: oe.Normal(ZEROS, ONE),
        lambda: oe.Dirichlet(1.0),
    ],
)
def test_hyper_parameters_out_of_range_are_refused_when_built(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: oe.Bernoulli(),
        lambda: oe.Bernoulli(0.0, probs=0.5),
        lambda: oe.Normal(1j),
        lambda: oe.expectation(square, lambda p: 3, 1.0, KEY, 2),
        lambda: oe.expectation(square, oe.Normal, 1.0, KEY, 2, method="score"),
        lambda: oe.expectation(square, oe.Normal, 1.0, KEY, 2, noise="sobol"),
        lambda: oe.learned_baseline(square, 1.0, "adam"),
        lambda: oe.relax("critic"),
        lambda: oe.Normal(0.0).sample((3,)),
        lambda: oe.make_perturbed_fun(square)(KEY, np.arange(3)),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(call):
    with pytest.raises(TypeError):
        call()
