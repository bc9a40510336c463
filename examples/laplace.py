"""Shows a classifier's uncertainty by a Laplace approximation, and learns two tasks with elastic weights.

    python examples/laplace.py [--plot laplace.png]

Left: the mean prediction of parameters drawn from N(p, 1/(G + prior)), G the Gauss-Newton diagonal over
the data (MacKay, 1992), is less certain far from the data. Right: after a task on one pair of moons, a
second one, turned by 130 degrees, with the penalty strength·Σ F·(p − p₁)² (EWC; Kirkpatrick et al.,
2017), F the Fisher diagonal of the first.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from sklearn.datasets import make_moons

from optx_aliases import adam
from optx_core import apply_updates, tree
from optx_second_order import bernoulli, ggn_diag, true_fisher_diag

PRIOR, STRENGTHS = 1.0, (0.0, 1.0, 10.0, 100.0, 1000.0)


def model(params, x):
    """Returns the logit of one point."""
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def mean_loss(params, x, y):
    """Returns the mean negative log-likelihood."""
    return jnp.mean(bernoulli().nll(model(params, x)[:, None], y[:, None]))


def fit(params, x, y, penalty, steps=600):
    """Returns trained parameters."""
    tx = adam(0.03)

    def step(carry, _):
        params, state = carry
        grads = jax.grad(lambda p: mean_loss(p, x, y) + penalty(p))(params)
        updates, state = tx.update(grads, state, params)
        return (apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=steps)[0][0]


def accuracy(params, x, y):
    """Returns the part of the points that are classified correctly."""
    return jnp.mean((model(params, x) > 0) == (y > 0.5))


def predictions(params, precision, points, key, samples=200):
    """Returns the mean probability of each point over sampled parameters."""

    def one(key):
        keys = jax.random.split(key, len(params))
        drawn = {
            name: p + jax.random.normal(k, p.shape) / jnp.sqrt(precision[name])
            for k, (name, p) in zip(keys, sorted(params.items()), strict=True)
        }
        return jax.nn.sigmoid(model(drawn, points))

    return jnp.mean(jax.vmap(one)(jax.random.split(key, samples)), axis=0)


def plot(x, y, grid, mean, curves, path):
    """Plots the probabilities, and the accuracies on both tasks."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    shown = left.contourf(*grid, mean, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.8)
    figure.colorbar(shown, ax=left, label="mean probability")
    left.scatter(*x.T, c=y, cmap="RdBu", s=8, edgecolors="black", linewidths=0.3)
    for name, values in curves.items():
        right.plot([str(s) for s in STRENGTHS], values, "o-", label=name)
    right.set(xlabel="strength of the penalty", ylabel="accuracy after the second task")
    right.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Fits, prints and plots both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="laplace.png")
    arguments = parser.parse_args()
    x, y = make_moons(200, noise=0.1, random_state=0)
    x, y = jnp.asarray(x - x.mean(0), jnp.float32), jnp.asarray(y, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    start = {
        "w": jax.random.normal(keys[0], (2, 24)),
        "b": jnp.zeros(24),
        "v": jax.random.normal(keys[1], (24,)) / 5,
    }
    decay = PRIOR / 2 / len(x)
    first = jax.jit(lambda p: fit(p, x, y, lambda p: decay * tree.norm(p, squared=True)))(start)

    def outputs(params, x):
        return model(params, x)[..., None]

    curvature = ggn_diag(outputs, bernoulli(), first, x, y[:, None], reduction="sum")
    precision = jax.tree.map(lambda g: g + PRIOR, curvature)
    axes = np.meshgrid(np.linspace(-4, 4, 60), np.linspace(-3, 3, 60))
    points = jnp.asarray(np.stack(axes, -1).reshape(-1, 2), jnp.float32)
    mean = predictions(first, precision, points, keys[2]).reshape(60, 60)
    for name, where in {"at the data": x, "on the whole plane": points}.items():
        one = jax.nn.sigmoid(model(first, where))
        many = predictions(first, precision, where, keys[2])
        sure = [float(jnp.mean(jnp.maximum(p, 1 - p) > 0.9)) for p in (one, many)]
        print(f"more than 90% sure {name}: {sure[0]:.0%} with one model, {sure[1]:.0%} with many")

    fisher = true_fisher_diag(outputs, bernoulli(), first, x)
    angle = np.deg2rad(130)
    turn = jnp.asarray(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], jnp.float32
    )
    x2 = x @ turn + jnp.array([3.0, 0.0])

    @jax.jit
    def second(strength):
        def penalty(p):
            moved = jax.tree.map(lambda f, a, b: jnp.sum(f * (a - b) ** 2), fisher, p, first)
            return strength * tree.sum(moved)

        p = fit(first, x2, y, penalty)
        return accuracy(p, x, y), accuracy(p, x2, y)

    results = np.array([second(strength) for strength in STRENGTHS])
    for strength, (old, new) in zip(STRENGTHS, results, strict=True):
        print(f"strength {strength:5}: first task {old:.0%}, second task {new:.0%}")
    curves = {"first task": results[:, 0], "second task": results[:, 1]}
    plot(x, y, axes, mean, curves, arguments.plot)


if __name__ == "__main__":
    main()
