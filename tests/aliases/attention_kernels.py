"""The kernels and a bias of Flax's attention."""

import jax.numpy as jnp

FEATURES = 6


def attention(k=0.0, heads=2, width=4):
    """The kernels query and out, and the bias of the query."""
    shapes = {"query": (FEATURES, heads, width), "out": (heads, width, FEATURES)}
    entries = jnp.arange(1.0 * FEATURES * heads * width) ** 2
    kernels = {
        name: {"kernel": jnp.cos(entries * (n + 1.3) + k).reshape(shape)}
        for n, (name, shape) in enumerate(shapes.items())
    }
    kernels["query"]["bias"] = jnp.sin(entries[: heads * width] + k).reshape(heads, width)
    return {"block": {"attention": kernels}}
