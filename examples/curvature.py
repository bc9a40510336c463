"""Measures the curvature of a classifier of handwritten digits during training.

Prints, and plots to `curvature.png` if matplotlib is installed, the mean of four diagonals for each
layer: the exact Hessian, an estimate of it with error bars, the Gauss-Newton matrix and the empirical
Fisher.

    python examples/curvature.py
"""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

from optx_second_order import (
    categorical,
    empirical_fisher_diag,
    exact_hessian_diag,
    explain,
    ggn_diag,
    hessian_diag_estimate,
)

STEPS, EVERY = 200, 20
LAYERS = ("first", "second", "third")


def model(params, x):
    """Returns the logits of one image."""
    x = jnp.tanh(x @ params["first"]["w"] + params["first"]["b"])
    x = jnp.tanh(x @ params["second"]["w"] + params["second"]["b"])
    return x @ params["third"]["w"] + params["third"]["b"]


def loss(params, x, y):
    """Returns the loss of one image."""
    return categorical().nll(model(params, x), y)


def mean_loss(params, x, y):
    """Returns the mean loss of a batch."""
    return jnp.mean(jax.vmap(lambda x, y: loss(params, x, y))(x, y))


def initial(key):
    """Returns random parameters."""
    shapes = {"first": (64, 48), "second": (48, 48), "third": (48, 10)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: {"w": jax.random.normal(k, shape) / shape[0] ** 0.5, "b": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def layer_means(diagonal):
    """Returns the mean of a diagonal over the weights of each layer."""
    return jnp.stack([jnp.mean(diagonal[name]["w"]) for name in LAYERS])


@jax.jit
def measure(params, x, y, key):
    """Returns the mean of each diagonal, by layer."""

    # the mean over a layer is estimated from eight probes, each of all layers at once
    def one(k):
        return layer_means(hessian_diag_estimate(loss, params, x, y, key=k).value)

    probes = jax.vmap(one)(jax.random.split(key, 8))
    return {
        "exact Hessian": layer_means(exact_hessian_diag(loss, params, x, y)),
        "estimate": probes.mean(0),
        "error": probes.std(0, ddof=1) / 8**0.5,
        "Gauss-Newton": layer_means(ggn_diag(model, categorical(), params, x)),
        "empirical Fisher": layer_means(empirical_fisher_diag(loss, params, x, y)),
    }


def main():
    """Trains, measures and plots."""
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16, jnp.float32)[:512], jnp.asarray(digits.target)[:512]
    params = initial(jax.random.key(0))
    print(explain(loss, params, x, y))
    step = jax.jit(
        lambda p: jax.tree.map(lambda a, g: a - 0.5 * g, p, jax.grad(mean_loss)(p, x, y))
    )
    history = []
    for t in range(STEPS + 1):
        if t % EVERY == 0:
            means = measure(params, x, y, jax.random.key(t))
            history.append((t, means))
            print(f"step {t:3}  loss {mean_loss(params, x, y):.3f}  mean Hessian diagonal by layer: "
                  + "  ".join(f"{h:.2e} ({e:.2e} ± {s:.0e})" for h, e, s in zip(
                      means["exact Hessian"], means["estimate"], means["error"], strict=True)))  # fmt: skip
        params = step(params)
    plot(history)


def plot(history):
    """Plots the history."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    steps = [t for t, _ in history]
    figure, axes = plt.subplots(1, len(LAYERS), figsize=(12, 3.5), constrained_layout=True)
    for i, axis in enumerate(axes):
        for name in ("exact Hessian", "Gauss-Newton", "empirical Fisher"):
            axis.plot(steps, [float(means[name][i]) for _, means in history], label=name)
        axis.errorbar(
            steps,
            [float(means["estimate"][i]) for _, means in history],
            [2 * float(means["error"][i]) for _, means in history],
            fmt=".",
            capsize=2,
            label="estimate, ± 2 standard errors",
        )
        axis.set(title=f"{LAYERS[i]} layer", xlabel="step", ylabel="mean of the diagonal")
    axes[0].legend(fontsize=7)
    figure.savefig("curvature.png", dpi=120)
    print("plot saved to curvature.png")


if __name__ == "__main__":
    main()
