"""Adafactor: which axes are factored, and its decay rate."""

import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases as a


@pytest.mark.parametrize(
    ("shape", "row", "column", "whole"),
    [
        ((256, 130), (130,), (256,), (1,)),
        ((2, 130, 200, 3), (2, 130, 3), (2, 200, 3), (1,)),
        ((130, 100), (1,), (1,), (130, 100)),
        ((300,), (1,), (1,), (300,)),
        ((), (1,), (1,), ()),
        ((0, 300, 300), (0, 300), (0, 300), (1,)),
    ],
)
def test_adafactor_factors_the_two_longest_axes_where_they_are_long(shape, row, column, whole):
    tx = a.adafactor(0.1)
    state = tx.init(jnp.ones(shape))
    assert (state[0].v_row.shape, state[0].v_col.shape, state[0].v.shape) == (row, column, whole)
    updates, _ = tx.update(jnp.ones(shape), state, jnp.ones(shape))
    assert updates.shape == shape
    assert bool(jnp.all(jnp.isfinite(updates)))


def test_factored_mean_squares_are_exact_where_squares_are_a_product():
    r, c = jnp.asarray([1.0, 2.0, 4.0]), jnp.asarray([0.5, 3.0])
    g = jnp.sqrt(r[:, None] * c[None, :])
    tx = a.scale_by_factored_rms(min_dim_size_to_factor=2)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], 1.0, rtol=1e-5)


def test_the_decay_of_adafactor_can_be_given_and_begin_late():
    g = jnp.full(2, 2.0)
    tx = a.scale_by_factored_rms(decay_rate=0.5, decay_rate_fn=lambda i, rate: rate)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[1].v, 2.0, rtol=1e-6)
    late = a.scale_by_factored_rms(step_offset=7)
    state = late.init(g)._replace(count=jnp.asarray(7), v=jnp.full(2, 100.0))
    np.testing.assert_allclose(late.update(g, state)[1].v, 4.0, rtol=1e-6)
