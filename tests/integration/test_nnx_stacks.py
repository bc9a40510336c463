"""`per_slice` in `nnx.Optimizer`: the layers of `nnx.scan` move like layers of their own."""

import jax
import jax.numpy as jnp
import numpy as np

from flax import nnx
from optx_aliases import lamb, muon
from optx_core import per_slice
from optx_flax import label_params

LAYERS = 3


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.linear(x))


class Scanned(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=LAYERS)
        @nnx.vmap(in_axes=0, out_axes=0)
        def make(rngs):
            return Block(rngs)

        self.blocks = make(rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def through(x, block):
            return block(x)

        return self.head(through(x, self.blocks))


class Unrolled(nnx.Module):
    def __init__(self, scanned):
        self.blocks = nnx.List([Block(nnx.Rngs(0)) for _ in range(LAYERS)])
        for k, block in enumerate(self.blocks):
            layer = jax.tree.map(lambda x, k=k: x[k], nnx.state(scanned.blocks))
            nnx.update(block, layer)
        self.head = nnx.clone(scanned.head)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def train(model, tx):
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda m: jnp.mean((m(x) - 1) ** 2))(model)
        optimizer.update(model, grads)

    for k in range(3):
        step(model, optimizer, jnp.sin(k + jnp.arange(8.0)).reshape(2, 4))


def test_layers_of_a_scan_move_like_a_list_of_layers():
    for tx in (lamb(0.1, weight_decay=0.1), muon(0.1)):
        scanned = Scanned(nnx.Rngs(0))
        unrolled = Unrolled(scanned)
        train(scanned, per_slice(tx, lambda p: label_params(p, {"^blocks/": 1}, default=0)))
        train(unrolled, tx)
        for k, block in enumerate(unrolled.blocks):
            ours = scanned.blocks.linear
            np.testing.assert_allclose(ours.kernel[k], block.linear.kernel[...], atol=1e-5)
            np.testing.assert_allclose(ours.bias[k], block.linear.bias[...], atol=1e-5)
        np.testing.assert_allclose(scanned.head.kernel, unrolled.head.kernel[...], atol=1e-5)
