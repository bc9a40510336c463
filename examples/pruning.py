"""Prunes a classifier of handwritten digits by the diagonal of its Hessian.

    python examples/pruning.py [--plot pruning.png]

The saliency of a weight is w²·h / 2, h its entry of the diagonal (optimal brain damage; LeCun, Denker,
Solla, 1990): of the exact Hessian, and of the Gauss-Newton matrix. Compared with pruning the smallest
weights, and weights at random. Nothing is trained again.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits

from optx_aliases import adamw
from optx_core import apply_updates
from optx_second_order import categorical, exact_hessian_diag, ggn_diag

PARTS = np.arange(0.0, 0.96, 0.05)


def model(params, x):
    """Returns the logits."""
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"]


def loss(params, x, y):
    """Returns the loss of one image."""
    return categorical().nll(model(params, x), y)


def fit(params, x, y, steps=400):
    """Returns trained parameters."""
    tx = adamw(3e-3, weight_decay=0.01)

    def mean_loss(params, rows):
        return jnp.mean(jax.vmap(lambda x, y: loss(params, x, y))(x[rows], y[rows]))

    def step(carry, key):
        params, state = carry
        rows = jax.random.choice(key, len(x), (128,))
        updates, state = tx.update(jax.grad(mean_loss)(params, rows), state, params)
        return (apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]


@jax.jit
def accuracies(params, saliency, x, y):
    """Returns the accuracy after removing each part of the weights, those of least saliency first."""
    flat = jnp.concatenate([saliency[name].ravel() for name in ("w1", "w2")])

    def accuracy(part):
        threshold = jnp.quantile(flat, part)
        kept = {n: jnp.where(saliency[n] >= threshold, params[n], 0.0) for n in ("w1", "w2")}
        return jnp.mean(model({**params, **kept}, x).argmax(-1) == y)

    return jax.lax.map(accuracy, jnp.asarray(PARTS))


def plot(curves, path):
    """Plots the accuracies."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, values in curves.items():
        axis.plot(PARTS, values, label=name)
    axis.set(xlabel="part of the weights that are removed", ylabel="held-out accuracy")
    axis.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains, prunes by each criterion, prints and plots the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="pruning.png")
    arguments = parser.parse_args()
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    held_out = np.arange(len(x)) % 5 == 0
    keys = jax.random.split(jax.random.key(0), 3)
    start = {
        "w1": jax.random.normal(keys[0], (64, 48)) / 8,
        "b1": jnp.zeros(48),
        "w2": jax.random.normal(keys[1], (48, 10)) / 7,
    }
    train = x[~held_out], y[~held_out]
    params = jax.jit(fit)(start, *train)
    hessian = jax.jit(lambda p: exact_hessian_diag(loss, p, *train))(params)
    gauss_newton = jax.jit(lambda p: ggn_diag(model, categorical(), p, *train))(params)
    weights = {name: params[name] for name in ("w1", "w2")}
    criteria = {
        "w²·Hessian": {n: w**2 * hessian[n] for n, w in weights.items()},
        "w²·Gauss-Newton": {n: w**2 * gauss_newton[n] for n, w in weights.items()},
        "size": {n: jnp.abs(w) for n, w in weights.items()},
        "at random": {n: jax.random.uniform(keys[2], w.shape) for n, w in weights.items()},
    }
    curves = {}
    for name, saliency in criteria.items():
        curves[name] = accuracies(params, saliency, x[held_out], y[held_out])
        shown = ", ".join(f"{PARTS[i]:.0%}: {curves[name][i]:.1%}" for i in (0, 8, 12, 16))
        print(f"{name:16} {shown}")
    plot(curves, arguments.plot)


if __name__ == "__main__":
    main()
