"""QK-clip with the logits that an NNX model records."""

import jax
import jax.numpy as jnp
import numpy as np

from flax import nnx
from optx_aliases import qk_clip, sgd
from optx_core import chain
from optx_flax import record_max_logits, take_max_logits


class Model(nnx.Module):
    def __init__(self):
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return x + self.attention(x)


def test_training_brings_the_logits_of_every_head_below_the_limit():
    model, x = Model(), 2 * jax.random.normal(jax.random.key(0), (2, 5, 4))
    model.attention.query.kernel[...] *= 30  # attention that saturates
    record_max_logits(model)
    optimizer = nnx.Optimizer(model, chain(sgd(1e-4), qk_clip(5.0)), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(x) - 1) ** 2))(model)
        max_logits = take_max_logits(model)
        optimizer.update(model, grads, max_logits=max_logits)
        return max_logits

    history = [step(model, optimizer)["attention"] for _ in range(4)]
    assert np.max(history[0]) > 50
    assert np.all(np.isfinite(history[3]))
    assert np.max(history[3]) < 5.5
