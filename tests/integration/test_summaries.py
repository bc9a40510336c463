"""The table of every optimizer."""

import jax
import jax.numpy as jnp
import pytest
from optimizer_rows import ROWS

from optx_core import summarize

PARAMS = {
    "kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32),
    "bias": jax.ShapeDtypeStruct((4,), jnp.float32),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_byte_of_the_state_is_in_the_table(name):
    tx = ROWS[name].make()
    made = summarize(tx, PARAMS)
    state = jax.eval_shape(tx.init, PARAMS)
    assert made.state_bytes == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert [row.path for row in made.rows] == ["['bias']", "['kernel']"]
    assert len(str(made).splitlines()) >= 6


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor", "muon", "soap", "sgd"])
def test_the_moments_belong_to_their_parameters(name):
    made = summarize(ROWS[name].make(), PARAMS)
    assert made.shared_bytes < 64
