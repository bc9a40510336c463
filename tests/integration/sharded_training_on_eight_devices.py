"""Run by test_sharded_training.py with eight fake devices: layouts times optimizers, on one kind of mesh.

    sharded_training_on_eight_devices.py Auto|Explicit

A layout gives the specs of the parameters and, for ZeRO-1, the rule by which the state is kept. All
dimensions of an array differ, so that the layout each slot must have can be told from its shape alone.
"""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optx_aliases
from flax import nnx
from optx_core import multi_steps, partition, zero1_rule
from optx_flax import compile_step, create_sharded, value_fn
from sampling import share

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(event) if "backend_compile" in event else None
)
STEPS = 4
SHAPES = {"w1": (16, 32), "b1": (32,), "w2": (32, 8), "b2": (8,)}
REPLICATED = dict.fromkeys(SHAPES, ())
TENSOR = {"w1": (None, "model"), "b1": ("model",), "w2": ("model", None), "b2": ()}
FSDP = {"w1": ("data", None), "b1": ("data",), "w2": (None, "data"), "b2": ("data",)}
BOTH = {"w1": ("data", "model"), "b1": ("model",), "w2": ("model", "data"), "b2": ()}
LAYOUTS = {
    "data parallel": (REPLICATED, False),
    "FSDP": (FSDP, False),
    "tensor parallel": (TENSOR, False),
    "FSDP and tensor": (BOTH, False),
    "ZeRO-1": (REPLICATED, True),
    "ZeRO-1 and tensor": (TENSOR, True),
}
# Where ZeRO-1 over four devices must put each array's state, worked out by hand.
ZERO1 = {
    "ZeRO-1": {"w1": ("data", None), "b1": ("data",), "w2": ("data", None), "b2": ("data",)},
    "ZeRO-1 and tensor": {
        "w1": ("data", "model"),
        "b1": ("model",),  # its one dimension is taken
        "w2": ("model", "data"),
        "b2": ("data",),
    },
}


def by_rank(params):
    return jax.tree.map(lambda p: "matrices" if p.ndim > 1 else "rest", params)


OPTIMIZERS = {
    "adamw": lambda o: o.adamw(1e-2),
    "adafactor": lambda o: o.adafactor(1e-2, min_dim_size_to_factor=4),
    "sm3": lambda o: o.sm3(1e-2),
    "lbfgs": lambda o: o.lbfgs(memory_size=3),
    "muon": lambda o: o.muon(1e-2),
    "MultiSteps": lambda o: multi_steps(o.adamw(1e-2), 2),
    "partition": lambda o: partition({"matrices": o.adamw(1e-2), "rest": o.sgd(0.1, 0.9)}, by_rank),
}


class Net(nnx.Module):
    """Two layers; on a mesh, with the matrices gathered along the data axis, as FSDP does."""

    def __init__(self, specs, kind):
        self.kind = kind
        for k, (name, shape) in enumerate(SHAPES.items()):
            size = math.prod(shape)
            value = jnp.sin(jnp.arange(size, dtype=jnp.float32) + k).reshape(shape) / 4
            note = {} if kind is None or not specs[name] else {"out_sharding": specs[name]}
            setattr(self, name, nnx.Param(value, **note))
        self.specs = nnx.static(tuple(specs.items()))

    def __call__(self, x):
        explicit = self.kind == AxisType.Explicit

        def weight(name):
            p = getattr(self, name)[...]
            if not explicit:
                return p
            spec = dict(self.specs)[name]
            return jax.sharding.reshard(p, P(*(None if a == "data" else a for a in spec)))

        hidden = jnp.tanh(jnp.dot(x, weight("w1")) + weight("b1")[None, :])
        out = {"out_sharding": P("data", None)} if explicit else {}
        return jnp.dot(hidden, weight("w2"), **out) + weight("b2")[None, :]


