"""The kernels of Flax's attention."""

import jax.numpy as jnp

FEATURES, HEADS, WIDTH = 6, 2, 4
KERNELS = {"query": (FEATURES, HEADS, WIDTH), "out": (HEADS, WIDTH, FEATURES)}


def attention(k=0.0):
    """The kernels of Flax's attention."""
    kernels = {
        name: {"kernel": jnp.cos(jnp.arange(48.0) ** 2 * (n + 1.3) + k).reshape(shape)}
        for n, (name, shape) in enumerate(KERNELS.items())
    }
    return {"block": {"attention": kernels}}
