"""Scion: what is special to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import scion
from optx_core import apply_updates

CONVERGENT = {"ns_coeffs": (1.875, -1.25, 0.375), "ns_steps": 25}
SHAPES = {
    "dense": {"kernel": (6, 4), "bias": (4,)},
    "conv": (3, 3, 4, 8),
    "Embed_0": {"embedding": (5, 4)},
    "lm_head": {"kernel": (4, 5), "bias": (5,)},
    "scale": (),
}


def gradients():
    leaves, structure = jax.tree.flatten(SHAPES, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return structure.unflatten([jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)])


def boundary(tx, g):
    updates = jax.jit(lambda g: tx.update(g, tx.init(g), g)[0])(g)
    return jax.tree.map(lambda u: -np.asarray(u, np.float64), updates)


def test_each_kind_of_leaf_has_the_length_of_its_norm():
    g = gradients()
    tx = scion(
        1.0,
        radius=2.0,
        head_radius=8.0,
        embedding_radius=3.0,
        vector_radius=5.0,
        constrained=False,
        **CONVERGENT,
    )
    u = boundary(tx, g)
    values = np.linalg.svd(u["dense"]["kernel"], compute_uv=False)
    np.testing.assert_allclose(values, 2 * (4 / 6) ** 0.5, rtol=1e-4)
    values = np.linalg.svd(u["conv"].reshape(36, 8), compute_uv=False)
    np.testing.assert_allclose(values, 2 * (8 / 4) ** 0.5 / 9, rtol=1e-4)
    rows = np.sqrt(np.mean(u["Embed_0"]["embedding"] ** 2, axis=1))
    np.testing.assert_allclose(rows, 3, rtol=1e-5)
    np.testing.assert_allclose(u["lm_head"]["kernel"], 8 / 4 * np.sign(g["lm_head"]["kernel"]))
    for bias in (u["dense"]["bias"], u["lm_head"]["bias"], u["scale"]):
        np.testing.assert_allclose(np.sqrt(np.mean(bias**2)), 5, rtol=1e-5)


def test_constrained_parameters_stay_in_the_ball_and_reach_its_boundary():
    p = {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(3)}
    g = {"kernel": gradients()["dense"]["kernel"][:4], "bias": jnp.array([1.0, -2.0, 0.5])}
    tx = scion(0.2, radius=1.5, **CONVERGENT)
    state, step = tx.init(p), jax.jit(tx.update)
    for _ in range(40):
        updates, state = step(g, state, p)
        p = apply_updates(p, updates)
    values = np.linalg.svd(p["kernel"], compute_uv=False)
    np.testing.assert_allclose(values, 1.5, rtol=1e-3)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(p["bias"] ** 2)), 1.5, rtol=1e-3)


def test_tied_embeddings_are_heads_where_their_name_is_given():
    g = {"embed": {"embedding": jnp.ones((5, 4))}}
    tx = scion(1.0, head_radius=2.0, constrained=False, head_paths="embed*")
    np.testing.assert_allclose(boundary(tx, g)["embed"]["embedding"], 2 / 5, rtol=1e-6)


def test_zero_and_enormous_gradients_and_rows_stay_finite_with_the_radius_of_matrices_by_default():
    rows = gradients()["Embed_0"]["embedding"].at[2].set(0)
    sizes = {"zero": 0.0, "small": 1e-25, "large": 1e25}
    g = {name: {"embed": size * rows, "bias": size * rows[0]} for name, size in sizes.items()}
    u = boundary(scion(1.0, constrained=False, eps=0.0), g)
    assert not any(np.any(x) for x in u["zero"].values())
    for name in ("small", "large"):
        assert not u[name]["embed"][2].any()
        np.testing.assert_allclose(np.mean(u[name]["embed"][:2] ** 2, axis=1), 50**2, rtol=1e-3)
        np.testing.assert_allclose(np.mean(u[name]["bias"] ** 2), 50**2, rtol=1e-3)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="radius must be"):
        scion(0.1, radius=-1.0)
    with pytest.raises(ValueError, match="beta must be"):
        scion(0.1, beta=1.5)
