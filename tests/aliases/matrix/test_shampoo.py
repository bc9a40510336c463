"""Shampoo: what is special to it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import scale_by_shampoo, shampoo
from optx_testing import check_transformation

KERNEL = {"kernel": jnp.linspace(-1.0, 1.0, 16, dtype=jnp.float32).reshape(8, 2)}


def power(a, exponent):
    values, vectors = np.linalg.eigh(a)
    return vectors @ np.diag(values**exponent) @ vectors.T


def test_it_keeps_the_promises_that_compare_numbers_on_regular_matrices():
    tx = shampoo(0.01, matrix_eps=0.1, one_sided=True, precondition_frequency=1)
    check_transformation(tx, KERNEL, promises=(7, 8))


def test_on_one_matrix_it_is_the_closed_form_of_the_paper(x64):
    tx = scale_by_shampoo(b1=0.0, b2=1.0, matrix_eps=1e-12, precondition_frequency=1, graft=None)
    state, L, R = tx.init(jnp.zeros((3, 3))), np.zeros((3, 3)), np.zeros((3, 3))
    for t in range(4):
        g = np.asarray(jax.random.normal(jax.random.key(t), (3, 3), jnp.float64))
        L, R = L + g @ g.T, R + g.T @ g
        made, state = tx.update(jnp.asarray(g), state)
        np.testing.assert_allclose(made, power(L, -0.25) @ g @ power(R, -0.25), rtol=1e-6)


def test_one_sided_it_is_a_square_root_on_the_shorter_side(x64):
    tx = scale_by_shampoo(
        b1=0.0, b2=1.0, matrix_eps=1e-12, precondition_frequency=1, graft=None, one_sided=True
    )
    for shape in ((3, 5), (5, 3)):
        g = np.asarray(jax.random.normal(jax.random.key(0), shape, jnp.float64))
        state = tx.init(jnp.asarray(g))
        made, after = tx.update(jnp.asarray(g), state)
        expected = power(g @ g.T, -0.5) @ g if shape == (3, 5) else g @ power(g.T @ g, -0.5)
        np.testing.assert_allclose(made, expected, rtol=1e-6)
        assert after.left.shape == ((1,) if shape == (5, 3) else (1, 3, 3))


def test_the_first_step_of_the_first_matrix_is_orthogonal(x64):
    g = jax.random.normal(jax.random.key(0), (4, 4), jnp.float64)
    tx = scale_by_shampoo(b1=0.0, b2=1.0, matrix_eps=1e-12, graft=None)
    u, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(u @ u.T, np.eye(4), atol=1e-6)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("graft", ["adam", "rmsprop", "adagrad", "sgd"])
def test_a_graft_decides_the_length_and_vectors_take_its_step(graft):
    tx = scale_by_shampoo(graft=graft)
    g = {"w": jax.random.normal(jax.random.key(0), (4, 3)), "b": jnp.asarray([3.0, -0.5])}
    made, _ = tx.update(g, tx.init(g))
    length = {
        "adam": 1.0,
        "rmsprop": 10.0,  # √v is a tenth of |g| at the first step
        "adagrad": 1.0,
        "sgd": None,
    }[graft]
    expected = jax.tree.map(lambda x: x if length is None else length * jnp.sign(x), g)
    np.testing.assert_allclose(made["b"], expected["b"], rtol=1e-4)
    sizes = [float(jnp.linalg.norm(x)) for x in (made["w"], expected["w"])]
    np.testing.assert_allclose(*sizes, rtol=1e-4)
    direction = made["w"] / sizes[0]
    assert float(jnp.max(jnp.abs(direction - g["w"] / jnp.linalg.norm(g["w"])))) > 0.01


def test_roots_are_taken_at_the_interval_only():
    tx = scale_by_shampoo(precondition_frequency=3)
    state, roots = tx.init(jnp.zeros((3, 3))), []
    for t in range(6):
        _, state = tx.update(jax.random.normal(jax.random.key(t), (3, 3)), state)
        roots.append(np.asarray(state.left_root))
    renewed = [not np.array_equal(a, b) for a, b in itertools.pairwise(roots)]
    assert renewed == [False, True, False, False, True]


def test_long_sides_have_no_root_and_no_state():
    state = scale_by_shampoo(max_precond_dim=8).init({"w": jnp.zeros((4, 32)), "v": jnp.ones(40)})
    assert state.left["w"].shape == (1, 4, 4)
    assert state.right["w"].shape == state.left["v"].shape == (1,)


def test_complex_matrices_have_complex_roots(x64):
    g = jax.random.normal(jax.random.key(0), (3, 3), jnp.complex128)
    tx = scale_by_shampoo(b1=0.0, b2=1.0, matrix_eps=1e-12, graft=None)
    u, _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(u @ u.conj().T, np.eye(3), atol=1e-6)


def test_an_unknown_graft_is_refused():
    with pytest.raises(ValueError, match="graft must be one of 'adam', 'rmsprop'"):
        shampoo(0.1, graft="lion")
