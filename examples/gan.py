"""Trains a generative adversarial network on a ring of Gaussians: two models, two optimizers.

    python examples/gan.py [--steps 6000] [--plot gan.png]

The discriminator's gradient is regularized at the data (R1; Mescheder, Geiger, Nowozin, 2018). The
generator is averaged over its last steps with `with_ema`, which keeps the average in the optimizer's
state.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

from optx_aliases import adam
from optx_core import apply_updates, eval_params, with_ema
from optx_losses import sigmoid_binary_cross_entropy

NOISE, HIDDEN, BATCH, MODES = 8, 64, 128, 8


def init(key, sizes):
    """Returns the layers of a network."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (a, b)) * np.sqrt(2 / a), "b": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def network(layers, x):
    """Applies linear layers with leaky ReLUs between them."""
    for i, p in enumerate(layers):
        x = jax.nn.leaky_relu(x, 0.2) if i else x
        x = x @ p["w"] + p["b"]
    return x


def real(key):
    """Returns points of the ring."""
    key_mode, key_noise = jax.random.split(key)
    angle = 2 * jnp.pi * jax.random.randint(key_mode, (BATCH,), 0, MODES) / MODES
    center = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return center + 0.05 * jax.random.normal(key_noise, (BATCH, 2))


def discriminator_loss(discriminator, x, fake):
    """Cross entropy of real and generated points, with the penalty R1."""
    score = network(discriminator, x)[:, 0]
    slope = jax.vmap(jax.grad(lambda x: network(discriminator, x)[0]))(x)
    right = sigmoid_binary_cross_entropy(score, jnp.ones(BATCH))
    wrong = sigmoid_binary_cross_entropy(network(discriminator, fake)[:, 0], jnp.zeros(BATCH))
    return jnp.mean(right + wrong + 0.1 * jnp.sum(slope**2, axis=1))


def generator_loss(generator, discriminator, z):
    """The loss that does not saturate."""
    score = network(discriminator, network(generator, z))[:, 0]
    return jnp.mean(sigmoid_binary_cross_entropy(score, jnp.ones(BATCH)))


def train(steps):
    """Returns the averaged generator and both losses of each step."""
    keys = jax.random.split(jax.random.key(0), 3)
    generator = init(keys[0], (NOISE, HIDDEN, HIDDEN, 2))
    discriminator = init(keys[1], (2, HIDDEN, HIDDEN, 1))
    tx_generator = with_ema(adam(1e-3, b1=0.5), 0.995)
    tx_discriminator = adam(2e-3, b1=0.5)

    def step(carry, key):
        generator, discriminator, state_g, state_d = carry
        key_real, key_z = jax.random.split(key)
        z, x = jax.random.normal(key_z, (BATCH, NOISE)), real(key_real)
        loss_d, grads = jax.value_and_grad(discriminator_loss)(
            discriminator, x, network(generator, z)
        )
        updates, state_d = tx_discriminator.update(grads, state_d, discriminator)
        discriminator = apply_updates(discriminator, updates)
        loss_g, grads = jax.value_and_grad(generator_loss)(generator, discriminator, z)
        updates, state_g = tx_generator.update(grads, state_g, generator)
        generator = apply_updates(generator, updates)
        return (generator, discriminator, state_g, state_d), (loss_g, loss_d)

    carry = (
        generator,
        discriminator,
        tx_generator.init(generator),
        tx_discriminator.init(discriminator),
    )
    (_, _, state, _), losses = jax.jit(lambda c, k: jax.lax.scan(step, c, k))(
        carry, jax.random.split(keys[2], steps)
    )
    return eval_params(state), losses


def plot(points, losses, path):
    """Plots generated and real points, and the losses."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(*real(jax.random.key(1)).T, ".", label="data", alpha=0.5)
    left.plot(*points.T, ".", markersize=3, label="generated", alpha=0.5)
    left.set_aspect("equal")
    left.legend(loc="center")
    for name, loss in zip(("generator", "discriminator"), losses, strict=True):
        right.plot(np.convolve(loss, np.ones(50) / 50, "valid"), label=name)
    right.set(xlabel="step", ylabel="loss, mean of 50")
    right.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains, counts the modes that are hit, and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--plot", default="gan.png")
    arguments = parser.parse_args()
    generator, losses = train(arguments.steps)
    points = np.asarray(network(generator, jax.random.normal(jax.random.key(2), (500, NOISE))))
    angle = np.arange(MODES) * 2 * np.pi / MODES
    distance = np.linalg.norm(
        points[:, None] - np.stack([np.cos(angle), np.sin(angle)], 1), axis=-1
    )
    near = distance.min(1) < 0.2
    modes = len(set(distance.argmin(1)[near]))
    print(f"{near.mean():.0%} of the points lie near a mode; {modes} of {MODES} modes are hit")
    plot(points, losses, arguments.plot)


if __name__ == "__main__":
    main()
