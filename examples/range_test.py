"""Finds learning rates for three optimizers by a range test, and checks them.

    python examples/range_test.py [--plot range_test.png]

The rate grows exponentially from step to step until the loss diverges (Smith, "Cyclical Learning Rates
for Training Neural Networks", 2015). The suggestion lies where the smoothed loss falls fastest; the
right plot shows short runs at a tenth of it, at it, and at ten times it.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits

from optx_aliases import adamw, lion, sgd
from optx_core import apply_updates, find_learning_rate
from optx_losses import softmax_cross_entropy_with_integer_labels

BATCH, STEPS = 64, 150
OPTIMIZERS = {"sgd": sgd, "adamw": adamw, "lion": lion}


def loss_fn(params, batch):
    """Returns the mean loss of a batch."""
    x, y = batch
    logits = jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"]
    return jnp.mean(softmax_cross_entropy_with_integer_labels(logits, y))


def batches(steps):
    """Returns (steps, BATCH, 64) images and their labels."""
    digits = load_digits()
    rows = np.random.default_rng(0).integers(len(digits.data), size=(steps, BATCH))
    images = jnp.asarray(digits.data / 16, jnp.float32)
    return images[rows], jnp.asarray(digits.target)[rows]


def last_loss(make, rate, params, data):
    """Returns the mean loss of the last twenty steps."""
    tx = make(rate)

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params)
        return (apply_updates(params, updates), state), value

    return jnp.mean(jax.lax.scan(step, (params, tx.init(params)), data)[1][-20:])


def plot(sweeps, checks, path):
    """Plots the sweeps and the runs."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, sweep in sweeps.items():
        (line,) = left.loglog(sweep.learning_rates, sweep.smoothed, label=name)
        left.axvline(sweep.suggestion, color=line.get_color(), linestyle=":")
        right.loglog(*zip(*checks[name], strict=True), "o-", label=name)
    left.set(xlabel="learning rate", ylabel="smoothed loss", ylim=(None, 10))
    right.set(xlabel="learning rate", ylabel=f"loss after {STEPS} steps")
    left.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Sweeps, checks, prints and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="range_test.png")
    arguments = parser.parse_args()
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(keys[0], (64, 64)) / 6,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(keys[1], (64, 10)) / 8,
    }
    x, y = data = batches(STEPS)
    sweeps, checks = {}, {}
    for name, make in OPTIMIZERS.items():
        sweep = find_learning_rate(
            make, loss_fn, params, list(zip(x, y, strict=True)), low=1e-5, high=100.0, steps=STEPS
        )
        rates = sweep.suggestion * np.array([0.1, 1.0, 10.0])
        run = jax.jit(jax.vmap(lambda rate, make=make: last_loss(make, rate, params, data)))
        checks[name] = list(zip(rates, run(jnp.asarray(rates, jnp.float32)).tolist(), strict=True))
        sweeps[name] = sweep
        losses = ", ".join(f"{rate:.2g}: {loss:.3f}" for rate, loss in checks[name])
        print(f"{name:6} suggestion {sweep.suggestion:.2g}; loss at {losses}")
    plot(sweeps, checks, arguments.plot)


if __name__ == "__main__":
    main()
