"""Mathematics on trees, and reading and changing state by name."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    GradientTransformation,
    LookaheadParams,
    MaskedNode,
    TreeMismatchError,
    chain,
    ema,
    lookahead,
    masked,
    scale_by_schedule,
    trace,
    tree,
)

X = {"a": jnp.array([1.0, -2.0]), "b": {"c": jnp.array([[3.0]]), "n": None}, "m": MaskedNode()}
Y = {"a": jnp.array([4.0, 0.5]), "b": {"c": jnp.array([[-1.0]]), "n": None}, "m": MaskedNode()}


@pytest.mark.parametrize(
    ("name", "args", "operation"),
    [
        ("add", (X, Y), lambda x, y: x + y),
        ("add", (X, Y, X), lambda x, y: x + y + x),
        ("sub", (X, Y), lambda x, y: x - y),
        ("mul", (X, Y), lambda x, y: x * y),
        ("div", (X, Y), lambda x, y: x / y),
        ("add_scale", (X, 0.5, Y), lambda x, y: x + 0.5 * y),
        ("scale", (3.0, X), lambda x, y: 3 * x),
        ("where", (True, X, Y), lambda x, y: x),
        ("where", (jax.tree.map(lambda x: x > 2, X), X, Y), lambda x, y: jnp.where(x > 2, x, y)),
        ("clip", (X, -1.0, 1.0), lambda x, y: jnp.clip(x, -1, 1)),
        ("zeros_like", (X,), lambda x, y: 0 * x),
        ("ones_like", (X,), lambda x, y: 0 * x + 1),
        ("full_like", (X, 7.0), lambda x, y: 0 * x + 7),
        ("real", (X,), lambda x, y: x),
        ("conj", (X,), lambda x, y: x),
    ],
)
def test_arithmetic_is_that_of_the_leaves(name, args, operation):
    made = getattr(tree, name)(*args)
    expected = jax.tree.map(operation, X, Y)
    assert jax.tree.structure(made) == jax.tree.structure(expected)
    chex.assert_trees_all_equal(made, expected)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "vdot"])
def test_shapes_that_differ_are_refused_by_path(name):
    with pytest.raises(TreeMismatchError, match=rf"tree.{name}: x\['w'\] is \(3, 1\), y\['w'\]"):
        getattr(tree, name)({"w": jnp.ones((3, 1))}, {"w": jnp.ones((1, 3))})


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: tree.sum(X), 2.0),
        (lambda: tree.sum({}), 0.0),
        (lambda: tree.sum({"f": X, "i": np.arange(3), "none": None}), 5.0),
        (lambda: tree.sum([X, np.zeros(3, jax.dtypes.float0)]), 2.0),
        (lambda: tree.norm({"f": jnp.ones(3), "i": np.arange(3)}, squared=True), 8.0),
        (lambda: tree.max(X), 3.0),
        (lambda: tree.min(X), -2.0),
        (lambda: tree.max(None), -np.inf),
        (lambda: tree.size(X), 3),
        (lambda: tree.vdot(X, Y), 0.0),
        (lambda: tree.vdot(jnp.array([1j]), jnp.array([1j])), 1.0),
        (lambda: tree.norm(X), np.sqrt(14)),
        (lambda: tree.norm(X, squared=True), 14.0),
        (lambda: tree.norm(X, 1), 6.0),
        (lambda: tree.norm(X, jnp.inf), 3.0),
        (lambda: tree.norm(X, "inf", squared=True), 9.0),
        (lambda: tree.allclose(X, X), True),
        (lambda: tree.allclose(X, Y), False),
        (lambda: tree.sum(jnp.full(3000, 1.0, jnp.bfloat16)), 3000.0),
    ],
)
def test_a_number_describes_the_whole_tree(made, expected):
    np.testing.assert_allclose(made(), expected, rtol=1e-6)


def test_moments_and_their_correction():
    g, m = jnp.array([2.0, -1.0]), jnp.array([1.0, 1.0])
    np.testing.assert_allclose(tree.update_moment(g, m, 0.5, 1), [1.5, 0.0])
    np.testing.assert_allclose(tree.update_moment(g, m, 0.5, 2), [2.5, 1.0])
    np.testing.assert_allclose(tree.update_moment_per_elem_norm(g, m, 0.5, 2), [2.5, 1.0])
    np.testing.assert_allclose(tree.update_infinity_moment(g, m, 0.5, 1e-3), [2.001, 1.001])
    np.testing.assert_allclose(tree.bias_correction(m, 0.5, 2), m / 0.75)


def test_casting_leaves_integers_alone():
    made = tree.cast({"x": jnp.ones(1), "n": jnp.int32(1)}, jnp.float16)
    assert (made["x"].dtype, made["n"].dtype) == (jnp.float16, jnp.int32)
    assert tree.cast(X, None) is X
    assert tree.cast_like(jnp.ones(1), jnp.ones(1, jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_dtype_of_a_mixed_tree_is_what_one_asks_for():
    mixed = {"a": jnp.ones(1), "b": jnp.ones(1, jnp.bfloat16)}
    assert tree.dtype(jnp.ones(1)) == jnp.float32
    assert tree.dtype(mixed, "promote") == jnp.float32
    assert tree.dtype(mixed, "highest") == jnp.float32
    assert tree.dtype(mixed, "lowest") == jnp.bfloat16
    with pytest.raises(ValueError, match="the leaves are of float32, bfloat16"):
        tree.dtype(mixed)


def test_random_leaves_are_independent():
    key = jax.random.key(1)
    made = tree.random_like(key, {"a": jnp.ones(5), "b": jnp.ones(5)})
    assert not np.allclose(made["a"], made["b"])
    keys = jax.tree.leaves(tree.split_key_like(key, X))
    assert len({tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in keys}) == 2
    assert tree.batch_shape(jax.ShapeDtypeStruct((3,), jnp.float32), (2,)).shape == (2, 3)


def state():
    tx = chain(ema(0.9), masked(trace(0.5), {"w": True}), scale_by_schedule(lambda count: 0.1))
    return tx.init({"w": jnp.ones(2)})


def test_a_value_is_read_by_its_name_or_by_as_much_path_as_it_takes():
    s = state()
    assert tree.get(s, "EmaState/count") == 0
    assert tree.get(s, "ScaleByScheduleState/count") == 0
    assert tree.get(s, "0/count") == 0
    np.testing.assert_array_equal(tree.get(s, "trace")["w"], [0.0, 0.0])
    assert tree.get(s, "EmaState") is s[0]
    assert tree.get(s, "nothing", default=5) == 5


def test_an_ambiguous_name_is_refused_with_names_that_are_not():
    s = state()
    with pytest.raises(
        KeyError, match=r"'count' is ambiguous: .*; give one of these, or filtering="
    ) as caught:
        tree.get(s, "count")
    for name in ("0/EmaState.count", "2/ScaleByScheduleState.count"):
        assert name in str(caught.value)
        assert tree.get(s, name) == 0
    with pytest.raises(KeyError, match="ambiguous"):
        tree.set(s, count=3)


def test_a_whole_path_is_never_ambiguous():
    state = {"a": {"x": 1.0}, "b": {"a": {"x": 2.0}}}
    assert tree.get(state, "a/x") == 1.0
    assert tree.get(state, "b/a/x") == 2.0
    assert tree.set(state, **{"a/x": 3.0}) == {"a": {"x": 3.0}, "b": {"a": {"x": 2.0}}}


def test_a_value_is_set_in_its_own_dtype_and_shape():
    s = tree.set(state(), **{"EmaState/count": 7.0 and 7})
    assert (s[0].count, s[0].count.dtype, s[2].count) == (7, jnp.int32, 0)
    with pytest.raises(ValueError, match=r"has the shape \(\), not \(2,\)"):
        tree.set(s, **{"EmaState/count": jnp.ones(2, int)})
    with pytest.raises(ValueError, match="is of int32"):
        tree.set(s, **{"EmaState/count": 0.5})
    with pytest.raises(KeyError, match="nothing matches 'speed'"):
        tree.set(s, speed=1)


def test_a_filter_chooses_among_matches():
    s = state()
    found = tree.get_all_with_path(s, "count")
    assert len(found) == 2
    last = found[-1][0]
    assert tree.get(s, "count", filtering=lambda path, value: path == last) == 0


def test_parts_with_the_parameters_structure_are_mapped():
    tx = chain(ema(0.9), scale_by_schedule(lambda count: 0.1))
    s = tx.init({"w": jnp.ones(2), "b": jnp.ones(1)})
    made = tree.map_params(
        tx, lambda slot, spec: spec, s, {"w": "W", "b": "B"}, transform_non_params=lambda _: None
    )
    assert made[0].ema == {"w": "W", "b": "B"}
    assert made[0].count is None
    assert made[1].count is None


@pytest.mark.parametrize(
    "state_of",
    [lambda n, p: {"count": n, "mean": p}, lambda n, p: p, lambda n, p: (n, [p, p])],
    ids=["a dict", "the parameters", "a tuple"],
)
def test_parts_of_a_state_without_declarations_are_mapped(state_of):
    params, spec = {"w": jnp.ones(2), "b": jnp.ones(1)}, {"w": "W", "b": "B"}
    other = GradientTransformation(
        lambda p: state_of(jnp.zeros(()), p), lambda g, s, p=None: (g, s)
    )
    for tx in (chain(ema(0.9), other), masked(chain(ema(0.9), other), {"w": True, "b": True})):
        made = tree.map_params(
            tx, lambda _, name: name, tx.init(params), spec, transform_non_params=lambda _: 0
        )
        first, second = getattr(made, "inner_state", made)
        assert (first.count, first.ema, second) == (0, spec, state_of(0, spec))
    tx = lookahead(other, 2, 0.5)
    for given in (params, LookaheadParams(params, params)):
        made = tree.map_params(tx, lambda _, name: name, tx.init(given), spec)
        assert getattr(made, "inner_state", made).fast_state == state_of(0, spec)
    tx = masked(ema(0.9), {"w": True, "b": False})
    for is_leaf, expected in ((None, MaskedNode()), (lambda x: isinstance(x, MaskedNode), "B")):
        made = tree.map_params(tx, lambda _, name: name, tx.init(params), spec, is_leaf=is_leaf)
        assert made.inner_state.ema == {"w": "W", "b": expected}


def test_slots_are_fresh_wide_and_only_for_what_has_a_gradient():
    params = {
        "h": jnp.ones(2, jnp.bfloat16),
        "c": jnp.ones(2, jnp.complex64),
        "n": jnp.int32(1),
        "x": None,
    }
    made = tree.slots_like(params)
    assert (made["h"].dtype, made["c"].dtype, made["n"], made["x"]) == (
        jnp.float32,
        jnp.complex64,
        None,
        None,
    )
    assert tree.slots_like(params, real=True)["c"].dtype == jnp.float32
    assert tree.slots_like(params, jnp.bfloat16)["h"].dtype == jnp.bfloat16
    assert tree.slots_like(params, fill_value=0.5)["h"][0] == 0.5
