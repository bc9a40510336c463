"""Second moments of Muon's orthogonal updates (NorMuon, AdaMuon, NAMO)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import MuonDimensionNumbers, MuonSecondMomentState, MuonState, muon, scale_by_muon
from optx_core import TreeMismatchError, metrics
from optx_testing import check_transformation

KINDS = ("row", "entry", "scalar")
CONVERGENT = {"ns_coeffs": (1.875, -1.25, 0.375), "ns_steps": 12}
REGULAR = jnp.linspace(-1.0, 1.0, 16, dtype=jnp.float32).reshape(8, 2) ** 3


def gradient(shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def steps(tx, grads):
    state, updates = tx.init(grads[0]), None
    for g in grads:
        updates, state = tx.update(g, state)
    return updates, state


def test_it_keeps_the_promises_that_compare_numbers_on_regular_matrices():
    tx = scale_by_muon((1.875, -1.25, 0.375), 12, second_moment="row")
    check_transformation(tx, {"kernel": REGULAR}, promises=(8,))


def test_outputs_of_equal_size_have_equal_steps_and_the_norm_stays():
    g = gradient((6, 4)) * jnp.array([[10.0, 1.0, 0.1, 0.01]])
    plain, _ = steps(scale_by_muon(**CONVERGENT), [g])
    scaled, state = steps(scale_by_muon(second_moment="row", **CONVERGENT), [g])
    assert state.nu.shape == (1, 4)
    np.testing.assert_allclose(jnp.linalg.norm(scaled), jnp.linalg.norm(plain), rtol=1e-5)
    of_outputs = jnp.linalg.norm(scaled, axis=0)
    np.testing.assert_allclose(of_outputs, of_outputs[0], rtol=1e-5)


def test_adamuon_has_adams_root_mean_square_whatever_the_rank_of_the_gradient():
    g = gradient((6, 1)) * jnp.ones((1, 4))  # of rank 1
    tx = muon(1.0, second_moment="entry", consistent_rms=0.2)
    updates, _ = tx.update(g, tx.init(g), g)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(updates**2)), 0.2, rtol=1e-5)
    assert not np.any(np.sign(updates) * np.sign(g) > 0)


def test_adamuon_does_not_depend_on_the_size_of_entries_of_the_first_gradient():
    g = gradient((5, 3))
    tx = scale_by_muon(second_moment="entry")
    np.testing.assert_array_equal(steps(tx, [g])[0], steps(tx, [jnp.sign(g)])[0])


def test_the_scalar_step_is_shorter_the_noisier_the_gradients():
    tx = scale_by_muon(second_moment="scalar", nesterov=False, **CONVERGENT)
    steady, _ = steps(tx, [gradient((6, 4))] * 20)
    noisy, _ = steps(tx, [gradient((6, 4), k) for k in range(20)])
    np.testing.assert_allclose(jnp.linalg.norm(steady), 2.0, rtol=1e-3)  # √4: an orthogonal matrix
    assert jnp.linalg.norm(noisy) < 0.7 * 2


@pytest.mark.parametrize("kind", ["row", "scalar"])
def test_each_matrix_of_a_stack_is_scaled_by_itself(kind):
    stack = jnp.stack([gradient((4, 3)), 100 * gradient((4, 3), 1)])
    tx = scale_by_muon(second_moment=kind, nesterov=False, **CONVERGENT)
    together, _ = steps(tx, [stack, 2 * stack[::-1]])
    for k in range(2):
        alone, _ = steps(tx, [stack[k], 2 * stack[1 - k]])
        np.testing.assert_allclose(together[k], alone, atol=2e-5)


def test_dimension_numbers_say_whose_the_numbers_are():
    g = gradient((4, 3, 2))  # heads and their width are the outputs
    dims = MuonDimensionNumbers(0, (1, 2))
    tx = scale_by_muon(second_moment="row", weight_dimension_numbers=dims)
    made, state = steps(tx, [g])
    assert state.nu.shape == (1, 3, 2)
    expected, _ = steps(scale_by_muon(second_moment="row"), [g.reshape(4, 6)])
    np.testing.assert_allclose(made.reshape(4, 6), expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_rows_columns_and_matrices_give_zero_and_finite_updates_and_slopes(kind):
    g = {"zero": jnp.zeros((3, 4)), "part": gradient((3, 4)).at[1].set(0).at[:, 2].set(0)}
    tx = scale_by_muon(second_moment=kind, eps=0.0)
    updates, state = steps(tx, [g, g])
    assert not updates["zero"].any()
    assert not updates["part"][:, 2].any()
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((updates, state)))
    slope = jax.grad(lambda g: jnp.sum(tx.update(g, tx.init(g))[0]["part"] ** 2))(g)
    assert bool(jnp.all(jnp.isfinite(slope["part"])))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_gradient_does_not_matter(kind):
    g = gradient((3, 4))
    updates, _ = steps(scale_by_muon(second_moment=kind, eps=0.0), [[g, 1e-18 * g, 1e15 * g]])
    for x in updates[1:]:
        np.testing.assert_allclose(x, updates[0], rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_of_every_kind(kind):
    params = {
        "bfloat16": gradient((3, 4), dtype=jnp.bfloat16),
        "complex": jax.lax.complex(gradient((3, 2)), gradient((3, 2), 1)),
        "none": None,
        "integer": jnp.ones((2, 2), jnp.int32),
        "empty": jnp.ones((0, 3)),
    }
    tx = scale_by_muon(second_moment=kind)
    state = tx.init(params)
    updates, after = tx.update({**params, "integer": None}, state)
    assert updates["none"] is None
    assert updates["bfloat16"].dtype == jnp.bfloat16
    assert after.nu["bfloat16"].dtype == after.nu["complex"].dtype == jnp.float32
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert bool(jnp.all(jnp.isfinite(updates["complex"])))


def test_the_state_has_a_new_field_only_with_a_second_moment():
    g = gradient((2, 3))
    assert type(scale_by_muon().init(g)) is MuonState
    assert MuonSecondMomentState._fields == (*MuonState._fields, "nu")
    assert "nu" not in repr(scale_by_muon().init(g))
    assert metrics(scale_by_muon(second_moment="row").init(g)) == metrics(scale_by_muon().init(g))


@pytest.mark.parametrize(("kind", "other"), [("row", None), (None, "row")])
def test_the_state_of_another_second_moment_is_refused(kind, other):
    g = gradient((2, 3))
    with pytest.raises(TreeMismatchError, match=r"scale_by_muon: state is Muon\w*State, not Muon"):
        scale_by_muon(second_moment=kind).update(g, scale_by_muon(second_moment=other).init(g))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="both set the length of the step"):
        muon(0.1, adaptive=True, second_moment="row")
    with pytest.raises(ValueError, match="second_moment must be"):
        muon(0.1, second_moment="column")
    with pytest.raises(ValueError, match="second_moment_beta must be"):
        muon(0.1, second_moment="row", second_moment_beta=1.0)
