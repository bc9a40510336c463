"""Trains a variational autoencoder with binary latent variables on digits by five gradient estimators.

    python examples/discrete_latents.py [--steps 1500] [--plot discrete_latents.png] [--methods DisARM ...]

x: 8 × 8 binary pixels.  z: 24 Bernoulli variables.  p(z) = ½ each; p(x | z; θ) and q(z | x; φ) are
small networks. Each estimator evaluates the networks about four times per step and image. Prints the
evidence lower bound and the variance of the encoder's gradient, and plots both over training.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases import adam
from optx_core import apply_updates, scale
from optx_estimators import (
    Bernoulli,
    disarm,
    ema_baseline,
    leave_one_out,
    rebar,
    reinmax,
    score_function,
    value_and_grad,
)

LATENTS, HIDDEN, BATCH, EVERY = 24, 64, 64, 100


def digits():
    """Returns the training images as rows of 64 bits."""
    from sklearn.datasets import load_digits

    return jnp.asarray(load_digits().data > 7, jnp.float32)


def layer(key, inputs, outputs):
    """Initializes a linear layer."""
    w = jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs)
    return {"w": w, "b": jnp.zeros(outputs)}


def init(key):
    """Initializes both networks."""
    keys = jax.random.split(key, 4)
    return {
        "encoder": [layer(keys[0], 64, HIDDEN), layer(keys[1], HIDDEN, LATENTS)],
        "decoder": [layer(keys[2], LATENTS, HIDDEN), layer(keys[3], HIDDEN, 64)],
    }


def network(layers, x):
    """Applies linear layers with tanh between them."""
    for i, p in enumerate(layers):
        x = jnp.tanh(x) if i else x
        x = jnp.dot(x, p["w"]) + p["b"]
    return x


def problem(x):
    """Returns the cost, −(log p(x | z)p(z) − log q(z | x)), and the guide, for one image."""

    def guide(params):
        return Bernoulli(network(params["encoder"], x))

    def cost(z, params):
        likelihood = Bernoulli(network(params["decoder"], 2 * z - 1)).log_prob(x)
        prior = Bernoulli(jnp.zeros(LATENTS)).log_prob(z)
        return guide(params).log_prob(z) - prior - likelihood

    return cost, guide


# name: the method, and the number of noise rows for four evaluations (six for rebar, three per row)
METHODS = {
    "score function, running mean": (score_function(ema_baseline(0.9)), 4),
    "leave-one-out": (score_function(leave_one_out()), 4),
    "DisARM": (disarm(), 2),
    "REBAR, trained": (rebar(0.5, optimizer=scale(-1e-4)), 2),
    "ReinMax (biased)": (reinmax(), 4),
}


def gradient_of(method, samples):
    """Returns (params, images, key, state) -> ((loss, gradient), state), averaged over the images."""

    def one(params, x, key, state):
        cost, guide = problem(x)
        fn = value_and_grad(cost, guide, method=method, num_samples=samples, with_params=True)
        return fn(params, key, state)

    def batch(params, images, key, state):
        keys = jax.random.split(key, len(images))
        out, states = jax.vmap(one, in_axes=(None, 0, 0, None))(params, images, keys, state)
        out = jax.tree.map(lambda a: jnp.mean(a, axis=0), out)
        return out, jax.tree.map(_merge, states, state)

    return batch


def _merge(new, old):
    """Averages the states of the images; counts are equal in all."""
    return jnp.mean(new, axis=0) if jnp.issubdtype(old.dtype, jnp.floating) else new[0]


def train(method, samples, images, steps):
    """Returns the ELBO of the batch and the variance of the encoder's gradient every `EVERY` steps."""
    gradient = gradient_of(method, samples)
    tx = adam(3e-3)
    params = init(jax.random.key(0))
    state, tx_state = method.init(params), tx.init(params)

    def step(carry, key):
        params, tx_state, state = carry
        key_batch, key_noise = jax.random.split(key)
        rows = jax.random.choice(key_batch, len(images), (BATCH,), replace=False)
        (loss, grads), state = gradient(params, images[rows], key_noise, state)
        updates, tx_state = tx.update(grads, tx_state, params)
        return (apply_updates(params, updates), tx_state, state), -loss

    @jax.jit
    def epoch(carry, keys):
        return jax.lax.scan(step, carry, keys)

    @jax.jit
    def variance(params, state, key):
        def grad(key):
            grads = gradient(params, images[:BATCH], key, state)[0][1]
            return jnp.concatenate([g.reshape(-1) for g in jax.tree.leaves(grads["encoder"])])

        return jnp.sum(jnp.var(jax.lax.map(grad, jax.random.split(key, 50)), axis=0, ddof=1))

    carry, history = (params, tx_state, state), []
    key = jax.random.key(1)
    for i in range(max(1, steps // EVERY)):
        key, key_epoch, key_variance = jax.random.split(key, 3)
        carry, bounds = epoch(carry, jax.random.split(key_epoch, EVERY))
        spread = variance(carry[0], carry[2], key_variance)
        history.append(((i + 1) * EVERY, float(jnp.mean(bounds)), float(spread)))
    return history


def plot(histories, path):
    """Plots both curves of every method in one figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (bound, spread) = plt.subplots(1, 2, figsize=(11, 4))
    for name, history in histories.items():
        steps, bounds, variances = zip(*history, strict=True)
        bound.plot(steps, bounds, label=name)
        spread.semilogy(steps, variances, label=name)
    bound.set(xlabel="step", ylabel="ELBO, nats per image")
    spread.set(xlabel="step", ylabel="variance of the encoder's gradient")
    bound.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains with each method, prints and plots the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--plot", default="discrete_latents.png")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    arguments = parser.parse_args()
    images, histories = digits(), {}
    print(f"{'method':32}{'ELBO':>10}{'variance':>14}")
    for name in arguments.methods:
        method, samples = METHODS[name]
        histories[name] = train(method, samples, images, arguments.steps)
        _, bound, variance = histories[name][-1]
        print(f"{name:32}{bound:10.3f}{variance:14.4g}")
    plot(histories, arguments.plot)
    print(f"plot saved to {arguments.plot}")


if __name__ == "__main__":
    main()
