"""Run by test_gradients.py with eight fake devices: one reduction for sixteen micro-batches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flax import nnx
from optx_core import chain, scale_by_learning_rate, trace, zero1_rule
from optx_flax import create_sharded, micro_value_and_grad

TX = chain(trace(0.9), scale_by_learning_rate(0.1))
X = np.random.default_rng(0).normal(size=(128, 8))
RULE = zero1_rule("data", 8)
LAYOUTS = {"data parallel": {}, "FSDP": {"param_rule": RULE}, "ZeRO-1": {"rule": RULE}}


class Model(nnx.Module):
    def __init__(self, rate=0.0, normed=False):
        self.w = nnx.Param(jnp.sin(jnp.arange(8 * 16.0)).reshape(8, 16))
        self.b = nnx.Param(jnp.ones(16))
        self.dropout = nnx.Dropout(rate, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(16, rngs=nnx.Rngs(0)) if normed else None
        self.seen = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.seen[...] += 1
        x = jnp.tanh(jnp.dot(x, self.w[...]) + self.b[...][None])
        return self.dropout(x if self.norm is None else self.norm(x))


def loss_fn(model, x):
    return jnp.mean(jnp.square(model(x)))


def collectives(compiled):
    kinds = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    loops, outside = compiled.as_text().split("\nENTRY ")
    return re.findall(kinds, loops), re.findall(kinds, outside)


def training(kind, layout, expected):
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    model, optimizer = create_sharded(Model, TX, mesh, **LAYOUTS[layout])
    graphdef, state = nnx.split((model, optimizer))

    def step(state, x):
        model, optimizer = nnx.merge(graphdef, state)
        loss, grads = micro_value_and_grad(loss_fn, 8, mesh_axes="data")(model, x)
        optimizer.update(model, grads)
        return loss, nnx.state((model, optimizer))

    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("data")))
        compiled = jax.jit(step).lower(state, x).compile()
        in_loop, outside = collectives(compiled)
        assert in_loop == [], (kind, layout, in_loop)
        reductions = [c for c in outside if c != "all-gather"]
        assert 1 <= len(reductions) <= 2 + 1, (kind, layout, outside)  # two parameters, the loss
        loss, state = compiled(state, x)
    model, _ = nnx.merge(graphdef, state)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    np.testing.assert_allclose(model.w[...], expected[1], rtol=1e-12)
    assert int(model.seen[...]) == 16


def devices_differ():
    """Each device drops entries of its own; what it cannot see of other devices' examples is refused."""
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    same = jax.device_put(np.ones((8, 8), np.float32), NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh):
        model = Model(0.5)

        def total_and_square(model, x):
            total = jnp.sum(model(x))
            return total, total**2

        run = micro_value_and_grad(
            total_and_square, 8, mesh_axes="data", has_aux=True, reduction="sum"
        )
        (total, squares), _ = nnx.jit(run)(model, same)
        assert int(model.dropout.rngs.count[...]) == 1
        assert float(squares) > 1.001 * float(total) ** 2 / 8  # equal if all masks were the same
        normed = Model(normed=True)
        with pytest.raises(ValueError, match=r"norm.*mean.* depends on each device's own examples"):
            micro_value_and_grad(loss_fn, 8, mesh_axes="data")(normed, same)


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", True)
    model = Model()
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    loss, grads = nnx.value_and_grad(loss_fn)(model, jnp.asarray(X))
    optimizer.update(model, grads)
    for kind, layout in (
        (AxisType.Auto, "data parallel"),
        (AxisType.Auto, "ZeRO-1"),
        (AxisType.Explicit, "FSDP"),
    ):
        training(kind, layout, (loss, model.w[...]))
    with jax.enable_x64(False):
        devices_differ()
    print("ok")
