"""Sophia and its estimator; complex parameters as pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import GradientTransformationExtraArgs, stateless


def counting(ran):
    def update(updates, state, params=None, *, scale, **extra_args):
        jax.debug.callback(lambda: ran.append(1))
        return jax.tree.map(lambda p: scale * jnp.ones_like(p), params), state + 1

    return GradientTransformationExtraArgs(lambda params: jnp.zeros((), jnp.int32), update)


def test_the_estimator_runs_only_when_it_is_due_and_gets_extra_arguments():
    ran = []
    tx = optx_aliases.sophia(0.1, update_interval=4, hessian_diagonal_fn=counting(ran))
    p = jnp.ones(3)
    state, step = tx.init(p), jax.jit(tx.update)
    for _ in range(9):
        _, state = step(p, state, p, scale=2.0)
    jax.effects_barrier()
    assert len(ran) == 3
    assert int(state[0].hessian_fn_state) == 3
    np.testing.assert_allclose(state[0].nu, 2.0 * (1 - 0.99**3), rtol=1e-5)


def test_steps_are_newtons_where_nothing_is_clipped():
    curvature = jnp.asarray([1.0, 10.0])
    diagonal = stateless(lambda updates, params: curvature)
    tx = optx_aliases.scale_by_sophia(
        b1=0.0, b2=0.0, gamma=1.0, clip_threshold=None, hessian_diagonal_fn=diagonal
    )
    p = jnp.asarray([3.0, -2.0])
    _, state = tx.update(curvature * p, tx.init(p), p)
    updates, _ = tx.update(curvature * p, state, p)
    np.testing.assert_allclose(updates, p, rtol=1e-6)


def test_it_says_how_many_entries_were_not_clipped(capsys):
    diagonal = stateless(lambda updates, params: jnp.asarray([1.0, 1.0, 1.0, 1e-9]))
    tx = optx_aliases.scale_by_sophia(
        b2=0.0,
        gamma=1.0,
        hessian_diagonal_fn=diagonal,
        verbose=True,
        print_win_rate_every_n_steps=2,
    )
    g = jnp.full(4, 0.5)
    state = tx.init(g)
    for _ in range(3):
        _, state = tx.update(g, state, g)
    jax.effects_barrier()
    assert capsys.readouterr().out.strip() == "sophia: not clipped: 0.75"


def test_the_estimator_is_asked_for():
    with pytest.raises(TypeError, match=r"hutchinson_estimator\(\)"):
        optx_aliases.sophia(0.1)
    with pytest.raises(ValueError, match="update_interval must be at least 1"):
        optx_aliases.scale_by_sophia(
            update_interval=0, hessian_diagonal_fn=stateless(lambda u, p: u)
        )


def test_pairs_of_real_arrays_are_what_the_inner_optimizer_sees():
    z = {"a": jnp.asarray([1.0 + 2.0j, -3.0j]), "b": jnp.ones(2), "n": None}
    g = {"a": jnp.asarray([0.5 - 4.0j, 1.0 + 0.1j]), "b": jnp.ones(2), "n": None}
    split = optx_aliases.split_real_and_imaginary(optx_aliases.adam(0.1))
    state = split.init(z)
    updates, state = split.update(g, state, z)
    pair = state.inner_state[0].mu["a"]
    assert isinstance(pair, optx_aliases.SplitRealAndImaginaryArrays)
    # Adam's first step is of the signs, of each part by itself.
    np.testing.assert_allclose(updates["a"], [-0.1 + 0.1j, -0.1 - 0.1j], rtol=1e-5)
    whole = optx_aliases.adam(0.1)
    other, _ = whole.update(g, whole.init(z), z)
    np.testing.assert_allclose(updates["b"], other["b"])
    assert not np.allclose(updates["a"], other["a"])


def test_a_complex_parameter_without_gradient_keeps_its_state():
    z = {"a": jnp.asarray([1.0j]), "b": jnp.ones(1)}
    tx = optx_aliases.split_real_and_imaginary(optx_aliases.sgd(0.1, 0.9))
    updates, _ = tx.update({"a": None, "b": jnp.ones(1)}, tx.init(z), z)
    assert updates["a"] is None


def test_extra_arguments_pass_through_the_split():
    tx = optx_aliases.split_real_and_imaginary(optx_aliases.momo())
    z = jnp.asarray([1.0 + 1.0j])
    assert tx.update(z, tx.init(z), z, value=jnp.asarray(1.0))[0].shape == (1,)
