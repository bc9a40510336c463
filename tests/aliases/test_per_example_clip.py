"""Clipping of the gradients of single examples."""

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
