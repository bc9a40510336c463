"""Every number that is read at each step may be a schedule, and whatever decays takes a mask."""

import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import apply_updates, build, stateless

FUNCTIONS = {
    name: getattr(optx_aliases, name)
    for name in optx_aliases.__all__
    if inspect.isfunction(getattr(optx_aliases, name))
}
# Read when the state is made, and never again (or, dadapt's, prodigy's and mechanize's, what that start
# is measured by for ever after).
AT_THE_START = {
    "estim_lr0",
    "init_estim_sq_dist",
    "initial_accumulator_value",
    "initial_scale",
    "precond_init_scale",
    "reps_rel",
    "s_init",
}
SQUARES = stateless(lambda updates, params: jax.tree.map(jnp.square, updates))
PARAMS = {"a": jnp.asarray([1.0, -0.5, 0.25]), "b": jnp.asarray([[0.5, 2.0]])}
CURVATURE = {"a": jnp.asarray([1.0, 0.3, 2.0]), "b": jnp.asarray([[0.5, 1.5]])}


def loss(p):
    parts = jax.tree.map(lambda c, x: 0.5 * jnp.sum(c.astype(x.dtype) * x * x), CURVATURE, p)
    return sum(jax.tree.leaves(parts)) + 2.0


def train(tx, steps):
    def step(carry, _):
        p, state = carry
        value, grads = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grads, state, p, value=value)
        return (apply_updates(p, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps))
    return run(PARAMS)[0]


def is_at_the_start(name, parameter):
    return parameter in AT_THE_START or (name, parameter) in {
        ("cocob", "eps"),
        ("scale_by_cocob", "eps"),
        ("scale_by_rprop", "learning_rate"),  # of a schedule it takes the first value
    }


def makes_a_transformation(name):
    return build.hints_of(FUNCTIONS[name]).get("return") is build.Transformation


@pytest.mark.parametrize("name", sorted(filter(makes_a_transformation, FUNCTIONS)))
def test_every_number_may_be_a_schedule(name):
    hints = build.hints_of(FUNCTIONS[name])
    for parameter in set(hints) - {"return", "init_step"}:
        kind = build.declared(hints[parameter])
        assert kind or float not in (hints[parameter], *typing.get_args(hints[parameter]))
        if kind and build.is_number(kind) and not is_at_the_start(name, parameter):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            assert all(one.schedule for one in kinds), parameter


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_whatever_decays_takes_a_mask(name):
    parameters = set(inspect.signature(FUNCTIONS[name]).parameters)
    if parameters & {"weight_decay", "weight_decay_rate"}:
        assert parameters & {"mask", "weight_decay_mask"}


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (optx_aliases.momo, {"beta": 0.8, "lower_bound": 1.0, "weight_decay": 0.1}),
        (
            optx_aliases.momo_adam,
            {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "lower_bound": 1.0, "weight_decay": 0.1},
        ),
        (optx_aliases.dadapt_adamw, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
        (optx_aliases.dadapt_sgd, {"momentum": 0.5, "growth_rate": 1.5, "weight_decay": 0.1}),
        (
            optx_aliases.prodigy,
            {
                "betas": (0.8, 0.9),
                "beta3": 0.7,
                "eps": 1e-3,
                "estim_lr_coef": 2.0,
                "weight_decay": 0.1,
            },
        ),
        (optx_aliases.dog, {"eps": 1e-3}),
        (optx_aliases.dowg, {"eps": 1e-3}),
        (optx_aliases.scale_by_distance_over_gradients, {"eps": 1e-3, "global_scale": -1.0}),
        (
            lambda **numbers: optx_aliases.mechanize(optx_aliases.sgd(0.1), **numbers),
            {"weight_decay": 0.1, "eps": 1e-3},
        ),
        (
            lambda **numbers: optx_aliases.sophia(0.1, hessian_diagonal_fn=SQUARES, **numbers),
            {"clip_threshold": 0.5},
        ),
        (
            optx_aliases.schedule_free_radam,
            {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "weight_lr_power": 1.0},
        ),
    ],
)
def test_a_schedule_that_stays_gives_the_steps_of_the_number(make, numbers):
    def schedule(number):
        if isinstance(number, tuple):
            return tuple(map(schedule, number))
        return lambda count: jnp.where(count >= 0, number, jnp.nan)

    expected, _ = train(make(**numbers), 8)
    made, _ = train(make(**{name: schedule(number) for name, number in numbers.items()}), 8)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_one_of_two_betas_may_follow_a_schedule():
    tx = optx_aliases.prodigy(betas=(lambda count: jnp.where(count > 1, 0.9, 0.0), 0.999))
    (_, state) = train(tx, 3)
    assert type(state).__name__ == "ScheduledState"
    assert int(state.count) == 3


