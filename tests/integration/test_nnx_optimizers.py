"""Every optimizer of the table inside `nnx.Optimizer`: the same numbers as on plain dicts of arrays."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS, SAMPLED_OPTIONS

from flax import nnx
from optx_core import apply_updates

KERNEL = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], np.float32)


class Model(nnx.Module):
    """A matrix and a vector; a bias that is None."""

    def __init__(self):
        self.linear = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))
        self.linear.kernel.set_value(jnp.asarray(KERNEL))
        self.scale = nnx.Param(jnp.array([1.0, -0.5], jnp.float32))


def gradients(params):
    return jax.tree.map(lambda p: jnp.sin(p) + 0.1 * p, params)


def extra(row, params, grads):
    return {} if row.extra_args is None else row.extra_args(params, grads)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", SAMPLED_OPTIONS)
def test_an_optimizer_moves_a_model_as_it_moves_a_dict(name):
    row = ROWS[name]
    model = Model()
    optimizer = nnx.Optimizer(model, row.make(), wrt=nnx.Param)
    tx = row.make()
    plain = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = first = tx.init(plain)

    def push(model, optimizer):
        params = nnx.state(model, nnx.Param)
        grads = gradients(params)
        optimizer.update(model, grads, **extra(row, nnx.as_pure(params), nnx.as_pure(grads)))
        return nnx.state(optimizer)

    # A line search compiles at each step, for it is given another function: its second one is only traced.
    for _ in range(1 if row.extra_args else 2):
        push(model, optimizer)
        grads = gradients(plain)
        updates, state = tx.update(grads, state, plain, **extra(row, plain, grads))
        plain = apply_updates(plain, updates)
    again = nnx.eval_shape(push, model, optimizer)
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, nnx.state(optimizer))
    moved = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert jax.tree.structure(moved) == jax.tree.structure(plain)
    chex.assert_trees_all_equal(moved, plain)
    kept = jax.tree.leaves(nnx.as_pure(optimizer.opt_state))
    for ours, theirs in zip(kept, jax.tree.leaves(state), strict=True):
        assert ours.dtype == theirs.dtype
        if _is_number(ours):
            np.testing.assert_array_equal(ours, theirs)
    changed = [moved["linear"]["kernel"], KERNEL], *zip(kept, jax.tree.leaves(first), strict=True)
    assert not all(np.array_equal(a, b) for a, b in changed if _is_number(a)), "nothing happened"


def _is_number(x):
    return not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
