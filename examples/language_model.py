"""Trains a character-level transformer with Muon for its matrices, and with AdamW alone.

    python examples/language_model.py [--steps 150] [--plot language_model.png]

The text is the documentation of Python's statements, which comes with Python. Muon orthogonalizes the
momentum of the hidden matrices and leaves embeddings, head and gains to AdamW. Prints the loss in nats
per character.
"""

import argparse
import pydoc_data.topics

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

from flax import nnx
from optx_aliases import adamw, muon
from optx_core import chain, clip_by_global_norm
from optx_flax import compile_step
from optx_losses import next_token_labels, softmax_cross_entropy_with_integer_labels
from optx_schedules import warmup_stable_decay_schedule

WIDTH, HEADS, LAYERS, LENGTH, BATCH = 48, 4, 2, 32, 16


class Block(nnx.Module):
    """Causal attention and an MLP, each after a normalization."""

    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.RMSNorm(WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.query, self.key, self.value, self.out = (
            nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs) for _ in range(4)
        )
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, use_bias=False, rngs=rngs)

    def attention(self, x):
        """Kernels are plain matrices, (inputs, outputs), as Muon takes them; heads are split off here."""
        q, k, v = (
            layer(x).reshape(*x.shape[:2], HEADS, -1)
            for layer in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.reshape(x.shape))

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """(batch, length) characters to (batch, length, characters) logits."""

    def __init__(self, characters, rngs):
        self.embed = nnx.Embed(characters, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, characters, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def load_text():
    """Returns the characters as integers, and the alphabet."""
    text = "\n".join(pydoc_data.topics.topics.values())
    alphabet = sorted(set(text))
    code = {character: i for i, character in enumerate(alphabet)}
    return np.array([code[character] for character in text], np.int32), alphabet


def train_step(model, optimizer, tokens):
    """Runs one step; returns the mean loss."""

    def loss_fn(model):
        labels = next_token_labels(tokens)
        losses = softmax_cross_entropy_with_integer_labels(model(tokens), labels, ignore_index=-100)
        return losses.sum() / jnp.sum(labels >= 0)

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def train(make, text, characters, steps):
    """Returns the loss of each step."""
    schedule = warmup_stable_decay_schedule(0.0, 1.0, 10, steps // 2, steps - steps // 2 - 10)
    model = Transformer(characters, nnx.Rngs(0))
    tx = chain(clip_by_global_norm(1.0), make(schedule))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    losses = []
    with compile_step(train_step, model, optimizer) as step:
        for i in range(steps):
            starts = np.random.default_rng(i).integers(len(text) - LENGTH, size=BATCH)
            losses.append(step(text[starts[:, None] + np.arange(LENGTH)]))
    return np.array(jax.device_get(losses))


def optimizers():
    """Returns functions of a schedule, by name."""
    return {
        "AdamW": lambda schedule: adamw(3e-3 * schedule, weight_decay=0.01),
        "Muon and AdamW": lambda schedule: muon(
            0.02 * schedule, adam_learning_rate=3e-3 * schedule
        ),
    }


def plot(curves, path):
    """Plots the losses."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, losses in curves.items():
        axis.plot(losses, label=name)
    axis.set(xlabel="step", ylabel="loss, nats per character")
    axis.legend()
    figure.savefig(path)
    plt.close(figure)


def main():
    """Trains with each optimizer, prints and plots the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--plot", default="language_model.png")
    arguments = parser.parse_args()
    text, alphabet = load_text()
    print(f"{len(text):,} characters, {len(alphabet)} different ones")
    curves = {}
    for name, make in optimizers().items():
        curves[name] = train(make, text, len(alphabet), arguments.steps)
        print(f"{name:16} loss {curves[name][0]:.2f} → {curves[name][-10:].mean():.2f}")
    plot(curves, arguments.plot)


if __name__ == "__main__":
    main()
