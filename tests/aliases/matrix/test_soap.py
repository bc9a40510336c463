"""SOAP: what is special to it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import adam, scale_by_adam, scale_by_soap, soap
from optx_testing import check_transformation

KERNEL = {"kernel": jnp.linspace(-1.0, 1.0, 16, dtype=jnp.float32).reshape(8, 2)}


def test_it_keeps_the_promises_that_compare_numbers_on_regular_matrices():
    tx = soap(0.01, eps=1e-3, max_precond_dim=4, precondition_frequency=2)
    check_transformation(tx, KERNEL, promises=(7, 8))


def test_it_is_adam_in_the_eigenbasis(x64):
    """Gradients with fixed singular vectors: SOAP is Adam on their rotation, rotated back."""
    key = jax.random.key(0)
    u = jnp.linalg.qr(jax.random.normal(key, (4, 4), jnp.float64))[0]
    w = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (3, 3), jnp.float64))[0]
    tx, inner = scale_by_soap(b2=0.9, precondition_frequency=2), scale_by_adam(0.95, 0.9)
    state, inner_state = tx.init(jnp.zeros((4, 3))), inner.init(jnp.zeros((4, 3)))
    for t in range(6):
        core = (
            jnp.zeros((4, 3))
            .at[jnp.arange(3), jnp.arange(3)]
            .set(jnp.asarray([9.0, 4.0, 1.0]) * (1 + 0.1 * np.cos(t)))
        )
        made, state = tx.update(u @ core @ w.T, state)
        if t == 0:  # only makes the bases
            assert not made.any()
            continue
        rotated, inner_state = inner.update(core, inner_state)
        np.testing.assert_allclose(made, u @ rotated @ w.T, atol=1e-6)


@pytest.mark.parametrize("options", [{"max_precond_dim": 0}, {}])
def test_without_a_basis_it_is_adam_from_the_second_gradient_on(options):
    shape = (4, 3) if options else (5,)
    tx, reference = soap(0.1, 0.9, 0.99, **options), adam(0.1, 0.9, 0.99)
    p = jnp.zeros(shape)
    state, expected = tx.init(p), reference.init(p)
    for t in range(3):
        g = jnp.cos(jnp.arange(p.size, dtype=jnp.float32) + t).reshape(shape)
        u, state = tx.update(g, state, p)
        if t == 0:
            assert not u.any()
            continue
        v, expected = reference.update(g, expected, p)
        np.testing.assert_allclose(u, v, rtol=1e-6)


def test_a_long_side_has_no_basis_and_costs_no_memory():
    state = scale_by_soap(max_precond_dim=8).init({"w": jnp.zeros((4, 32))})
    assert state.left["w"].shape == (1, 4, 4)
    assert state.right["w"].shape == state.right_basis["w"].shape == (1,)


def test_the_bases_stay_orthonormal_and_turn_only_at_the_interval():
    tx = scale_by_soap(precondition_frequency=3)
    state, bases = tx.init(jnp.zeros((4, 3))), []
    for t in range(7):
        g = jax.random.normal(jax.random.key(t), (4, 3))
        _, state = tx.update(g, state)
        bases.append(np.asarray(state.left_basis[0]))
        np.testing.assert_allclose(bases[-1] @ bases[-1].T, np.eye(4), atol=1e-5)
    turned = [not np.array_equal(a, b) for a, b in itertools.pairwise(bases)]
    assert turned == [False, False, True, False, False, True]  # the first gradient does not count


def test_a_bad_interval_is_refused():
    with pytest.raises(ValueError, match="precondition_frequency must be at least 1, not 0"):
        soap(0.1, precondition_frequency=0)
    with pytest.raises(ValueError, match="max_precond_dim must be at least 0, not -1"):
        soap(0.1, max_precond_dim=-1)
