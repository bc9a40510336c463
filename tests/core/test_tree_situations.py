"""Every function of `optx_core.tree` on leaves that are no JAX arrays, on trees without leaves, and on two that differ."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import TreeMismatchError, tree

KEY = jax.random.key(0)
CALLS = {
    "add": lambda t: tree.add(t, t),
    "add_scale": lambda t: tree.add_scale(t, 0.5, t),
    "allclose": lambda t: tree.allclose(t, t),
    "batch_shape": lambda t: tree.batch_shape(t, (2,)),
    "bias_correction": lambda t: tree.bias_correction(t, 0.9, 3),
    "cast": lambda t: tree.cast(t, jnp.float32),
    "cast_like": lambda t: tree.cast_like(t, t),
    "clip": lambda t: tree.clip(t, -1.0, 1.0),
    "conj": tree.conj,
    "div": lambda t: tree.div(t, jax.tree.map(lambda x: 2 * x, t)),
    "dtype": lambda t: tree.dtype(t, "promote"),
    "flatten": lambda t: tree.flatten(t)[0],
    "full_like": lambda t: tree.full_like(t, 2.0),
    "map_leaves": lambda t: tree.map_leaves(lambda g: 2 * g, t),
    "max": tree.max,
    "min": tree.min,
    "mul": lambda t: tree.mul(t, t),
    "norm": tree.norm,
    "ones_like": tree.ones_like,
    "random_like": lambda t: tree.random_like(KEY, t),
    "real": tree.real,
    "scale": lambda t: tree.scale(0.5, t),
    "size": tree.size,
    "slots_like": tree.slots_like,
    "split_key_like": lambda t: tree.split_key_like(KEY, t),
    "sub": lambda t: tree.sub(t, t),
    "sum": tree.sum,
    "update_infinity_moment": lambda t: tree.update_infinity_moment(t, t, 0.9, 1e-8),
    "update_moment": lambda t: tree.update_moment(t, t, 0.9, 1),
    "update_moment_per_elem_norm": lambda t: tree.update_moment_per_elem_norm(t, t, 0.9, 2),
    "unwrap_random_key_data": tree.unwrap_random_key_data,
    "vdot": lambda t: tree.vdot(t, t),
    "where": lambda t: tree.where(jax.tree.map(lambda x: x > 0, t), t, t),
    "zeros_like": tree.zeros_like,
}
# Functions of a single leaf, of names and paths, or of a transformation's state: test_tree.py.
OTHERS = {
    "NamedTupleKey", "abs_squared", "get", "get_all_with_path", "is_absent", "is_placeholder",
    "map_params", "mask_like", "set", "show_path", "slot_dtype",
}  # fmt: skip


def test_every_function_of_trees_is_in_the_table():
    assert CALLS.keys() | OTHERS == set(tree.__all__)


# What two trees of different structures, or of shapes that must not be broadcast, are handed to.
PAIRS = {
    "add": tree.add,
    "add_scale": lambda x, y: tree.add_scale(x, 0.5, y),
    "allclose": tree.allclose,
    "cast_like": tree.cast_like,
    "div": tree.div,
    "map_leaves": lambda x, y: tree.map_leaves(lambda g, p: g + p, x, y),
    "mul": tree.mul,
    "sub": tree.sub,
    "update_infinity_moment": lambda x, y: tree.update_infinity_moment(x, y, 0.9, 1e-8),
    "update_moment": lambda x, y: tree.update_moment(x, y, 0.9, 1),
    "update_moment_per_elem_norm": lambda x, y: tree.update_moment_per_elem_norm(x, y, 0.9, 2),
    "vdot": tree.vdot,
    "where": lambda x, y: tree.where(True, x, y),
    "where, its condition": lambda x, y: tree.where(jax.tree.map(lambda v: v > 0, y), x, x),
    "where, a tree of conditions": lambda x, y: tree.where(jax.tree.map(lambda v: v > 0, x), x, y),
}


def test_every_function_of_two_trees_is_in_the_table():
    def trees(function):
        kinds = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
        return sum("PyTree" in kind for kind in kinds)

    two = {name for name in CALLS if callable(f := getattr(tree, name)) and trees(f) > 1}
    assert two == {name.partition(",")[0] for name in PAIRS}


@pytest.mark.parametrize("name", PAIRS)
def test_two_trees_that_differ_are_named_by_the_path_where_they_do(name):
    x = {"a": jnp.ones(2), "b": [jnp.ones((2, 1))]}
    called = name.partition(",")[0]
    for y, path in (
        ({"a": jnp.ones(2), "c": [jnp.ones((2, 1))]}, "'b'"),
        ({"a": jnp.ones(2), "b": [jnp.ones((2, 1))] * 2}, "'b'"),
        ([jnp.ones(2), jnp.ones((2, 1))], "'a'"),
        ({"a": jnp.ones(2), "b": [jnp.ones((1, 2))]}, "'b'"),
        ({"a": jnp.ones(3), "b": [jnp.ones((2, 1))]}, "'a'"),
    ):
        if name == "cast_like" and jax.tree.structure(x) == jax.tree.structure(y):
            continue  # only the dtypes count
        with pytest.raises(TreeMismatchError, match=rf"^(tree\.)?{called}: .*{path}"):
            PAIRS[name](x, y)


LEAVES = {
    "Python floats": {"a": 1.5, "b": [2.0, -0.5]},
    "NumPy's float64": {"a": np.float64(1.5), "b": [np.array(2.0), np.array(-0.5)]},
}


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("name", CALLS)
def test_leaves_may_be_numbers_or_numpy_arrays(name, kind):
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), LEAVES["Python floats"])
    made, expected = CALLS[name](LEAVES[kind]), CALLS[name](arrays)
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        if name == "split_key_like":
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        if name == "dtype":
            continue  # the leaves' own
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"max", "min", "dtype"}))
@pytest.mark.parametrize("empty", [{}, {"a": None}, {"a": jnp.zeros((0, 3))}], ids=str)
def test_nothing_in_gives_nothing_or_a_finite_number_out(name, empty):
    for x in jax.tree.leaves(CALLS[name](empty)):
        if name != "split_key_like":
            assert bool(jnp.all(jnp.isfinite(jnp.asarray(x))))
