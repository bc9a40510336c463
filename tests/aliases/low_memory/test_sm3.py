"""SM3: one vector per axis."""

import jax
import jax.numpy as jnp
import numpy as np
from training import waves

import optx_aliases as a


def test_sm3_keeps_a_vector_for_each_axis_and_a_number_for_a_0d_array():
    params = {
        "m": jnp.ones((4, 3, 2)),
        "v": jnp.ones(5),
        "s": jnp.asarray(1.0),
        "e": jnp.ones((0, 2)),
    }
    tx = a.scale_by_sm3()
    state = tx.init(params)
    shapes = jax.tree.map(jnp.shape, state.mu, is_leaf=lambda x: isinstance(x, jax.Array))
    assert shapes == {"m": [(4,), (3,), (2,)], "v": [(5,)], "s": [()], "e": [(0,), (2,)]}
    _, after = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert float(after.mu["s"][0]) == 1.0


def test_sm3_has_real_sums_and_a_complex_momentum_of_complex_parameters():
    p = jnp.asarray([[1.0 + 1.0j, 2.0j], [0.5, -1.0]])
    tx = a.scale_by_sm3(0.0, eps=0.0)
    updates, state = tx.update(p, tx.init(p))
    assert [x.dtype for x in (*state.mu, state.nu)] == [jnp.float32, jnp.float32, jnp.complex64]
    np.testing.assert_allclose(updates, np.asarray(p) / np.abs(p), rtol=1e-6)


def test_sm3_bounds_adagrads_sums_from_above_and_meets_them_for_a_vector():
    sm3, adagrad = a.scale_by_sm3(0.0, eps=0.0), a.scale_by_rss(0.0, eps=0.0)
    for shape in ((5,), (4, 3)):
        p, grads = jnp.ones(shape), waves(shape, 10)
        mine, theirs = sm3.init(p), adagrad.init(p)
        for g in grads:
            u, mine = sm3.update(g, mine)
            w, theirs = adagrad.update(g, theirs)
        assert bool(jnp.all(jnp.abs(u) <= 1.00001 * jnp.abs(w)))
        if len(shape) == 1:
            np.testing.assert_allclose(u, w, rtol=1e-5)
