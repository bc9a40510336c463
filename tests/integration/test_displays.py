"""What other libraries print of an optimizer is the call that made it; optax's class is one line away."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training import train_state
from optimizer_rows import ROWS

import optx_aliases
from flax import nnx
from optx_core import MultiSteps, chain, clip_by_global_norm, inject_hyperparams, with_ema
from optx_flax import to_optax

ADAMW = "adamw(learning_rate=0.001, weight_decay=0.01)"
MADE = {
    ADAMW: lambda: optx_aliases.adamw(0.001, weight_decay=0.01),
    f"chain(clip_by_global_norm(max_norm=1.0), {ADAMW})": lambda: chain(
        clip_by_global_norm(1.0), optx_aliases.adamw(0.001, weight_decay=0.01)
    ),
    "inject_hyperparams(sgd)(learning_rate=0.1)": lambda: inject_hyperparams(optx_aliases.sgd)(0.1),
    "with_ema(inner=sgd(learning_rate=0.1), decay=0.99)": lambda: with_ema(
        optx_aliases.sgd(0.1), 0.99
    ),
}


@pytest.mark.parametrize("shown", MADE)
def test_an_nnx_optimizer_shows_the_call(shown):
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    assert f"tx=({shown}.init, {shown}.update)" in repr(
        nnx.Optimizer(model, MADE[shown](), wrt=nnx.Param)
    )


def test_a_train_state_shows_the_call():
    state = train_state.TrainState.create(
        apply_fn=None, params={"w": jnp.ones(2)}, tx=optx_aliases.sgd(0.1)
    )
    assert "tx=sgd(learning_rate=0.1," in repr(state)


@pytest.mark.parametrize("shown", MADE)
def test_optax_class_prints_compares_and_pickles_by_the_call(shown):
    one, other = to_optax(MADE[shown]()), to_optax(MADE[shown]())
    assert repr(one) == f"GradientTransformationExtraArgs(init={shown}.init, update={shown}.update)"
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one


PARAMS = {
    "kernel": np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(8, 4),
    "bias": np.linspace(0.5, 1.0, 4, dtype=np.float32),
}


@pytest.mark.parametrize("name", ROWS)
def test_optax_class_made_of_a_row_runs_as_the_row(name):
    row = ROWS[name]
    tx = row.make()
    wrapped = optax.GradientTransformationExtraArgs(*tx)
    assert isinstance(wrapped, optax.GradientTransformation)
    assert optax.with_extra_args_support(wrapped) is wrapped
    params = jax.tree.map(jnp.asarray, PARAMS)
    grads = jax.tree.map(jnp.cos, params)
    extra = {} if row.extra_args is None else row.extra_args(params, grads)
    inits = [jax.eval_shape(made.init, params) for made in (tx, wrapped)]
    assert inits[0] == inits[1]
    steps = [
        jax.eval_shape(
            lambda g, s, p, made=made: made.update(g, s, p, **extra), grads, inits[0], params
        )
        for made in (tx, wrapped)
    ]
    assert steps[0] == steps[1]
    assert jax.tree.structure(steps[1][1]) == jax.tree.structure(inits[1])


@pytest.mark.parametrize("name", [name for name in ROWS if "," not in name][::12])
def test_optax_class_made_of_a_row_makes_the_same_steps(name):
    row = ROWS[name]
    params = jax.tree.map(jnp.asarray, PARAMS)
    grads = jax.tree.map(jnp.cos, params)
    extra = {} if row.extra_args is None else row.extra_args(params, grads)

    def step(tx):
        return jax.jit(lambda p: tx.update(grads, tx.init(p), p, **extra)[0])(params)

    ours, theirs = step(row.make()), step(optax.GradientTransformationExtraArgs(*row.make()))
    chex.assert_trees_all_equal(ours, theirs)


def test_optax_class_made_of_ours_stands_in_optax_own_functions():
    params = jax.tree.map(jnp.asarray, PARAMS)
    grads = jax.tree.map(jnp.cos, params)
    tx = optax.GradientTransformationExtraArgs(*optx_aliases.sgd(0.1))
    both = optax.chain(optax.clip(0.5), tx)
    updates, _ = both.update(grads, both.init(params), params)
    np.testing.assert_allclose(updates["bias"], -0.1 * np.clip(grads["bias"], -0.5, 0.5), rtol=1e-6)


def test_accumulation_as_a_pair_goes_into_optax_class_too():
    accumulated = MultiSteps(optx_aliases.sgd(0.1), 2)
    wrapped = to_optax(accumulated)
    state = wrapped.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(accumulated.init(PARAMS))
