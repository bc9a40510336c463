"""Lookahead in `nnx.Optimizer`, and transformations for libraries that check for optax's class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optx_core
from flax import nnx
from optx_core import LookaheadParams, apply_updates, chain, scale_by_learning_rate, trace
from optx_flax import compile_step, lookahead, to_optax


def test_a_model_moves_as_the_fast_weights_of_the_pair():
    fast = chain(trace(0.9), scale_by_learning_rate(0.1))
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    params = nnx.as_pure(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, lookahead(fast, 3, 0.5, reset_state=True), wrt=nnx.Param)
    pair = LookaheadParams.init_synced(params)
    tx = optx_core.lookahead(fast, 3, 0.5, reset_state=True)
    state = tx.init(pair)

    def step_fn(model, optimizer):
        grads = nnx.grad(lambda m: jnp.sum(jnp.sin(m.kernel[...])) + jnp.sum(m.bias[...]))(model)
        optimizer.update(model, grads)

    step = compile_step(step_fn, model, optimizer)
    for _ in range(7):
        step()
        grads = {"kernel": jnp.cos(pair.fast["kernel"]), "bias": jnp.ones(3)}
        grads = jax.tree.unflatten(jax.tree.structure(params), [grads["bias"], grads["kernel"]])
        updates, state = tx.update(grads, state, pair)
        pair = apply_updates(pair, updates)
    step.sync()
    for k in ("kernel", "bias"):
        np.testing.assert_allclose(getattr(model, k)[...], pair.fast[k], rtol=1e-5)
        np.testing.assert_allclose(optimizer.opt_state.slow[k][...], pair.slow[k], rtol=1e-5)
    assert not np.allclose(model.kernel[...], optimizer.opt_state.slow["kernel"][...])
    assert lookahead is optx_core.lookahead


def test_the_parameters_are_needed():
    tx = lookahead(trace(0.9), 3, 0.5)
    with pytest.raises(ValueError, match="lookahead needs the parameters"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_optaxs_class_is_there_for_those_who_check():
    tx = chain(trace(0.9), scale_by_learning_rate(0.1))
    assert not isinstance(tx, optax.GradientTransformation)
    other = to_optax(tx)
    assert isinstance(other, optax.GradientTransformation)
    params = {"w": jnp.ones(2)}
    updates, _ = other.update(params, other.init(params), params, value=1.0)
    np.testing.assert_allclose(updates["w"], -0.1)
    with pytest.raises(TypeError, match="to_optax"):
        to_optax(3)
