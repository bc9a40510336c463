"""States of other optimizers are refused where they would be taken for a state of one's own."""

import jax
import jax.numpy as jnp
import pytest

import optx_aliases as a
from optx_core import (
    apply_if_finite,
    chain,
    clip,
    clip_by_global_norm,
    conditionally_mask,
    conditionally_transform,
    freeze,
    identity,
    inject_hyperparams,
    masked,
    per_slice,
    scale,
    scale_by_learning_rate,
    set_to_zero,
    stateless,
    stateless_with_tree_map,
    stochastic_rounding,
    trace,
    with_ema,
)

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
ADAM = a.adam(0.1)
EMA = with_ema(ADAM)  # a count, an average and an inner_state
STACK = {"w": 1, "b": 0}


def falling(count):
    return 0.1 / (1.0 + jnp.asarray(count, float))


def always(step, *_, **__):
    return step >= 0


# name: (the optimizer, the one whose state it is given)
PAIRS = {
    "a schedule's": (ADAM, a.adam(falling)),
    "a number's": (a.adam(falling), ADAM),
    "amsgrad's": (ADAM, a.amsgrad(0.1)),
    "fields of one name": (ADAM, a.adabelief(0.1)),
    "a chain's, scale": (scale(0.5), trace(0.9)),
    "a tuple's, scale": (scale(0.5), ADAM),
    "a tuple's, learning rate": (scale_by_learning_rate(0.5), ADAM),
    "a tuple's, set_to_zero": (set_to_zero(), ADAM),
    "a tuple's, norm": (clip_by_global_norm(1.0), ADAM),
    "identity": (a.sgd(0.1), ADAM),
    "identity alone": (identity(), trace(0.9)),
    "stateless": (stateless(lambda u, p: u), trace(0.9)),
    "stateless_with_tree_map": (stateless_with_tree_map(lambda g, p: g), trace(0.9)),
    "scheduled": (clip(falling), EMA),
    "masked": (masked(ADAM, {"w": True, "b": True}), EMA),
    "freeze": (freeze({"w": True, "b": False}), EMA),
    "cautious": (a.cautious(ADAM), EMA),
    "cautious, inject_hyperparams": (a.cautious(ADAM), inject_hyperparams(a.adam)(0.1)),
    "split_real_and_imaginary": (a.split_real_and_imaginary(ADAM), apply_if_finite(ADAM, 2)),
    "stochastic_rounding": (stochastic_rounding(ADAM), EMA),
    "conditionally_transform": (
        conditionally_transform(ADAM, always),
        conditionally_mask(ADAM, always),
    ),
    "conditionally_mask": (
        conditionally_mask(ADAM, always),
        conditionally_transform(ADAM, always),
    ),
    "per_slice": (per_slice(ADAM, STACK), a.amsgrad(0.1)),
    "per_slice, fields of one name": (per_slice(ADAM, STACK), a.adabelief(0.1)),
    "in a chain": (chain(clip(1.0), masked(ADAM, True)), chain(clip(1.0), EMA)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_state_of_another_is_refused_by_the_call(name):
    tx, other = PAIRS[name]
    with pytest.raises((TypeError, ValueError), match="made by the init of another") as error:
        jax.eval_shape(lambda: tx.update(PARAMS, other.init(PARAMS), PARAMS))
    own = jax.eval_shape(lambda: tx.update(PARAMS, tx.init(PARAMS), PARAMS))
    assert own
    assert str(error.value).split(":")[0].strip() in repr(tx)


# By design: their states hold the same things.
SAME = {
    "adam and adamw's members": (chain(a.scale_by_adam(), scale(0.1)), ADAM),
    "nadam": (a.nadam(0.1), ADAM),
    "injected numbers and schedules": (
        inject_hyperparams(a.adam)(0.1),
        inject_hyperparams(a.adam)(falling),
    ),
    "two schedules": (a.adam(falling), a.adam(lambda count: 0.1)),
}


@pytest.mark.parametrize("name", SAME)
def test_states_that_hold_the_same_are_exchanged(name):
    tx, other = SAME[name]
    jax.eval_shape(lambda: tx.update(PARAMS, other.init(PARAMS), PARAMS))
