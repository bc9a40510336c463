"""The largest attention logits of an NNX model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_flax import MaxLogits, largest_logits, record_max_logits, take_max_logits


def attention(**options):
    options = {"num_heads": 2, "in_features": 6, "decode": False, "rngs": nnx.Rngs(0)} | options
    return nnx.MultiHeadAttention(**options)


class Model(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([attention(rngs=nnx.Rngs(k)) for k in range(2)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x, is_causal=True)
        return x


def logits(module, x):
    q, k = module.query(x), module.key(x)
    k = np.repeat(k, q.shape[-2] // k.shape[-2], axis=-2)
    return np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])


X = jax.random.normal(jax.random.key(9), (3, 5, 6))


def test_they_are_those_of_each_head_over_batch_queries_and_keys_that_are_not_masked():
    module = attention()
    record_max_logits(module)
    mask = jax.random.bernoulli(jax.random.key(1), 0.3, (3, 1, 5, 5)).at[..., 0].set(True)
    causal = np.tril(np.ones((5, 5), bool))
    cases = (({}, True), ({"mask": mask}, mask), ({"is_causal": True}, causal))
    for arguments, counts in cases:
        module(X, **arguments)
        expected = np.where(counts, logits(module, X), -np.inf).max((0, 2, 3))
        np.testing.assert_allclose(take_max_logits(module), expected, rtol=1e-5)


def test_heads_may_share_keys():
    q, k = (
        jax.random.normal(jax.random.key(0), (7, 6, 4)),
        jax.random.normal(jax.random.key(1), (5, 2, 4)),
    )
    expected = [np.max(q[:, h] @ k[:, h // 3].T) / 2 for h in range(6)]
    np.testing.assert_allclose(largest_logits(q, k), expected, rtol=1e-5)


def test_a_compiled_step_records_the_largest_of_several_passes_and_taking_them_starts_anew():
    plain, model = Model(), Model()
    record_max_logits(model)

    @nnx.jit
    def gradient(model, x):
        return nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)

    expected = gradient(plain, X)
    for x in (X, 3 * X, X):
        grads = gradient(model, x)
    pairs = zip(*map(jax.tree.leaves, (nnx.state(grads, nnx.Param), expected)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-6)
    taken = take_max_logits(model)
    allowed = np.tril(np.ones((5, 5), bool))
    first = np.where(allowed, logits(model.blocks[0], 3 * X), -np.inf).max((0, 2, 3))
    np.testing.assert_allclose(taken["blocks"][0], first, rtol=1e-5)
    assert set(taken["blocks"]) == {0, 1}
    assert np.all(np.isneginf(take_max_logits(model)["blocks"][1]))
    assert not jax.tree.leaves(nnx.state(model, nnx.Param).filter(MaxLogits))


def test_layers_in_a_scan_have_their_own():
    @nnx.vmap(in_axes=0, out_axes=0)
    def stacked(key):
        return attention(rngs=nnx.Rngs(key))

    layers = stacked(jax.random.split(jax.random.key(0), 3))
    record_max_logits(layers)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def forward(x, layer):
        return layer(x)

    forward(X, layers)
    taken = take_max_logits(layers)
    assert taken.shape == (3, 2)
    assert np.all(np.isfinite(taken))
    assert len(np.unique(taken)) == 6


def test_an_attention_of_your_own_keeps_what_largest_logits_computes():
    class Own(nnx.Module):
        def __init__(self):
            self.max_logits = MaxLogits(jnp.full(2, -jnp.inf))

        def __call__(self, q):
            self.max_logits[...] = jnp.maximum(self.max_logits[...], largest_logits(q, q))

    class Outer(nnx.Module):
        def __init__(self):
            self.attention = Own()

    model = Outer()
    model.attention(jnp.ones((5, 2, 4), jnp.bfloat16))
    np.testing.assert_allclose(take_max_logits(model)["attention"], [2.0, 2.0])


def test_a_head_without_a_pair_has_none_and_slopes_are_zero():
    q = jnp.ones((4, 2, 3))
    nothing = largest_logits(q, q, jnp.zeros((1, 4, 4), bool))
    assert np.all(np.isneginf(nothing))
    assert largest_logits(q[:0], q).shape == (2,)
    assert not jax.grad(lambda q: jnp.sum(largest_logits(q, q)))(q).any()


def test_what_cannot_record_is_refused():
    with pytest.raises(ValueError, match=r"has no nnx.MultiHeadAttention.*largest_logits"):
        record_max_logits(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="records nothing; call record_max_logits"):
        take_max_logits(attention())
    module = attention()
    record_max_logits(module)
    with pytest.raises(ValueError, match="records its largest logits already"):
        record_max_logits(module)
    with pytest.raises(TypeError, match=r"must be an nnx.Module, not dict"):
        record_max_logits({})
    with pytest.raises(ValueError, match="3 heads of queries for 2 heads of keys"):
        largest_logits(jnp.ones((4, 3, 2)), jnp.ones((4, 2, 2)))
