"""Dion2: what is special to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix.compiled_work import CompiledWork

from optx_aliases import dion2, newton_schulz, scale_by_dion2


def matrix(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def chosen(u, axis):
    return np.flatnonzero(np.any(np.asarray(u) != 0, axis=1 - axis))


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.1, 1), (0.11, 2), (0.3, 3), (0.25, 3), (1e-9, 1), (1, 10)]
)
def test_the_number_of_rows_is_the_next_larger_int(fraction, count):
    g = matrix((10, 12))
    tx = scale_by_dion2(fraction, ns_steps=1)
    assert len(chosen(tx.update(g, tx.init(g))[0], 0)) == count


def test_the_shorter_side_is_chosen_from_unless_another_one_is_asked_for():
    wide, tall = matrix((4, 6)), matrix((6, 4))
    for g, side, shape in (
        (wide, "shorter", (2, 6)),
        (tall, "shorter", (6, 2)),
        (wide, "columns", (4, 3)),
        (tall, "rows", (3, 4)),
    ):
        tx = scale_by_dion2(0.5, side=side, ns_steps=1)
        u, _ = tx.update(g, tx.init(g))
        assert (len(chosen(u, 0)), len(chosen(u, 1))) == shape


def test_rows_that_wait_gather_momentum_until_they_are_chosen():
    g = jnp.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    tx = scale_by_dion2(0.5, rho=0.5, ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
    state, order = tx.init(g), []
    for _ in range(6):
        u, state = tx.update(g, state)
        order += chosen(u, 0).tolist()
    m, expected = np.zeros(2), []
    for _ in range(6):
        m += [3.0, 2.0]
        expected.append(int(np.argmax(m)))
        m[expected[-1]] *= 0.5
    assert order == expected
    assert set(order) == {0, 1}
    np.testing.assert_allclose(np.diag(state.mu), m, rtol=1e-6)


def test_with_all_rows_it_orthogonalizes_the_whole_momentum(x64):
    g = matrix((4, 6)).astype(jnp.float64)
    tx = scale_by_dion2(1.0, rho=0.9)
    state = tx.init(g)
    u, state = tx.update(g, state)
    np.testing.assert_allclose(u, newton_schulz(g), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(state.mu, 0.9 * g, rtol=1e-12)


def test_each_matrix_of_a_stack_has_its_own_rows():
    stack = jnp.stack([matrix((4, 5)), matrix((4, 5), 1)])
    tx = scale_by_dion2(0.5, ns_steps=1)
    together, _ = tx.update(stack, tx.init(stack))
    for x, u in zip(stack, together, strict=True):
        alone, _ = tx.update(x, tx.init(x))
        np.testing.assert_allclose(u, alone, atol=1e-6)


def test_equal_rows_are_chosen_no_more_than_asked_for_and_zero_ones_do_not_move():
    g = {
        "equal": jnp.ones((4, 4)),
        "zero": jnp.zeros((4, 4)),
        "one": jnp.zeros((4, 4)).at[2].set(1),
    }
    tx = scale_by_dion2(0.5, ns_steps=1)
    u, state = tx.update(g, tx.init(g))
    assert len(chosen(u["equal"], 0)) == 2
    assert not u["zero"].any()
    assert chosen(u["one"], 0).tolist() == [2]
    np.testing.assert_allclose(state.mu["equal"].sum(), 8 + 0.95 * 8, rtol=1e-6)
    np.testing.assert_array_equal(state.mu["one"][0], 0)


def test_it_takes_less_work_the_fewer_rows_are_chosen():
    shape = jax.ShapeDtypeStruct((32, 48), jnp.float32)

    def flops(fraction):
        tx = scale_by_dion2(fraction)
        state = jax.eval_shape(tx.init, shape)
        return CompiledWork(jax.jit(tx.update).lower(shape, state).compile()).flops

    assert flops(0.25) < flops(1.0) / 8


def test_numbers_out_of_range_and_vectors_are_refused():
    with pytest.raises(ValueError, match="fraction must be"):
        dion2(0.1, fraction=0.0)
    with pytest.raises(ValueError, match="fraction must be"):
        scale_by_dion2(1.5)
    with pytest.raises(ValueError, match="side must be"):
        dion2(0.1, side="longer")
    with pytest.raises(ValueError, match=r"scale_by_dion2: the leaf\['b'\] of shape \(3,\)"):
        scale_by_dion2().init({"b": jnp.ones(3)})
