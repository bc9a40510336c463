"""A checkpoint written by orbax holds every optimizer's state, and training goes on from it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from optimizer_rows import ROWS

from optx_core import apply_updates

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3) + 0.05, "b": jnp.linspace(0.5, 1.0, 3)}


def some(rng, x):
    """Numbers of a shape and dtype; for keys of random numbers the integers they are made of."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.eval_shape(jax.random.key_data, x)
    return (100 * rng.random(x.shape)).astype(x.dtype)


def test_every_state_comes_back_from_a_checkpoint_as_it_was(tmp_path):
    rng, held = np.random.default_rng(0), {}
    for name, row in ROWS.items():
        state = jax.eval_shape(row.make().init, PARAMS)
        empty = [x.shape for x in jax.tree.leaves(state) if not x.size]
        assert not empty, f"{name}: orbax does not write arrays of shapes {empty}"
        held[name] = jax.tree.map(lambda x: some(rng, x), state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", held)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "states", jax.tree.map(np.zeros_like, held))
    assert jax.tree.structure(restored) == jax.tree.structure(held)
    chex.assert_trees_all_equal(restored, held)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    tx = ROWS["adamw"].make()

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
        return apply_updates(params, updates), state

    held = step(PARAMS, tx.init(PARAMS))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", held)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", held)
    chex.assert_trees_all_equal(step(*restored), step(*held))
