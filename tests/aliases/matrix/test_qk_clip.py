"""QK-clip: the weights of queries and keys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import qk_clip, sgd
from optx_core import apply_updates, chain, masked
from optx_testing import check_transformation

D, H, W = 5, 2, 3  # the width of the model, heads, and their width


def attention(lead=(), seed=0):
    keys = iter(jax.random.split(jax.random.key(seed), 6))

    def layer(*shape):
        return jax.random.normal(next(keys), (*lead, *shape))

    return {
        "query": {"kernel": layer(D, H, W), "bias": layer(H, W)},
        "key": {"kernel": layer(D, H, W), "bias": layer(H, W)},
        "value": {"kernel": layer(D, H, W)},
        "query_ln": {"scale": layer(W)},
    }


def logits_of(p, x):
    """The logits (heads, queries, keys) of an attention."""
    q, k = (
        np.einsum("td,dhw->thw", x, p[n]["kernel"]) + p[n]["bias"][None] for n in ("query", "key")
    )
    return np.einsum("qhw,khw->hqk", q, k) / np.sqrt(W)


def clipped(tx, params, max_logits, updates=None):
    updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates

    @jax.jit
    def moved(params, updates, max_logits):
        updates, _ = tx.update(updates, tx.init(params), params, max_logits=max_logits)
        return apply_updates(params, updates)

    return moved(params, updates, max_logits)


def test_afterwards_the_largest_logit_of_each_head_is_at_most_the_limit():
    p, x = {"attention": attention()}, jax.random.normal(jax.random.key(1), (7, D))
    before = np.max(logits_of(p["attention"], x), (1, 2))
    tau = float(np.mean(before))  # one head is clipped
    after = clipped(qk_clip(tau), p, {"attention": jnp.asarray(before)})
    largest = np.max(logits_of(after["attention"], x), (1, 2))
    np.testing.assert_allclose(largest, np.minimum(before, tau), rtol=1e-5)
    for name in ("value", "query_ln"):
        for a, b in zip(*(jax.tree.leaves(t["attention"][name]) for t in (p, after)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_weights_after_the_step_are_rescaled_and_other_heads_keep_the_bits_of_their_updates():
    p, u = attention(), attention(seed=3)
    tx = qk_clip(100.0)
    new, _ = jax.jit(tx.update)(u, tx.init(p), p, max_logits=jnp.array([400.0, 99.0]))
    p, u, new = jax.tree.map(np.asarray, (p, u, new))
    for name in ("query", "key"):
        for x, y, z in zip(*(jax.tree.leaves(t[name]) for t in (p, u, new)), strict=True):
            first = (..., 0, slice(None))
            np.testing.assert_allclose((x + z)[first], 0.5 * (x + y)[first], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(z[..., 1, :], y[..., 1, :])
    np.testing.assert_array_equal(new["value"]["kernel"], u["value"]["kernel"])


def test_it_follows_an_optimizer_and_its_tau_a_schedule():
    p = {
        "layers": [
            {"attention": {"query": {"kernel": attention(seed=k)["query"]["kernel"]}}}
            for k in (0, 1)
        ]
    }
    tx = chain(sgd(0.1), qk_clip(lambda count: 10.0 * (count + 1).astype(jnp.float32)))
    state, step = tx.init(p), jax.jit(tx.update)
    for tau in (10.0, 20.0):
        logits = {"layers": [{"attention": jnp.array([tau, 4 * tau])}, {"attention": jnp.zeros(2)}]}
        updates, state = step(p, state, p, max_logits=logits)
        ratios = jax.tree.map(lambda u, p: (p + u) / (0.9 * p), updates, p)
        first, second = (layer["attention"]["query"]["kernel"] for layer in ratios["layers"])
        np.testing.assert_allclose(first[:, 0], 1, rtol=1e-5)
        np.testing.assert_allclose(first[:, 1], 0.5, rtol=1e-5)
        np.testing.assert_allclose(second, 1, rtol=1e-5)


def test_layers_stacked_along_leading_axes_have_their_own_logits():
    p = {"block": {"attention": attention(lead=(3,))}}
    logits = jnp.array([[100.0, 1.0], [1.0, 400.0], [1.0, 1.0]])
    after = clipped(qk_clip(100.0), p, {"block": {"attention": logits}})
    for name in ("query", "key"):
        leaves = (jax.tree.leaves(t["block"]["attention"][name]) for t in (p, after))
        for x, y in zip(*leaves, strict=True):
            ratio = np.asarray(y / x).reshape(3, -1, H, W)
            np.testing.assert_allclose(ratio[1, :, 1], 0.5, rtol=1e-5)
            np.testing.assert_allclose(np.delete(ratio[1], 1, axis=1), 1)
            np.testing.assert_allclose(ratio[[0, 2]], 1)


def test_parts_of_a_head_have_their_own_exponents_fused_and_not():
    """Multi-head latent attention: two entries of q^C and k^C, one of q^R; values and k^R are left alone."""
    q, kv, rotary = jnp.ones((4, H, 3)), jnp.ones((4, H, 5)), jnp.ones((4, 1))
    parts = {"q_b": ((2, 0.5), (1, 1.0)), "kv_b": ((2, 0.5), (3, 0.0)), "k_rotary": 0.0}
    logits = jnp.array([100.0, 400.0])
    expected_q = np.array([[1, 1, 1], [0.5, 0.5, 0.25]])
    expected_kv = np.array([[1] * 5, [0.5, 0.5, 1, 1, 1]])
    after = clipped(qk_clip(100.0, parts), {"q_b": q, "kv_b": kv, "k_rotary": rotary}, logits)
    np.testing.assert_allclose(after["q_b"], np.broadcast_to(expected_q, q.shape), rtol=1e-6)
    np.testing.assert_allclose(after["kv_b"], np.broadcast_to(expected_kv, kv.shape), rtol=1e-6)
    np.testing.assert_array_equal(after["k_rotary"], rotary)
    fused = {"q_b": q.reshape(4, 6), "kv_b": kv.reshape(4, 10), "k_rotary": rotary}
    after = clipped(qk_clip(100.0, parts, fused=True), fused, logits)
    np.testing.assert_allclose(after["q_b"][0], expected_q.ravel(), rtol=1e-6)
    np.testing.assert_allclose(after["kv_b"][0], expected_kv.ravel(), rtol=1e-6)


def test_torchs_layout_has_the_heads_first():
    p = {"q_proj": jnp.ones((H * W, D)), "k_proj": jnp.ones((H * W, D))}
    tx = qk_clip(1.0, {"q_proj": 0.5, "k_proj": 0.5}, head_axis=0, fused=True)
    after = clipped(tx, p, jnp.array([1.0, 4.0]))
    np.testing.assert_allclose(after["k_proj"][:, 0], [1, 1, 1, 0.5, 0.5, 0.5], rtol=1e-6)


def test_a_logit_that_is_not_finite_or_not_too_large_changes_nothing():
    p = {"query": jnp.ones((D, 7, W)), "key": jnp.ones((D, 7, W))}
    tx = qk_clip(100.0)
    logits = jnp.array([jnp.nan, jnp.inf, -jnp.inf, -1e30, 0.0, 100.0, 101.0])
    new, _ = jax.jit(tx.update)(p, tx.init(p), p, max_logits=logits)
    assert np.all(new["query"][:, :6] == 1)
    assert np.all(new["query"][:, 6] < 1)


def test_integer_and_narrow_logits_weights_and_updates_keep_their_dtypes():
    p = {"query": jnp.ones((D, H, W), jnp.bfloat16), "key": jnp.ones((D, H, W), jnp.float16)}
    for logits in (np.array([400, 1]), np.array([400, 1], jnp.bfloat16)):
        after = clipped(qk_clip(100.0), p, logits)
        for name, x in p.items():
            assert after[name].dtype == x.dtype
            np.testing.assert_allclose(np.asarray(after[name], np.float32)[:, 0], 0.5, rtol=0.02)


def test_a_frozen_leaf_stays_where_it_is():
    p = attention()
    u = {**p, "query": {"kernel": None, "bias": p["query"]["bias"]}}
    tx = qk_clip(1.0)
    new, _ = tx.update(u, tx.init(p), p, max_logits=jnp.array([4.0, 4.0]))
    assert new["query"]["kernel"] is None


def test_the_conformance_kit_finds_nothing():
    params = {
        "attention": {"query": jnp.ones((3, 2, 2)), "key": jnp.ones((3, 2, 2)), "out": jnp.ones(2)}
    }
    check_transformation(
        chain(sgd(0.1), qk_clip(2.0)),
        params,
        extra_args=lambda params, updates: {"max_logits": {"attention": jnp.array([8.0, 1.0])}},
        promises=(1, 3),
    )


FROZEN = {
    "gradients": None,
    "a subtree": False,
    "leaves": jax.tree.map(lambda _: False, attention()),
}


@pytest.mark.parametrize("frozen", FROZEN)
def test_the_logits_of_frozen_layers_are_passed_over(frozen):
    p, logits, alone = {"a": attention(), "b": attention(seed=1)}, jnp.full(H, 4.0), qk_clip(1.0)
    g, tx = {"a": p["a"], "b": jax.tree.map(lambda _: None, p["b"])}, alone
    if frozen != "gradients":
        g, tx = p, masked(alone, {"a": jax.tree.map(lambda _: True, p["a"]), "b": FROZEN[frozen]})
    u, _ = tx.update(g, tx.init(p), p, max_logits={"a": logits, "b": logits})
    expected, _ = alone.update(p["a"], alone.init(p["a"]), p["a"], max_logits=logits)
    chex.assert_trees_all_equal(u["a"], expected)
    chex.assert_trees_all_equal(u["b"], g["b"])


def test_what_does_not_fit_is_refused_by_name():
    p = {"a": attention(), "b": attention(seed=1)}
    ones = jnp.ones(H)
    cases = [
        (None, r"qk_clip needs the largest attention logits: call update\(.*max_logits="),
        (
            {"a": ones},
            r"params\['b'\]\['key'\]\['bias'\] needs one array of max_logits .* there is none",
        ),
        (
            {"a": ones, "b": ones, "c": ones},
            r"max_logits\['c'\] has no weights named 'query' or 'key'",
        ),
        (
            {"a": jnp.ones(3), "b": ones},
            r"max_logits of shape \(3,\) do not fit params\['a'\].*\(2, 3\)",
        ),
        ({"a": jnp.ones((2, 2)), "b": ones}, r"of shape \(2, 2\) do not fit params\['a'\]"),
    ]
    tx = qk_clip()
    for max_logits, message in cases:
        with pytest.raises(ValueError, match=message):
            tx.update(p, tx.init(p), p, max_logits=max_logits)
    with pytest.raises(ValueError, match="qk_clip needs the parameters"):
        tx.update(p, tx.init(p), max_logits={"a": ones, "b": ones})
    flat = {"query": jnp.ones((D, H * W)), "key": jnp.ones((D, H * W))}
    with pytest.raises(
        ValueError, match=r"heads on axis -2. head_axis= names the axis; fused=True"
    ):
        tx.update(flat, tx.init(flat), flat, max_logits=ones)
    grouped = {"query": jnp.ones((D, 4, W)), "key": jnp.ones((D, 2, W))}
    with pytest.raises(ValueError, match="With grouped queries, scale the queries alone"):
        tx.update(grouped, tx.init(grouped), grouped, max_logits=jnp.ones(4))
    alone = qk_clip(1.0, {"query": 1.0, "key": 0.0})
    after = clipped(alone, grouped, jnp.full(4, 2.0))
    np.testing.assert_allclose(after["query"], 0.5)
    np.testing.assert_array_equal(after["key"], 1)
    parts = qk_clip(1.0, {"query": ((1, 0.5), (1, 1.0))})
    with pytest.raises(ValueError, match=r"have 3 entries, its exponents are for 1 \+ 1"):
        parts.update(grouped, parts.init(grouped), grouped, max_logits=jnp.ones(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "tau must be greater than 0"),
        ((1.0, {}), "exponents must be a mapping"),
        ((1.0, {"query": -0.5}), "exponents must be"),
        ((1.0, {"query": ((2.5, 0.5),)}), "the exponents of 'query' must be a number, or pairs"),
        ((1.0, {"query": (0.5, 0.5)}), "the exponents of 'query' must be a number, or pairs"),
        ((1.0, {"query": 0.5}, 1.5), "head_axis must be an int"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        qk_clip(*arguments)
