"""Second moments of Muon's orthogonal updates (NorMuon, AdaMuon, NAMO)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import MuonDimensionNumbers, MuonSecondMomentState, MuonState, muon, scale_by_muon
from optx_core import TreeMismatchError, metrics

KINDS = ("row", "entry", "scalar")
CONVERGENT = {"ns_coeffs": (1.875, -1.25, 0.375), "ns_steps": 12}


def gradient(shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def steps(tx, grads):
    state, updates = tx.init(grads[0]), None
    for g in grads:
        updates, state = tx.update(g, state)
    return updates, state


def test_outputs_of_equal_size_have_equal_steps_and_the_norm_stays():
    g = gradient((6, 4)) * jnp.array([[10.0, 1.0, 0.1, 0.01]])
    plain, _ = steps(scale_by_muon(**CONVERGENT), [g])
    scaled, state = steps(scale_by_muon(second_moment="row", **CONVERGENT), [g])
    assert state.nu.shape == (1, 4)
    np.testing.assert_allclose(jnp.linalg.norm(scaled), jnp.linalg.norm(plain), rtol=1e-5)
    of_outputs = jnp.linalg.norm(scaled, axis=0)
    np.testing.assert_allclose(of_outputs, of_outputs[0], rtol=1e-5)


def test_adamuon_has_adams_root_mean_square_whatever_the_rank_and_the_size_of_the_gradient():
    rank_1 = gradient((6, 1)) * jnp.ones((1, 4))
    g = {"rank_1": rank_1, "signs": jnp.sign(rank_1), "full": gradient((6, 4))}
    tx = muon(1.0, second_moment="entry", consistent_rms=0.2)
    updates, _ = tx.update(g, tx.init(g), g)
    for u in updates.values():
        np.testing.assert_allclose(jnp.sqrt(jnp.mean(u**2)), 0.2, rtol=1e-5)
    np.testing.assert_array_equal(updates["rank_1"], updates["signs"])
    assert not np.any(np.sign(updates["rank_1"]) * np.sign(rank_1) > 0)


def test_the_scalar_step_is_shorter_the_noisier_the_gradients():
    tx = scale_by_muon(second_moment="scalar", nesterov=False, **CONVERGENT)
    steady, _ = steps(tx, [gradient((6, 4))] * 20)
    noisy, _ = steps(tx, [gradient((6, 4), k) for k in range(20)])
    np.testing.assert_allclose(jnp.linalg.norm(steady), 2.0, rtol=1e-3)  # √4: an orthogonal matrix
    assert jnp.linalg.norm(noisy) < 0.7 * 2


def test_each_matrix_of_a_stack_is_scaled_by_itself():
    stack = jnp.stack([gradient((6, 4)), 100 * gradient((6, 4), 1)])
    tx = scale_by_muon(second_moment="row", nesterov=False, **CONVERGENT)
    together, _ = steps(tx, [stack, 2 * stack[::-1]])
    for k in range(2):
        alone, _ = steps(tx, [stack[k], 2 * stack[1 - k]])
        np.testing.assert_allclose(together[k], alone, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "shape"), [("row", (1, 3, 2)), ("entry", (4, 3, 2)), ("scalar", (1, 1, 1))]
)
def test_dimension_numbers_say_whose_the_numbers_are(kind, shape):
    dims = MuonDimensionNumbers(0, (1, 2))  # heads and their width are the outputs
    tx = scale_by_muon(second_moment=kind, weight_dimension_numbers=dims)
    assert tx.init(gradient((4, 3, 2))).nu.shape == shape


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zero_and_finite_and_the_size_of_the_gradient_does_not_matter(kind):
    g = gradient((3, 4))
    part = g.at[1].set(0).at[:, 2].set(0)
    grads = {"zero": 0 * g, "part": part, "plain": g, "small": 1e-18 * g, "large": 1e15 * g}
    tx = scale_by_muon(second_moment=kind, eps=0.0)

    def total(grads):
        updates, state = tx.update(grads, tx.init(grads))
        return jnp.sum(updates["part"] ** 2), (updates, state)

    slope, (updates, state) = jax.jit(jax.grad(total, has_aux=True))(grads)
    assert not updates["zero"].any()
    assert not updates["part"][:, 2].any()
    leaves = jax.tree.leaves((updates, state, slope["part"]))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in leaves)
    for name in ("small", "large"):
        np.testing.assert_allclose(updates[name], updates["plain"], rtol=1e-3)


def test_leaves_of_every_kind():
    params = {
        "bfloat16": gradient((3, 4), dtype=jnp.bfloat16),
        "complex": jax.lax.complex(gradient((3, 4)), gradient((3, 4), 1)),
        "none": None,
        "integer": jnp.ones((2, 2), jnp.int32),
        "empty": jnp.ones((0, 3)),
    }
    tx = scale_by_muon(second_moment="row")
    state = tx.init(params)
    updates, after = jax.jit(tx.update)({**params, "integer": None}, state)
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
