"""Trains a small language model on Python's documentation: matrices of a fixed norm against tuned AdamW.

    hatch run python examples/language_model.py                 # about two minutes on two cores
    hatch run python examples/language_model.py --steps 200 --out out

The text, half a million characters, is the standard library's `pydoc_data.topics`; the last tenth is held
out. The model is a transformer of Flax NNX that predicts the next character. Three runs start from the same
parameters and see the same batches:

- AdamW with a warm-up and a cosine decay, at the best of the learning rates and decays that were tried;
- Muon, and Adam for embedding and head, all at a fixed norm (`hyperball`): warm-up, stable, decay (WSD);
- the same at a constant learning rate, evaluated as it is and at the average of its tail, which takes the
  place of the decay.

Prints a table, and draws the losses.
"""

from __future__ import annotations

import argparse
import pathlib
import pydoc_data.topics
import time
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from flax import nnx
from optx_aliases import adam, adamw, hyperball, muon
from optx_core import chain, clip_by_global_norm, partition, with_ema
from optx_flax import compile_step, eval_params, label_params
from optx_losses import softmax_cross_entropy_with_integer_labels
from optx_schedules import (
    tail_average_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_stable_decay_schedule,
)

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 64, 4, 2, 64, 32


class Block(nnx.Module):
    """Causal attention and a network of two layers, on a residual stream of shape (batch, time, width)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.query, self.key, self.value, self.out = (
            nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs) for _ in range(4)
        )
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, use_bias=False, rngs=rngs)
        self.norms = nnx.List([nnx.RMSNorm(WIDTH, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.norms[0](x)
        q, k, v = (
            project(h).reshape(*h.shape[:2], HEADS, -1)
            for project in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.reshape(h.shape))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class LanguageModel(nnx.Module):
    """Characters of shape (batch, time) to logits of shape (batch, time, characters)."""

    def __init__(self, characters: int, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(characters, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, characters, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.embed(x) + self.positions(jnp.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def optimizers(model: LanguageModel, steps: int) -> dict[str, Any]:
    """Returns the optimizers to compare, by name."""
    warmup, decay = max(steps // 10, 1), max(3 * steps // 10, 1)
    groups = label_params(
        model, {r"embed|positions|head": "tables", r"kernel": "hidden"}, default="vectors"
    )

    def turned(rate: Any) -> Any:
        matrices = {
            "hidden": hyperball(muon(1.0), rate(0.04)),
            "tables": hyperball(adam(1.0, b2=0.98), rate(0.02), matrices=True),
            "vectors": adam(rate(5e-3), b2=0.98),
        }
        return partition(matrices, groups)

    def stable_decay(peak: float) -> Any:
        return warmup_stable_decay_schedule(0.0, peak, warmup, steps - warmup - decay, decay)

    def constant(peak: float) -> Any:
        return warmup_constant_schedule(0.0, peak, warmup)

    cosine = warmup_cosine_decay_schedule(0.0, 1e-2, warmup, steps)
    return {
        "AdamW, cosine": chain(clip_by_global_norm(1.0), adamw(cosine, b2=0.98, weight_decay=0.1)),
        "Muon, fixed norms, WSD": turned(stable_decay),
        "Muon, fixed norms, tail averaged": with_ema(
            turned(constant), tail_average_schedule(steps - decay)
        ),
    }


def text() -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the characters as integers, for training and held out, and how many there are."""
    topics = pydoc_data.topics.topics
    whole = "\n".join(f"{name}\n{topics[name]}" for name in sorted(topics))
    characters, codes = np.unique(list(whole), return_inverse=True)
    codes = codes.astype(np.int32)
    cut = 9 * len(codes) // 10
    return codes[:cut], codes[cut:], len(characters)


def windows(codes: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns random stretches of the text, with the character that follows: (count, CONTEXT + 1)."""
    starts = rng.integers(len(codes) - CONTEXT, size=count)
    return codes[starts[:, None] + np.arange(CONTEXT + 1)]


def loss_fn(model: LanguageModel, batch: jax.Array) -> jax.Array:
    """Returns the mean cross entropy of the next character, in nats."""
    logits = model(batch[:, :-1])
    return softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def train_step(model: LanguageModel, optimizer: nnx.Optimizer, batch: jax.Array) -> jax.Array:
    """Runs one step; returns the loss."""
    loss, grads = nnx.value_and_grad(loss_fn)(model, batch)
    optimizer.update(model, grads)
    return loss


def average_of(model: LanguageModel, optimizer: nnx.Optimizer) -> LanguageModel:
    """Returns a copy of the model with the averaged parameters."""
    copy = nnx.clone(model)
    nnx.update(copy, eval_params(model, optimizer))
    return copy


def train(
    name: str, steps: int, seed: int, data: tuple[np.ndarray, np.ndarray, int]
) -> dict[str, list[tuple[int, float]]]:
    """Trains one model; returns held-out losses by step: of the model, and of its average if there is one."""
    training, held_out, characters = data
    model = LanguageModel(characters, nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optimizers(model, steps)[name], wrt=nnx.Param)
    test = windows(held_out, np.random.default_rng(0), 4 * BATCH)
    evaluate = nnx.jit(loss_fn)
    averages = "averaged" in name
    losses: dict[str, list[tuple[int, float]]] = {name: []}
    if averages:
        losses = {"Muon, fixed norms, constant": [], name: []}
    plain, every = next(iter(losses)), max(steps // 10, 1)
    with compile_step(train_step, model, optimizer) as compiled:
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                compiled.sync()  # writes the values back to the model and the optimizer
                losses[plain].append((step, float(evaluate(model, test))))
                if averages:
                    average = average_of(model, optimizer)
                    losses[name].append((step, float(evaluate(average, test))))
            if step < steps:
                compiled(windows(training, np.random.default_rng((seed, step)), BATCH))
    return losses


def plot(losses: dict[str, list[tuple[int, float]]], path: pathlib.Path) -> None:
    """Plots the held-out losses."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, points in losses.items():
        axis.plot(*zip(*points, strict=True), label=name)
    axis.set(xlabel="step", ylabel="held-out loss, nats per character", ylim=(None, 3.0))
    axis.grid(alpha=0.3)
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains, prints a table and saves the plot; returns the last held-out losses by name."""
    parser = argparse.ArgumentParser(description="Train a small language model with optx.")
    parser.add_argument("--steps", type=int, default=300, help="steps of 2,048 characters each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the model and of the batches")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder for the plot"
    )
    args = parser.parse_args(argv)
    if args.steps < 10:
        parser.error(f"--steps must be at least 10, not {args.steps}")
    mpl.use("Agg")
    data = text()
    table = Table("optimizer", title=f"held-out loss, {args.steps} steps, nats per character")
    for column in ("half way", "last", "seconds"):
        table.add_column(column, justify="right")
    losses: dict[str, list[tuple[int, float]]] = {}
    model = LanguageModel(data[2], nnx.Rngs(args.seed))
    for name in optimizers(model, args.steps):
        start = time.perf_counter()
        for label, points in train(name, args.steps, args.seed, data).items():
            losses[label] = points
            half, last = points[len(points) // 2][1], points[-1][1]
            seconds = time.perf_counter() - start
            table.add_row(label, f"{half:.4f}", f"{last:.4f}", f"{seconds:.0f}")
    console = Console()
    console.print(table)
    picture = args.out / "language_model.svg"
    plot(losses, picture)
    console.print(f"plot in {picture}")
    return {name: points[-1][1] for name, points in losses.items()}


if __name__ == "__main__":
    main()
