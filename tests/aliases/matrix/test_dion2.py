"""Dion2: what is special to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix.compiled_work import CompiledWork

from optx_aliases import dion2, scale_by_dion2
from optx_aliases._matrix.scale_by_dion2 import _Choice
from optx_core import inject_hyperparams


def matrix(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def chosen(u, axis):
    return np.flatnonzero(np.any(np.asarray(u) != 0, axis=1 - axis))


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.1, 1), (0.11, 2), (0.3, 3), (0.25, 3), (1e-9, 1), (1, 10)]
)
def test_the_number_of_rows_is_the_next_larger_int(fraction, count):
    index = _Choice(str(float(fraction)), "rows").largest(jnp.arange(10.0)[None])
    assert index.shape == (1, count)
    assert int(index[0, 0]) == 9


def test_the_shorter_side_is_chosen_from_unless_another_one_is_asked_for():
    for side, wide, tall in (("shorter", 1, 2), ("rows", 1, 1), ("columns", 2, 2)):
        choice = _Choice("0.5", side)
        assert (choice.axis((4, 6)), choice.axis((6, 4))) == (wide, tall)


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


def test_equal_rows_are_chosen_no_more_than_asked_for_and_zero_ones_do_not_move():
    g = {
        "equal": jnp.ones((4, 4)),
        "zero": jnp.zeros((4, 4)),
        "one": jnp.zeros((4, 4)).at[2].set(1),
    }
    g["stack"] = jnp.stack([g["equal"], g["one"]])
    tx = scale_by_dion2(0.5, ns_steps=1)
    u, state = tx.update(g, tx.init(g))
    assert len(chosen(u["equal"], 0)) == 2
    assert not u["zero"].any()
    assert chosen(u["one"], 0).tolist() == [2]
    np.testing.assert_allclose(state.mu["equal"].sum(), 8 + 0.95 * 8, rtol=1e-6)
    np.testing.assert_array_equal(state.mu["one"][0], 0)
    for x, name in zip(u["stack"], ("equal", "one"), strict=True):
        np.testing.assert_allclose(x, u[name], atol=1e-6)


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
    with pytest.raises(TypeError, match="fraction must be a Python number"):
        scale_by_dion2(jnp.asarray(0.5))
    hyperparams = inject_hyperparams(dion2)(0.1).init(jnp.ones((2, 2))).hyperparams
    assert "rho" in hyperparams
    assert "fraction" not in hyperparams
    with pytest.raises(ValueError, match="side must be"):
        dion2(0.1, side="longer")
    with pytest.raises(ValueError, match=r"scale_by_dion2: the leaf\['b'\] of shape \(3,\)"):
        scale_by_dion2().init({"b": jnp.ones(3)})
