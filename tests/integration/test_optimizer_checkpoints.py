"""A checkpoint written by orbax holds every optimizer's state, and training goes on from it."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from optimizer_rows import ROWS

from optx_core import apply_updates

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3) + 0.05, "b": jnp.linspace(0.5, 1.0, 3)}


def loss(p):
    return sum(jnp.sum(0.05 * x * x - jnp.cos(3 * x) / 3) for x in jax.tree.leaves(p))


def step(row, tx, params, state):
    value, grads = jax.value_and_grad(loss)(params)
    given = {"value": value, "grad": grads, "value_fn": loss}
    given |= {"grad_fn": lambda p, *_: jax.grad(loss)(p)}
    given |= {} if row.extra_args is None else row.extra_args(params, grads)
    updates, state = tx.update(grads, state, params, **given)
    return apply_updates(params, updates), state


def as_data(x):
    """Keys of random numbers as the integers they are made of, which a checkpoint can hold."""
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def test_every_state_comes_back_from_a_checkpoint_as_it_was(tmp_path):
    names = [name for name in ROWS if "," not in name]
    held = {}
    for name in names:
        tx = ROWS[name].make()
        with jax.numpy_dtype_promotion("standard"):
            state = tx.init(PARAMS)
            _, state = jax.jit(lambda p, s, n=name, tx=tx: step(ROWS[n], tx, p, s))(PARAMS, state)
        held[name] = jax.tree.map(as_data, state)
    path = tmp_path / "states"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, held)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, jax.tree.map(np.zeros_like, held))
    assert jax.tree.structure(restored) == jax.tree.structure(held)
    jax.tree.map(np.testing.assert_array_equal, restored, held)