def test_the_noise_of_private_gradients_may_follow_a_schedule():
    tx = optx_aliases.dpsgd(
        1.0, lambda count: 1 + count.astype(float), lambda count: count.astype(float), seed=0
    )
    grads = jnp.full((4, 2), 3.0)
    state = tx.init(jnp.zeros(2))
    quiet, state = tx.update(grads, state, jnp.zeros(2))
    np.testing.assert_allclose(quiet, [-(0.5**0.5)] * 2, rtol=1e-6)  # norm 1, no noise
    noisy, _ = tx.update(grads, state, jnp.zeros(2))
    assert np.ptp(np.asarray(noisy)) > 1e-3


def test_where_the_weight_of_the_average_moves_the_average_is_still_the_papers(x64):
    weights = np.asarray([0.5, 0.9, 0.7, 0.95, 0.6])
    tx = optx_aliases.schedule_free_sgd(0.3, b1=lambda count: jnp.asarray(weights)[count])
    y = jnp.asarray([1.0, -2.0])
    state = tx.init(y)
    x = z = np.asarray(y)
    for k, b1 in enumerate(weights):
        z = z - 0.3 * np.cos(np.asarray(y))
        x = x + (z - x) / (k + 1)
        updates, state = tx.update(jnp.cos(y), state, y)
        y = y + updates
        np.testing.assert_allclose(y, b1 * x + (1 - b1) * z, rtol=1e-12)
        average = optx_aliases.schedule_free_eval_params(state, y)
        np.testing.assert_allclose(average, x, rtol=1e-12)


@pytest.mark.parametrize("bound", [-5.0, 2.0])
@pytest.mark.parametrize("name", ["momo", "momo_adam"])
def test_a_masked_step_is_the_minimum_of_the_papers_model(name, bound, x64):
    rate, decay, mask = 0.5, 0.3, {"a": True, "b": False}
    tx = getattr(optx_aliases, name)(rate, weight_decay=decay, lower_bound=bound, mask=mask)
    p = jax.tree.map(lambda x: jnp.asarray(x, float), PARAMS)
    state = tx.init(p)
    value, grads = jax.value_and_grad(loss)(p)
    updates, state = tx.update(grads, state, p, value=value)
    reached = apply_updates(p, updates)
    adam = name == "momo_adam"
    metric = jax.tree.map(lambda g: jnp.abs(g) + 1e-8 if adam else jnp.ones_like(g), grads)

    def model(y):
        """At the first step all averages, put right, are those of this step."""
        moved = jax.tree.map(jnp.subtract, y, p)
        line = value + sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, moved)))
        near = jax.tree.map(lambda d, m: jnp.sum(d * d * m), moved, metric)
        shrunk = decay * jnp.sum(y["a"] ** 2 * metric["a"]) / 2
        return jnp.maximum(line, bound) + sum(jax.tree.leaves(near)) / (2 * rate) + shrunk

    least = model(reached)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(30):
            aside = jax.tree.map(lambda x, s=size: x + s * rng.normal(size=x.shape), reached)
            assert model(aside) >= least - 1e-12


def test_mechanize_decays_what_its_mask_says():
    def after(**kwargs):
        tx = optx_aliases.mechanize(optx_aliases.sgd(0.1), s_init=0.1, **kwargs)
        return np.asarray(jax.tree.leaves(train(tx, 20)[1].s)[0])

    plain, none = after(weight_decay=0.5), after(weight_decay=0.0)
    assert np.abs(plain - none).max() > 1e-4
    np.testing.assert_array_equal(after(weight_decay=0.5, mask=True), plain)
    np.testing.assert_array_equal(after(weight_decay=0.5, mask=False), none)
    only_a = after(weight_decay=0.5, mask={"a": True, "b": False})
    assert min(np.abs(only_a - plain).max(), np.abs(only_a - none).max()) > 1e-5
