"""Clipping of the gradients of single examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import per_example_global_norm_clip, per_example_layer_norm_clip


def test_per_example_gradients_are_clipped_one_by_one():
    grads = {"a": jnp.asarray([[3.0, 4.0], [0.3, 0.4]]), "b": jnp.asarray([0.0, 0.0])}
    total, clipped = per_example_global_norm_clip(grads, 1.0)
    np.testing.assert_allclose(total["a"], [0.9, 1.2], rtol=1e-6)
    assert clipped == 1
    total, counts = per_example_layer_norm_clip(grads, np.sqrt(2.0))
    np.testing.assert_allclose(total["a"], [0.9, 1.2], rtol=1e-6)
    assert (counts["a"], counts["b"]) == (1, 0)
    with pytest.raises(ValueError, match="needs the same leading axis"):
        per_example_global_norm_clip({"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}, 1.0)


@pytest.mark.parametrize("clip", [per_example_global_norm_clip, per_example_layer_norm_clip])
def test_integer_gradients_are_clipped_in_float32(clip):
    grads = {"a": jnp.asarray([[3, 4], [1, 0]]), "b": jnp.zeros((2, 2), bool)}
    floats = {name: g.astype(jnp.float32) for name, g in grads.items()}
    total, clipped = clip(grads, 1.0)
    expected, counts = clip(floats, 1.0)
    assert {name: g.dtype for name, g in total.items()} == dict.fromkeys("ab", jnp.float32)
    np.testing.assert_array_equal(total["a"], expected["a"])
    assert float(total["a"][1]) > 0
    assert jax.tree.leaves(clipped) == jax.tree.leaves(counts)
    with pytest.raises(ValueError, match="l2_norm_clip must be at least 0, not -1"):
        clip(grads, -1.0)
