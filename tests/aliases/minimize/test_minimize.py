"""`minimize`: what it finds, why it stops, what it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minimize_problems import MGH, NEAR_ZERO, PROBLEMS, rosenbrock, wood

from optx_aliases import (
    MinimizeStatus,
    adam,
    lbfgs,
    minimize,
    polyak_sgd,
    scale_by_zoom_linesearch,
    sgd,
)
from optx_core import chain


def kkt(x, grad, bounds):
    """The largest entry of the projected gradient, in NumPy."""
    low, high = bounds or (None, None)
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return np.abs(np.clip(x - grad, low, high) - x).max()


# All in double precision too, beside SciPy, in tests/integration.
WIDE = ("Rosenbrock, 20", "Powell singular", "Rosenbrock, 20, from below", "badly scaled, half")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "wide"), [(name, False) for name in PROBLEMS] + [(name, True) for name in WIDE]
)
def test_it_solves(name, wide):
    fun, x0, bounds, least = PROBLEMS[name]
    with jax.enable_x64(wide):
        start = jnp.asarray(x0, jnp.float64 if wide else jnp.float32)
        found = minimize(fun, start, bounds=bounds)
        first = float(fun(start))
        x, value = np.asarray(found.x), float(found.value)
        assert bool(found.success), found.message
        assert found.x.dtype == start.dtype
        np.testing.assert_allclose(value, float(fun(found.x)), rtol=1e-5, atol=1e-6)
        if least is not None:
            assert value - least <= (1e-6 if wide else 1e-5) * (1 + abs(least)), value
        if bounds:
            low, high = bounds
            assert low is None or (x >= start.dtype.type(low)).all()
            assert high is None or (x <= start.dtype.type(high)).all()
        size = kkt(x, np.asarray(found.grad), bounds)
        assert size <= 1e-5 or found.status == MinimizeStatus.VALUE
        assert size <= (5e-3 if wide else 0.3) * (1 + first) ** 0.5, size


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", MGH)
def test_small_losses_and_flat_ground_are_solved_too(name, wide):
    fun, x0, least = MGH[name]
    with jax.enable_x64(wide):
        result = minimize(fun, jnp.asarray(x0, jnp.float64 if wide else jnp.float32))
        assert bool(result.success), result.message
        assert float(result.value) - least <= 1e-5 * least + 1e-10 * (least == 0)
        assert int(result.num_evaluations) <= 120


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", NEAR_ZERO)
def test_a_least_value_near_zero_is_not_taken_for_zero(name, wide):
    fun, x0, *reached = NEAR_ZERO[name]
    with jax.enable_x64(wide):
        result = minimize(fun, jnp.asarray(x0, jnp.float64 if wide else jnp.float32))
        assert bool(result.success), result.message
        assert float(result.value) <= reached[0 if wide else 1]


@pytest.mark.parametrize("bounds", [None, (None, 1e4), (0.0, None)])
@pytest.mark.parametrize("optimizer", [None, "bfgs"])
def test_a_function_without_a_minimum_is_unbounded(optimizer, bounds):
    if bounds and optimizer:
        return
    result = minimize(lambda x: -jnp.sum(x), jnp.zeros(2), optimizer, bounds=bounds)
    limited = bounds is not None and bounds[1] is not None
    expected = MinimizeStatus.GRADIENT if limited else MinimizeStatus.UNBOUNDED
    assert result.status == expected, result.message
    assert bool(result.success) == limited
    assert int(result.num_steps) < 40


@pytest.mark.parametrize("name", ["Rosenbrock, 20", "badly scaled, 1 to 1e6", "Powell singular"])
def test_dense_bfgs_solves_them_too(name):
    fun, x0, _, least = PROBLEMS[name]
    with jax.enable_x64(True):
        result = minimize(fun, jnp.asarray(x0, jnp.float64), "bfgs")
        assert bool(result.success)
        assert float(result.value) - least <= 1e-8


def test_bfgs_estimates_the_inverse_hessian_and_takes_trees(x64):
    hessian = jnp.asarray([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])

    def bowl(p):
        x = jnp.concatenate([p["a"], p["b"][None]]) - jnp.asarray([1.0, 2.0, 3.0])
        return 0.5 * jnp.sum(x * jnp.sum(hessian * x[None], axis=1))

    x0 = {"a": jnp.zeros(2), "b": jnp.asarray(0.0), "n": jnp.arange(2)}
    result = minimize(bowl, x0, "bfgs", gtol=1e-12)
    np.testing.assert_allclose(result.x["a"], [1.0, 2.0], rtol=1e-5)
    np.testing.assert_array_equal(result.x["n"], [0, 1])
    np.testing.assert_allclose(result.state.inverse, jnp.linalg.inv(hessian), atol=0.06)
    saddle = minimize(wood, jnp.asarray([-3.0, -1.0, -3.0, -1.0]), "bfgs")
    assert float(saddle.value) < 1e-10


def test_why_it_stops():
    def stops(status, fun, x0, *args, **options):
        found = minimize(fun, jnp.asarray(x0), *args, **options)
        assert found.status == status, found.message
        assert MinimizeStatus(status).message == found.message
        assert bool(found.success) == (status in (1, 2, 3))
        return found

    square = lambda x: jnp.sum(x * x)
    at_once = stops(MinimizeStatus.GRADIENT, square, [0.0])
    assert (at_once.num_steps, at_once.num_evaluations) == (0, 1)
    stops(MinimizeStatus.VALUE, rosenbrock, [-1.2, 1.0], gtol=0.0, ftol=1e-3)
    stops(MinimizeStatus.PARAMS, rosenbrock, [-1.2, 1.0], gtol=0.0, ftol=0.0, xtol=1e-3)
    found = stops(MinimizeStatus.MAX_STEPS, rosenbrock, [-1.2, 1.0], max_steps=3)
    assert found.num_steps == 3
    none = stops(MinimizeStatus.MAX_STEPS, rosenbrock, [-1.2, 1.0], max_steps=0)
    np.testing.assert_array_equal(none.x, np.float32([-1.2, 1.0]))

    def pit(x):  # nowhere else is it as low as where it starts, whatever the gradient says
        at_start = jnp.all(x == jnp.array([1.0, 2.0]))
        return jnp.sum(x * x) - jnp.where(at_start, 10.0, 0.0)

    for bounds in (None, (-3.0, 3.0)):
        found = stops(MinimizeStatus.NO_DECREASE, pit, [1.0, 2.0], bounds=bounds)
        np.testing.assert_array_equal(found.x, [1.0, 2.0])
        found = stops(
            MinimizeStatus.NOT_FINITE, lambda x: jnp.sum(jnp.log(x)), [-1.0], bounds=bounds
        )
        np.testing.assert_array_equal(found.x, [-1.0])
    found = stops(MinimizeStatus.NOT_FINITE, lambda x: jnp.sum(x**4), [3.0], sgd(1.0))
    assert bool(jnp.isfinite(found.value))  # the last point that was finite


@pytest.mark.parametrize("bounds", [None, (1e-6, 0.999)])
def test_it_steps_back_from_where_the_function_is_not_defined(bounds):
    def barrier(x):
        return -jnp.sum(jnp.log(x) + jnp.log1p(-x)) + 8.0 * jnp.sum(x)

    found = minimize(barrier, jnp.array([0.9, 0.5, 0.01]), bounds=bounds)
    assert bool(found.success), found.message
    exact = (5 - np.sqrt(17)) / 8  # the zero of -1/x + 1/(1-x) + 8
    np.testing.assert_allclose(found.x, exact, rtol=2e-3)


TREE = {
    "a": jnp.ones((2, 3)),
    "b": jnp.asarray(0.0),
    "empty": jnp.zeros((0, 3)),
    "none": None,
    "n": jnp.arange(3),
}


def of_tree(p, y):
    value = jnp.sum((p["a"] - y) ** 2) + (p["b"] - 1.0) ** 4 + jnp.sum(p["empty"])
    return value, {"mean": jnp.mean(p["a"])}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bounds": (-1.0, 2.5)},
        {
            "bounds": (
                {**TREE, "a": -1.0, "b": None},
                {**TREE, "a": 2.5 * jnp.ones((2, 3)), "b": 9.0},
            )
        },
        {"optimizer": adam(0.1), "bounds": (None, 2.5)},
        {"optimizer": chain(sgd(1.0), scale_by_zoom_linesearch(15))},
        {"optimizer": polyak_sgd()},
    ],
)
def test_trees_data_and_auxiliary_output(options):
    y = jnp.full((2, 3), 3.0)
    found = minimize(of_tree, TREE, args=(y,), has_aux=True, max_steps=400, **options)
    expected = 2.5 if "bounds" in options else 3.0
    np.testing.assert_allclose(found.x["a"], expected, atol=2e-3)
    np.testing.assert_allclose(found.x["b"], 1.0, atol=0.1)
    np.testing.assert_allclose(found.aux["mean"], expected, atol=2e-3)
    assert (found.x["none"], found.x["empty"].shape) == (None, (0, 3))
    np.testing.assert_array_equal(found.x["n"], [0, 1, 2])


def test_evaluations_are_counted_as_they_happen():
    for options in ({}, {"bounds": (-2.0, 2.0)}, {"optimizer": sgd(1e-3), "max_steps": 7}):
        count = []

        def counted(x):
            jax.debug.callback(lambda: count.append(1))
            return rosenbrock(x)

        found = minimize(counted, jnp.array([-1.2, 1.0]), **options)
        jax.effects_barrier()
        assert len(count) == int(found.num_evaluations), options


def test_new_data_and_tolerances_do_not_compile_again():
    traced = []

    def loss(x, y):
        traced.append(1)
        return jnp.sum((x - y) ** 2)

    for k in range(3):
        found = minimize(
            loss,
            jnp.zeros(2),
            lbfgs(),
            args=(jnp.full(2, float(k)),),
            gtol=10.0**-k,
            max_steps=50 + k,
        )
        np.testing.assert_allclose(found.x, k, atol=1e-3)
        if k == 0:
            once = len(traced)
    assert len(traced) == once


@pytest.mark.parametrize("bounds", [None, (None, 0.4)])
def test_it_runs_under_jit_and_vmap_each_lane_to_its_own_end(bounds):
    def loss(x, y):
        return jnp.sum((x - y) ** 4 + x**2)

    def solve(y):
        return minimize(loss, jnp.zeros(2), args=(y,), bounds=bounds)

    ys = jnp.array([[0.0, 0.0], [0.3, 1.0], [2.0, 3.0]])
    found = jax.jit(jax.vmap(solve))(ys)
    assert found.status.shape == (3,)
    assert len(set(map(int, found.num_evaluations))) > 1
    for lane, y in enumerate(ys):
        alone = solve(y)
        np.testing.assert_allclose(found.x[lane], alone.x, atol=1e-4)
        assert found.num_evaluations[lane] == alone.num_evaluations


def test_complex_parameters_and_bf16():
    def loss(z):
        return jnp.sum(jnp.abs(z - (1 + 2j)) ** 2)

    np.testing.assert_allclose(minimize(loss, jnp.array([0.3 - 1j, 2j])).x, 1 + 2j, atol=1e-4)
    for bounds in (None, (-1.0, 1.0)):
        half = minimize(
            lambda x: jnp.sum((x.astype(jnp.float32) - 0.5) ** 2),
            jnp.zeros(2, jnp.bfloat16),
            bounds=bounds,
        )
        assert half.x.dtype == jnp.bfloat16
        np.testing.assert_allclose(half.x.astype(float), 0.5, atol=1e-2)


def test_a_start_outside_is_moved_into_the_box_and_equal_bounds_hold_still():
    found = minimize(lambda x: jnp.sum((x - 5.0) ** 2), jnp.array([9.0, -9.0]), bounds=(0.0, 1.0))
    np.testing.assert_array_equal(found.x, [1.0, 1.0])
    low, high = jnp.array([0.25, -9.0]), jnp.array([0.25, 9.0])
    found = minimize(lambda x: jnp.sum((x - 5.0) ** 2), jnp.zeros(2), bounds=(low, high))
    np.testing.assert_allclose(found.x, [0.25, 5.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x: minimize(3, x), TypeError, "fun must be a function"),
        (
            lambda f, x: minimize(f, x, adam),
            TypeError,
            r"minimize takes transformations.*adam\(\.\.\.\)",
        ),
        (lambda f, x: minimize(f, None), ValueError, "no floating-point array"),
        (lambda f, x: minimize(f, x, bounds=3.0), TypeError, r"must be a pair \(lower, upper\)"),
        (
            lambda f, x: minimize(f, x, bounds=(1.0, 0.0)),
            ValueError,
            r"x0\['a'\] is above its upper",
        ),
        (
            lambda f, x: minimize(f, x, bounds=({"a": jnp.ones(3)}, None)),
            ValueError,
            r"the lower bound of x0\['a'\] is \(3,\), x0 is \(2,\)",
        ),
        (lambda f, x: minimize(f, x, bounds=({"b": 0.0}, None)), ValueError, "another structure"),
        (
            lambda f, x: minimize(f, x, lbfgs(), bounds=(0.0, 1.0)),
            ValueError,
            "leave optimizer=None",
        ),
        (
            lambda f, x: minimize(f, {"a": jnp.ones(2, jnp.complex64)}, bounds=(0.0, 1.0)),
            ValueError,
            r"x0\['a'\] is complex",
        ),
        (lambda f, x: minimize(f, x, gtol=-1.0), ValueError, "gtol must be at least 0"),
        (lambda f, x: minimize(f, x, "bfgs", bounds=(0.0, 1.0)), ValueError, "without bounds"),
        (
            lambda f, x: minimize(f, {"a": jnp.ones(2, jnp.complex64)}, "bfgs"),
            ValueError,
            '"bfgs" takes real x0',
        ),
        (
            lambda f, x: minimize(f, x, bounds=(0.0, 1.0), memory_size=0),
            ValueError,
            "memory_size must be an int of at least 1",
        ),
        (lambda f, x: minimize(lambda p: p["a"], x), ValueError, "one real number"),
    ],
)
def test_what_cannot_work_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda p: jnp.sum(p["a"] ** 2), {"a": jnp.ones(2)})