def loss_fn(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def train_step(model, optimizer, x, y):
    f = value_fn(model, loss_fn, x, y)
    loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    optimizer.update(model, grads, value=loss, grad=grads, value_fn=f)
    return loss


X = np.cos(np.arange(STEPS * 8 * 16, dtype=np.float32)).reshape(STEPS, 8, 16)
Y = np.sin(3 * np.arange(STEPS * 8 * 8, dtype=np.float32)).reshape(STEPS, 8, 8)


def padded(spec, n):
    return (*spec, *(None,) * (n - len(spec)))


def owner_of(path):
    names = [str(getattr(k, "key", getattr(k, "name", ""))) for k in path]
    return next((name for name in reversed(names) if name in SHAPES), None)


def expected_spec(path, x, specs):
    """Each dimension of a slot lies as the parameter's dimension of that size."""
    name = owner_of(path)
    if name is None:
        return (None,) * x.ndim
    of_size = dict(zip(SHAPES[name], padded(specs[name], len(SHAPES[name])), strict=True))
    return tuple(of_size.get(n) for n in x.shape)


def check_state(name, optimizer, mesh, specs):
    """Specs exact, and the bytes on the first device as computed from them."""
    computed = measured = 0
    pairs = jax.tree_util.tree_leaves_with_path(nnx.as_pure(optimizer.opt_state))
    slots = 0
    for path, x in pairs:
        spec = expected_spec(path, x, specs)
        slots += owner_of(path) is not None
        assert padded(tuple(x.sharding.spec), x.ndim) == spec, (
            name,
            path,
            x.shape,
            x.sharding,
            spec,
        )
        parts = math.prod(mesh.shape[a] for a in spec if a is not None)
        computed += x.nbytes // parts
        measured += x.addressable_shards[0].data.nbytes
    assert slots, name
    assert measured == computed, (name, measured, computed)
    return computed


def reference(tx):
    model = Net(REPLICATED, None)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(train_step)
    losses = [float(step(model, optimizer, x, y)) for x, y in zip(X, Y, strict=True)]
    return losses, nnx.to_pure_dict(nnx.state(model, nnx.Param))


def run(layout, tx, kind, expected, compiled_step):
    specs, zero1 = LAYOUTS[layout]
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    rule = zero1_rule("data", 4) if zero1 else None
    model, optimizer = create_sharded(lambda: Net(specs, kind), tx, mesh, rule=rule)
    kept = ZERO1.get(layout, specs)
    size = check_state(layout, optimizer, mesh, kept)
    batch = NamedSharding(mesh, P("data"))
    losses = []
    with jax.set_mesh(mesh):
        if compiled_step:
            step = compile_step(train_step, model, optimizer)
        else:
            jitted = nnx.jit(train_step)
            step = lambda x, y: jitted(model, optimizer, x, y)
        batches = [
            (jax.device_put(x, batch), jax.device_put(y, batch)) for x, y in zip(X, Y, strict=True)
        ]
        for k, (x, y) in enumerate(batches):
            losses.append(step(x, y))
            if k == 0:
                before = len(COMPILED)
        assert len(COMPILED) == before, (
            f"{layout}: {len(COMPILED) - before} compilations after step 1"
        )
        if compiled_step:
            step.sync()
    check_state(layout, optimizer, mesh, kept)
    expected_losses, expected_params = expected
    np.testing.assert_allclose(np.array(losses), expected_losses, rtol=2e-4, err_msg=layout)
    for name, p in nnx.to_pure_dict(nnx.state(model, nnx.Param)).items():
        assert padded(tuple(p.sharding.spec), p.ndim) == padded(specs[name], p.ndim), (layout, name)
        np.testing.assert_allclose(
            np.asarray(p), expected_params[name], rtol=2e-3, atol=2e-4, err_msg=f"{layout}, {name}"
        )
    return size


if __name__ == "__main__":
    assert jax.device_count() == 8
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    kind = AxisType[sys.argv[1]]
    layouts = list(LAYOUTS)
    # Each begins at another layout: a share of one in six has every optimizer and every layout.
    pairs = [
        (name, layouts[(number + k) % len(layouts)])
        for number, name in enumerate(OPTIMIZERS)
        for k in range(len(layouts))
    ]
    optimizers, expected = {}, {}
    for name, layout in share(pairs, len(layouts), kind.name):
        if name not in optimizers:
            optimizers[name] = OPTIMIZERS[name](optx_aliases)
            expected[name] = reference(optimizers[name])
            losses = expected[name][0]
            assert losses[-1] < losses[0] or name == "lbfgs", (name, losses)
        compiled_step = layouts.index(layout) % 2 == 1
        size = run(layout, optimizers[name], kind, expected[name], compiled_step=compiled_step)
        print(f"{kind.name}, {name}, {layout}: {size} bytes of state on a device")
    print("ok")
