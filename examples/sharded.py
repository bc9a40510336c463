"""Trains on eight devices in three layouts, and compares the losses and the bytes on each device.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/sharded.py [--plot sharded.png]

Data parallel: parameters and state on each device. ZeRO-1: the state is split. FSDP: parameters and
state are split. The losses agree to rounding. Without eight devices the program starts itself again
with eight fake ones.
"""

import argparse
import os
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

from optx_aliases import adamw
from optx_core import apply_updates, state_sharding, zero1, zero1_rule
from optx_losses import softmax_cross_entropy_with_integer_labels

SHAPES = {"w1": (64, 256), "w2": (256, 256), "w3": (256, 16)}
DEVICES, STEPS, BATCH = 8, 100, 256


def loss(params, x, y):
    """Returns the mean loss."""
    x = jax.nn.relu(x @ params["w1"])
    x = jax.nn.relu(x @ params["w2"])
    return jnp.mean(softmax_cross_entropy_with_integer_labels(x @ params["w3"], y))


def layouts(mesh):
    """Returns the shardings of the parameters and the optimizer, for each layout."""
    whole = {name: NamedSharding(mesh, P()) for name in SHAPES}
    rule = zero1_rule("data", DEVICES)
    split = {name: NamedSharding(mesh, rule(s, P(None, None))) for name, s in SHAPES.items()}
    return {
        "data parallel": (whole, adamw(3e-3)),
        "ZeRO-1": (whole, zero1(adamw(3e-3), "data", param_shardings=whole)),
        "FSDP": (split, adamw(3e-3)),
    }


def on_one_device(arrays):
    """Returns the KiB that the first device holds."""
    return sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(arrays)) / 1024


def train(shardings, tx, mesh, images, labels):
    """Returns the losses, and the KiB of parameters and state on one device."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32) * (2 / shape[0]) ** 0.5
        for name, shape in SHAPES.items()
    }
    params = jax.device_put(weights, shardings)
    state = jax.jit(tx.init, out_shardings=state_sharding(tx, params))(params)

    @jax.jit
    def step(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = tx.update(grads, state, params)
        params = jax.lax.with_sharding_constraint(apply_updates(params, updates), shardings)
        return params, state, value

    split = NamedSharding(mesh, P("data"))
    losses = []
    for _ in range(STEPS):
        rows = rng.integers(len(images), size=BATCH)
        params, state, value = step(
            params, state, *jax.device_put((images[rows], labels[rows]), split)
        )
        losses.append(float(value))
    return losses, on_one_device(params), on_one_device(state)


def plot(results, path):
    """Plots the losses and the bytes."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for (name, (losses, _, _)), line in zip(results.items(), ("-", "--", ":"), strict=True):
        left.semilogy(losses, line, label=name)
    left.set(xlabel="step", ylabel="loss")
    left.legend()
    params, state = ([result[i] for result in results.values()] for i in (1, 2))
    right.bar(list(results), params, label="parameters")
    right.bar(list(results), state, bottom=params, label="state")
    right.set(ylabel="KiB on each device")
    right.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains in each layout, prints and plots."""
    if jax.device_count() < DEVICES:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 (itself)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="sharded.png")
    arguments = parser.parse_args()
    mesh = jax.make_mesh((DEVICES,), ("data",), (AxisType.Auto,))
    jax.set_mesh(mesh)
    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    results = {}
    for name, (shardings, tx) in layouts(mesh).items():
        results[name] = train(shardings, tx, mesh, images, labels)
        losses, params, state = results[name]
        print(
            f"{name:14} loss {losses[-1]:.4f}; on each device {params:.0f} KiB of parameters, "
            f"{state:.0f} KiB of state"
        )
    plot(results, arguments.plot)


if __name__ == "__main__":
    main()
