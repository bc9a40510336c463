"""Optimizers without a learning rate, on problems of very different scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import apply_updates


def falling(count):
    return 1 - count.astype(float) / 3000


MAKE = {
    "prodigy": lambda: optx_aliases.prodigy(),
    "dadapt_adamw": lambda: optx_aliases.dadapt_adamw(falling),
    "dadapt_sgd": lambda: optx_aliases.dadapt_sgd(falling),
    "dog": lambda: optx_aliases.dog(),
    "dowg": lambda: optx_aliases.dowg(),
    "scale_by_distance_over_gradients": lambda: optx_aliases.scale_by_distance_over_gradients(
        global_scale=-1.0
    ),
    "mechanize": lambda: optx_aliases.mechanize(optx_aliases.sgd(1.0), weight_decay=0.0),
    "cocob": lambda: optx_aliases.cocob(),
}


@pytest.mark.parametrize("name", MAKE)
def test_it_solves_problems_of_different_scale(name):
    """|p − target| averaged over three entries: far targets, near ones, steep and flat slopes.

    D-Adaptation's rate does not fall by itself: the paper schedules it.
    """
    tx = MAKE[name]()

    def run(distance, slope):
        target = distance * jnp.asarray([1.0, -0.7, 0.4])

        def loss(p):
            return slope * jnp.sum(jnp.sqrt((p - target) ** 2 + (0.01 * distance) ** 2))

        def step(carry, _):
            p, state, total = carry
            updates, state = tx.update(jax.grad(loss)(p), state, p)
            p = apply_updates(p, updates)
            return (p, state, total + p), None

        p = jnp.zeros(3)
        (p, _, _), _ = jax.lax.scan(step, (p, tx.init(p), p), length=3000)
        return loss(p) / loss(jnp.zeros(3))

    scales = jnp.asarray([[0.1, 1.0], [1.0, 1.0], [30.0, 1.0], [1.0, 100.0], [1.0, 0.01]])
    left = jax.jit(jax.vmap(run))(*scales.T)
    assert bool(jnp.all(left < 0.1)), left


@pytest.mark.parametrize("name", MAKE)
def test_bfloat16_parameters_keep_their_measures_in_float32(name):
    p = jnp.ones(4, jnp.bfloat16)
    state = MAKE[name]().init(p)
    for x in jax.tree.leaves(state):
        assert not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype == jnp.float32


def test_the_estimate_never_falls_and_starts_where_it_is_told():
    tx, p = optx_aliases.prodigy(estim_lr0=1e-3), jnp.asarray([2.0])
    state, seen = tx.init(p), []
    for _ in range(20):
        seen.append(float(state.estim_lr))
        updates, state = tx.update(p, state, p)
        p = apply_updates(p, updates)
    assert seen == sorted(seen)
    np.testing.assert_allclose(seen[0], 1e-3)


@pytest.mark.parametrize("make", [optx_aliases.prodigy, optx_aliases.dadapt_adamw])
def test_a_mask_keeps_leaves_from_decaying(make):
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = make(estim_lr0=0.1, weight_decay=0.5, mask={"w": True, "b": False})
    updates, state = tx.update(zeros, tx.init(params), params)
    assert bool(jnp.all(updates["w"] < 0))
    np.testing.assert_array_equal(updates["b"], 0.0)
    plain = make(estim_lr0=0.1, weight_decay=0.5)
    expected, _ = plain.update(zeros, plain.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"])
    assert type(state).__name__ in ("ProdigyState", "DAdaptAdamWState")


def test_a_learning_rate_of_zero_scheduled_is_safe():
    tx, p = optx_aliases.prodigy(lambda count: jnp.where(count < 2, 0.0, 1.0)), jnp.ones(2)
    state = tx.init(p)
    for _ in range(4):
        updates, state = tx.update(p, state, p)
        assert bool(jnp.all(jnp.isfinite(updates)))


def test_dadapt_sgd_waits_for_a_gradient_that_is_not_zero():
    tx, p = optx_aliases.dadapt_sgd(), jnp.ones(2)
    _, state = tx.update(jnp.zeros(2), tx.init(p), p)
    updates, state = tx.update(jnp.asarray([3.0, 4.0]), state, p)
    np.testing.assert_allclose(state[1].first_norm, 5.0)
    np.testing.assert_allclose(jnp.linalg.norm(updates), 1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_an_enormous_first_gradient_does_not_stop_later_steps(name):
    tx, p = MAKE[name](), jnp.array([1.0, -2.0])
    state = tx.init(p)
    for scale in (1e25, 1.0, 1.0):
        updates, state = tx.update(scale * p, state, p)
        for x in jax.tree.leaves((updates, state)):
            assert bool(jnp.all(jnp.isfinite(x)))
    assert bool(jnp.all(updates != 0))


def test_growth_is_bounded_by_the_rate():
    tx, p = optx_aliases.dadapt_sgd(growth_rate=1.5), jnp.asarray([3.0])
    state, seen = tx.init(p), []
    for _ in range(12):
        updates, state = tx.update(p, state, p)
        p = apply_updates(p, updates)
        seen.append(float(state[1].estim_lr))
    ratios = np.asarray(seen[1:]) / seen[:-1]
    assert ratios.max() <= 1.5 * (1 + 1e-6)
    assert ratios.max() > 1.4


def test_a_zero_dimensional_parameter_keeps_its_shape_in_ldog():
    tx, p = optx_aliases.scale_by_distance_over_gradients(), jnp.asarray(1.0)
    assert tx.update(p, tx.init(p), p)[0].shape == ()


def test_mechanize_tunes_any_optimizer_and_hands_arguments_on():
    tx = optx_aliases.mechanize(optx_aliases.momo())
    p = jnp.ones(2)
    updates, state = tx.update(p, tx.init(p), p, value=jnp.asarray(1.0))
    assert updates.shape == (2,)
    assert int(state.base_optimizer_state.count) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optx_aliases.dog(init_step=("guess", 1.0)), "init_step must be"),
        (lambda: optx_aliases.dog(init_step=("distance", 0.0)), "must be greater than 0"),
        (lambda: optx_aliases.dowg(eps=0.0), "eps must be greater than 0"),
        (lambda: optx_aliases.prodigy(betas=(1.0, 0.9)), r"betas\[0\] must be less than 1"),
        (lambda: optx_aliases.dadapt_adamw(estim_lr0=0.0), "estim_lr0 must be greater than 0"),
        (lambda: optx_aliases.dadapt_sgd(growth_rate=0.5), "growth_rate must be at least 1"),
        (lambda: optx_aliases.mechanize(optx_aliases.sgd(1.0), num_betas=0), "num_betas must be"),
        (lambda: optx_aliases.mechanize(optx_aliases.sgd), "call it: sgd"),
        (lambda: optx_aliases.cocob(eps=0.0), "eps must be greater than 0"),
        (lambda: optx_aliases.madgrad(0.1, eps=0.0), "eps must be greater than 0"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("name", [*MAKE, "madgrad"])
def test_the_parameters_are_asked_for(name):
    tx = {**MAKE, "madgrad": lambda: optx_aliases.madgrad(0.1)}[name]()
    with pytest.raises(ValueError, match="needs the parameters: call update"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("name", ["cocob"])
def test_complex_parameters_are_refused_by_name(name):
    tx, p = MAKE[name](), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError, match="split_real_and_imaginary"):
        tx.update(p, tx.init(p), p)
    split = optx_aliases.split_real_and_imaginary(tx)
    assert split.update(p, split.init(p), p)[0].dtype == jnp.complex64


def test_numbers_at_the_end_of_their_range_work():
    p = jnp.array([1.0, -2.0])
    for tx in (
        optx_aliases.prodigy(beta3=1.0),
        optx_aliases.prodigy(beta3=0.0),
        optx_aliases.mechanize(optx_aliases.sgd(1.0), num_betas=1),
        optx_aliases.dadapt_sgd(growth_rate=1.0),
    ):
        updates, _ = tx.update(2 * p, tx.init(p), p)
        assert bool(jnp.all(jnp.isfinite(updates)))
    for number in (2.5, 0, True):
        with pytest.raises(ValueError, match="mechanize: num_betas must be"):
            optx_aliases.mechanize(optx_aliases.sgd(1.0), num_betas=number)
