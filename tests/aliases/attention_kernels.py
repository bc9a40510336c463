"""The kernels of Flax's attention."""

import jax.numpy as jnp

FEATURES = 6


def attention(k=0.0, heads=2, width=4):
    """The kernels of Flax's attention."""
    shapes = {"query": (FEATURES, heads, width), "out": (heads, width, FEATURES)}
    entries = jnp.arange(1.0 * FEATURES * heads * width) ** 2
    kernels = {
        name: {"kernel": jnp.cos(entries * (n + 1.3) + k).reshape(shape)}
        for n, (name, shape) in enumerate(shapes.items())
    }
    return {"block": {"attention": kernels}}
