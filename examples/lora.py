"""Adapts a trained classifier to rotated digits by low-rank updates of its frozen kernels (LoRA).

    python examples/lora.py [--plot lora.png]

Kernels W become W + A·B with A of 4 columns (Hu et al., 2021). The base is frozen: it does not move and
owns no state. Compared with training all parameters, by accuracy and by bytes of optimizer state.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits

from flax import nnx
from optx_aliases import adamw
from optx_flax import compile_step, freeze
from optx_losses import softmax_cross_entropy_with_integer_labels

RANK, HIDDEN, BATCH = 4, 128, 64


class LoRALinear(nnx.Module):
    """A linear layer with an update of low rank, which is zero at first."""

    def __init__(self, inputs, outputs, rngs):
        self.base = nnx.Linear(inputs, outputs, rngs=rngs)
        self.a = nnx.Param(jax.random.normal(rngs.params(), (inputs, RANK)) / inputs**0.5)
        self.b = nnx.Param(jnp.zeros((RANK, outputs)))

    def __call__(self, x):
        return self.base(x) + x @ self.a[...] @ self.b[...]


def make_model():
    """Returns a network of three layers."""
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        LoRALinear(64, HIDDEN, rngs), nnx.relu,
        LoRALinear(HIDDEN, HIDDEN, rngs), nnx.relu,
        LoRALinear(HIDDEN, 10, rngs),
    )  # fmt: skip


def train_step(model, optimizer, x, y):
    """Runs one step; returns the mean loss."""

    def loss_fn(model):
        return softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def accuracy(model, x, y):
    """Returns the part of the images that are classified correctly."""
    return jnp.mean(model(x).argmax(-1) == y)


def train(model, tx, data, test, steps, every=20):
    """Trains in place; returns the accuracies and the bytes of the optimizer's state."""
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    history = [(0, float(accuracy(model, *test)))]
    with compile_step(train_step, model, optimizer) as step:
        for i in range(steps):
            rows = np.random.default_rng(i).integers(len(data[0]), size=BATCH)
            step(data[0][rows], data[1][rows])
            if (i + 1) % every == 0:
                step.sync()
                history.append((i + 1, float(accuracy(model, *test))))
    return history, sum(leaf.nbytes for leaf in jax.tree.leaves(optimizer.opt_state))


def load_data():
    """Returns upright and rotated digits: (training, test) of each."""
    digits = load_digits()
    images, labels = digits.images.astype(np.float32) / 16, digits.target
    held_out = np.arange(len(images)) % 5 == 0

    def split(x):
        x = x.reshape(-1, 64)
        return (x[~held_out], labels[~held_out]), (x[held_out], labels[held_out])

    return split(images), split(np.rot90(images, axes=(1, 2)).copy())


def plot(curves, path):
    """Plots the accuracies."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, (history, size) in curves.items():
        axis.plot(*zip(*history, strict=True), label=f"{name}: {size / 1024:.0f} KiB of state")
    axis.set(xlabel="step on rotated digits", ylabel="held-out accuracy", ylim=(0, 1))
    axis.legend(loc="lower right")
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains the base, adapts it in two ways, prints and plots the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--plot", default="lora.png")
    arguments = parser.parse_args()
    upright, rotated = load_data()
    base, factors = r"base/", r"/[ab]$"
    model = make_model()
    train(model, freeze(model, factors, adamw(3e-3)), *upright, arguments.steps)
    print(f"upright {accuracy(model, *upright[1]):.1%}, rotated {accuracy(model, *rotated[1]):.1%}")
    curves = {}
    for name, frozen in {"LoRA, rank 4": base, "all parameters": factors}.items():
        adapted = nnx.clone(model)
        tx = freeze(adapted, frozen, adamw(3e-3))
        curves[name] = train(adapted, tx, *rotated, arguments.steps)
        history, size = curves[name]
        print(f"{name:16} rotated {history[-1][1]:.1%}, {size / 1024:.0f} KiB of state")
    plot(curves, arguments.plot)


if __name__ == "__main__":
    main()
