"""Backtracking and zoom: what they accept, how often they evaluate, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_aliases import (
    lbfgs,
    scale_by_backtracking_linesearch,
    scale_by_zoom_linesearch,
    sgd,
    value_and_grad_from_state,
)
from optx_core import apply_updates, chain

SEARCHES = {
    "zoom": scale_by_zoom_linesearch(15),
    "backtracking": scale_by_backtracking_linesearch(40),
    "backtracking, store_grad": scale_by_backtracking_linesearch(40, store_grad=True),
}
FUNCTIONS = {
    "quartic": lambda x: (x - 3.0) ** 4,
    "hilly": lambda x: (x - 2.0) ** 2 + jnp.sin(8 * x),
    "steep": lambda x: jnp.exp(4 * x) - 20 * x,
    "flat tails": lambda x: jnp.log1p((x - 9.0) ** 2),
    "stiff": lambda x: 1e6 * (x - 0.01) ** 2 + x**4,
    "cosine": lambda x: jnp.cos(x) + 0.1 * x,
    "shallow": lambda x: 1e-3 * (x - 0.0123) ** 2,
}


def search(tx, f, p, u=None, state=None):
    """One update along u, by default down the gradient: updates, state, and the points evaluated."""
    seen = []

    def counted(q, **data):
        jax.debug.callback(lambda q: seen.append(jax.tree.map(np.asarray, q)), q)
        return f(q, **data)

    value, grad = jax.value_and_grad(f)(p)
    u = jax.tree.map(lambda g: -jnp.conj(g), grad) if u is None else u
    state = tx.init(p) if state is None else state
    made = tx.update(u, state, p, value=value, grad=grad, value_fn=counted)
    jax.effects_barrier()
    return *made, seen


def armijo(f, p, u, slope, guess=1.0, c=1e-4, shrink=0.8):
    """Backtracking in NumPy."""
    step, trials = guess, 1
    while not f(p + step * u) <= f(p) + c * step * slope:
        step, trials = shrink * step, trials + 1
    return step, trials


STARTS = np.array([0.0, -1.0, 5.0])


def searches(f, starts, make):
    """A search down the gradient from each start, as one program: updates and states."""

    @jax.jit
    @jax.vmap
    def run(p):
        value, grad = jax.value_and_grad(f)(p)
        tx = make()
        return tx.update(-grad, tx.init(p), p, value=value, grad=grad, value_fn=f)

    return run(jnp.asarray(starts))


@pytest.mark.parametrize("name", ["hilly", "stiff", "flat tails"])
def test_backtracking_takes_armijos_step(name, x64):
    f = FUNCTIONS[name]
    updates, state = searches(f, STARTS, lambda: scale_by_backtracking_linesearch(100))
    for k, start in enumerate(STARTS):
        slope = float(jax.grad(f)(start))
        step, trials = armijo(lambda x: float(f(x)), start, -slope, -slope * slope)
        np.testing.assert_allclose(state.learning_rate[k], step, rtol=1e-12)
        np.testing.assert_allclose(updates[k], -step * slope, rtol=1e-12)
        assert int(state.info.num_linesearch_steps[k]) == trials
        assert state.info.decrease_error[k] == 0
        np.testing.assert_allclose(state.value[k], f(start + updates[k]), rtol=1e-12)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_step_of_the_zoom_search_satisfies_strong_wolfe(name, wide):
    f, c1 = FUNCTIONS[name], 1e-4
    with jax.enable_x64(wide):
        for_all = np.repeat(STARTS, 2)
        curvatures = np.tile([0.9, 0.1], len(STARTS))

        @jax.jit
        @jax.vmap
        def run(p, curv_rtol):
            tx = scale_by_zoom_linesearch(30, curv_rtol=curv_rtol, approx_dec_rtol=None)
            value, grad = jax.value_and_grad(f)(p)
            u, state = tx.update(-grad, tx.init(p), p, value=value, grad=grad, value_fn=f)
            return value, grad, f(p + u), jax.grad(f)(p + u), state

        before, g, after, g_there, state = run(jnp.asarray(for_all), jnp.asarray(curvatures))
        eps = float(jnp.finfo(before.dtype).eps)
        step = np.asarray(state.learning_rate)
        assert (step > 0).all()
        rounding = 8 * eps * np.abs(before)
        assert (after <= before - c1 * step * g * g + rounding).all()
        done = np.asarray(state.info.curvature_error) == 0
        assert done.all() or not wide  # in float32 the interval can shrink to nothing before
        assert (np.abs(g * g_there) <= curvatures * g * g * (1 + 1e-5))[done].all()


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_a_search_steps_back_from_values_that_are_not_finite(name, bad):
    def f(x):
        return jnp.where(x < 0.4, bad, (x - 0.5) ** 2)

    updates, state, _ = search(SEARCHES[name], f, jnp.asarray(1.0), jnp.asarray(-1.0))
    assert 0.4 <= 1.0 + float(updates) < 1.0
    np.testing.assert_allclose(state.value, f(1.0 + updates), rtol=1e-5)


@pytest.mark.parametrize("name", SEARCHES)
def test_where_nothing_is_finite_nothing_moves_and_the_next_step_starts_anew(name):
    def broken(x):
        return jnp.where(x == 1.0, 1.0, jnp.nan) + 0.0 * x

    tx, p = SEARCHES[name], jnp.asarray(1.0)
    given = {"value": jnp.asarray(1.0), "grad": jnp.asarray(1.0)}
    updates, state = tx.update(jnp.asarray(-1.0), tx.init(p), p, value_fn=broken, **given)
    assert (updates, state.learning_rate, state.value) == (0.0, 0.0, 1.0)
    after, state = tx.update(
        jnp.asarray(-1.0), state, p, value_fn=lambda x: (x - 0.5) ** 2 + 0.75, **given
    )
    assert -1.0 <= float(after) < 0.0


def test_a_direction_that_does_not_descend_is_not_followed():
    updates, state, seen = search(
        scale_by_zoom_linesearch(10), lambda x: x * x, jnp.asarray(1.0), jnp.asarray(1.0)
    )
    assert (updates, state.learning_rate, state.value, len(seen)) == (0.0, 0.0, 1.0, 0)
    assert bool(jnp.isinf(state.info.decrease_error))
    nothing, _, _ = search(
        scale_by_zoom_linesearch(10), lambda x: x * x, jnp.asarray(1.0), jnp.asarray(jnp.nan)
    )
    assert nothing == 0.0


@pytest.mark.parametrize("name", SEARCHES)
def test_zero_updates_stay_zero_at_the_cost_of_one_evaluation(name):
    updates, state, seen = search(SEARCHES[name], lambda x: x * x, jnp.zeros(()), jnp.zeros(()))
    assert (updates, state.value, len(seen)) == (0.0, 0.0, 1)


def test_the_guess_grows_is_kept_or_is_one():
    f = lambda x: jnp.sum(x**2)
    p = jnp.ones(2)
    tx = scale_by_backtracking_linesearch(20, max_learning_rate=3.0)
    _, state, _ = search(tx, f, p, -0.01 * p)
    np.testing.assert_allclose(state.learning_rate, 1.5)
    _, state, _ = search(tx, f, p, -0.01 * p, state=state)
    np.testing.assert_allclose(state.learning_rate, 2.25)
    _, state, _ = search(tx, f, p, -0.01 * p, state=state)
    np.testing.assert_allclose(state.learning_rate, 3.0)  # the longest
    for strategy, trials in (("keep", 1), ("one", 5)):
        tx = scale_by_zoom_linesearch(20, initial_guess_strategy=strategy)
        _, state, first = search(tx, f, p, -0.01 * p)
        _, state, again = search(tx, f, p, -0.01 * p, state=state)
        assert (len(first), len(again)) == (5, trials)


def test_lines_longer_than_the_limit_are_not_tried():
    tx = scale_by_zoom_linesearch(20, max_learning_rate=5.0)
    _, state, seen = search(tx, lambda x: -x, jnp.asarray(0.0))
    assert float(state.learning_rate) == 5.0
    assert max(map(float, seen)) == 5.0


def test_data_reach_the_loss_by_name_and_nothing_else_does():
    def loss(p, x):
        return jnp.sum((p - x) ** 2)

    p, x = jnp.zeros(2), jnp.ones(2)
    for tx in SEARCHES.values():
        value, grad = jax.value_and_grad(loss)(p, x)
        updates, _ = tx.update(
            -grad, tx.init(p), p, value=value, grad=grad, value_fn=loss, x=x, other=3.0
        )
        assert loss(p + updates, x) < value


@pytest.mark.parametrize("name", ["zoom", "backtracking, store_grad"])
def test_a_step_that_accepts_its_first_trial_evaluates_the_loss_once(name):
    count = []

    def loss(p):
        jax.debug.callback(lambda: count.append(1))
        return 0.5 * jnp.sum(p["w"] ** 2) + 0.25 * p["b"] ** 2

    tx = lbfgs(linesearch=SEARCHES[name])
    p = {"w": jnp.array([0.3, -0.2]), "b": jnp.asarray(0.1)}
    value_and_grad = value_and_grad_from_state(loss)

    @jax.jit
    def step(p, state):
        value, grad = value_and_grad(p, state=state)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=loss)
        return apply_updates(p, updates), state

    state, evaluations = tx.init(p), []
    for _ in range(5):
        count.clear()
        p, state = step(p, state)
        jax.effects_barrier()
        evaluations.append((len(count), int(state[-1].info.num_linesearch_steps)))
    assert evaluations == [
        (2, 1),
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]  # the first evaluates the start too


def test_stored_value_and_gradient_are_those_of_the_loss_also_in_bf16():
    def loss(p):
        return jnp.sum(jnp.cos(p["a"].astype(jnp.float32))) + jnp.sum(
            p["b"].astype(jnp.float32) ** 2
        )

    p = {"a": jnp.ones((2, 2)), "b": jnp.ones(3, jnp.bfloat16), "none": None, "n": jnp.arange(2)}
    tx = chain(sgd(0.5), scale_by_zoom_linesearch(10))
    stored = value_and_grad_from_state(loss)
    value, grad = stored(p, state=tx.init(p))
    assert (grad["n"], grad["none"]) == (None, None)
    updates, state = tx.update(grad, tx.init(p), p, value=value, grad=grad, value_fn=loss)
    p = apply_updates(p, updates)
    value, grad = stored(p, state=state)
    expected, slopes = jax.value_and_grad(loss, allow_int=True)(p)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for name in ("a", "b"):
        assert grad[name].dtype == p[name].dtype
        np.testing.assert_array_equal(grad[name].astype(float), slopes[name].astype(float))


def test_value_and_grad_from_state_says_what_is_missing():
    loss = lambda p: jnp.sum(p**2)
    stored, p = value_and_grad_from_state(loss), jnp.ones(2)
    with pytest.raises(KeyError, match="holds 0 line searches"):
        stored(p, state=optx_aliases.adam(1e-3).init(p))
    with pytest.raises(KeyError, match="holds 2 line searches"):
        stored(p, state=chain(lbfgs(), scale_by_zoom_linesearch(3)).init(p))
    with pytest.raises(ValueError, match="store_grad=True"):
        stored(p, state=scale_by_backtracking_linesearch(3).init(p))
    with pytest.raises(TypeError, match="takes a function"):
        value_and_grad_from_state(3)


CALL = r"call update\(grads, state, params, value=\.\.\., grad=\.\.\., value_fn=\.\.\.\)"


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("missing", ["value", "grad", "value_fn", "params"])
def test_what_is_missing_is_named_with_the_call_to_write(name, missing):
    tx, p = SEARCHES[name], jnp.ones(2)
    given = {"value": 2.0, "grad": p, "value_fn": lambda p: jnp.sum(p**2), "params": p}
    given[missing] = None
    with pytest.raises(ValueError, match=rf"scale_by_\w+ needs (the parameters|{missing}).*{CALL}"):
        tx.update(p, tx.init(p), given.pop("params"), **given)


def test_losses_and_gradients_of_another_shape_are_refused():
    tx, p = scale_by_zoom_linesearch(3), {"a": jnp.ones(2)}
    given = {"value": 1.0, "grad": p, "value_fn": lambda p: jnp.sum(p["a"])}
    with pytest.raises(ValueError, match="the loss must be one real number"):
        tx.update(p, tx.init(p), p, **given | {"value_fn": lambda p: p["a"]})
    with pytest.raises(ValueError, match="the loss must be one real number"):
        tx.update(p, tx.init(p), p, **given | {"value": jnp.ones(2)})
    with pytest.raises(ValueError, match="grad has another structure"):
        tx.update(p, tx.init(p), p, **given | {"grad": {"b": jnp.ones(2)}})
    with pytest.raises(TypeError, match="value_fn must be a function"):
        tx.update(p, tx.init(p), p, **given | {"value_fn": 3.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scale_by_zoom_linesearch(0), "max_linesearch_steps must be at least 1"),
        (lambda: scale_by_zoom_linesearch(5, slope_rtol=1.0), "slope_rtol must be less than 1"),
        (
            lambda: scale_by_zoom_linesearch(5, increase_factor=1.0),
            "increase_factor must be greater",
        ),
        (lambda: scale_by_zoom_linesearch(5, initial_guess_strategy="two"), "one of 'keep', 'one'"),
        (lambda: scale_by_backtracking_linesearch(-1), "max_backtracking_steps must be at least 0"),
        (
            lambda: scale_by_backtracking_linesearch(5, decrease_factor=1.0),
            "decrease_factor must be",
        ),
        (
            lambda: scale_by_backtracking_linesearch(5, increase_factor=0.5),
            "increase_factor must be",
        ),
    ],
)
def test_numbers_that_cannot_work_are_refused_when_it_is_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "tx",
    [
        scale_by_backtracking_linesearch(30, slope_rtol=0.0),
        scale_by_zoom_linesearch(30, slope_rtol=0.0),
        scale_by_zoom_linesearch(30, curv_rtol=0.0, tol=1e-4),
        scale_by_zoom_linesearch(30, tol=0.0, approx_dec_rtol=0.0, stepsize_precision=0.0),
    ],
)
def test_numbers_at_the_end_of_their_range_work(tx):
    updates, state, _ = search(tx, FUNCTIONS["quartic"], jnp.asarray(0.0))
    assert float(FUNCTIONS["quartic"](updates)) < 81.0
    assert float(state.info.decrease_error) == 0


def test_numbers_may_be_schedules_and_limits_may_be_infinite():
    f, p = lambda x: jnp.sum(x**2), jnp.ones(2)
    tx = scale_by_backtracking_linesearch(
        20,
        increase_factor=jnp.inf,
        max_learning_rate=lambda count: jnp.where(count == 0, 0.5, 0.25),
    )
    _, state, _ = search(tx, f, p, -0.01 * p)
    _, state, _ = search(tx, f, p, -0.01 * p, state=state)
    np.testing.assert_allclose(state.inner_state.learning_rate, 0.25)
    only_decrease = scale_by_zoom_linesearch(20, curv_rtol=jnp.inf)
    _, state, seen = search(only_decrease, f, p, -0.01 * p)
    assert len(seen) == 1


def test_verbose_says_what_happened_only_when_a_search_fails(capfd):
    f, p = lambda x: jnp.sum(x**2), jnp.ones(2)
    for tx in (
        scale_by_zoom_linesearch(2, verbose=True),
        scale_by_backtracking_linesearch(2, verbose=True),
    ):
        search(tx, f, p)
        assert not capfd.readouterr().out
        search(tx, f, p, -1e6 * p)
        assert "after" in capfd.readouterr().out


def test_searches_work_on_complex_parameters_and_under_vmap():
    def f(z):
        return jnp.sum(jnp.abs(z - (1 + 2j)) ** 2)

    for tx in SEARCHES.values():
        z = jnp.array([0.3 - 1j, 2.0 + 0j])
        updates, _, _ = search(tx, f, z)
        assert updates.dtype == z.dtype
        assert f(z + updates) < 0.5 * f(z)

        def one(p, tx=tx):
            value, grad = jax.value_and_grad(lambda p: jnp.sum(p**4))(p)
            given = {"value": value, "grad": grad, "value_fn": lambda p: jnp.sum(p**4)}
            return tx.update(-grad, tx.init(p), p, **given)[1].learning_rate

        ps = jnp.array([[0.1, 0.2], [3.0, 4.0]])
        np.testing.assert_allclose(jax.vmap(one)(ps), [one(p) for p in ps], rtol=1e-6)
