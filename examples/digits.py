"""Trains a small convolutional classifier on handwritten digits: a template for training scripts.

    hatch run demo                                    # about 30 seconds on two cores
    hatch run demo --optimizer sgd --learning-rate 0.1 --steps 500
    hatch run demo --checkpoint /tmp/digits           # a second run resumes the first

The 1,797 images of 8 by 8 pixels come with scikit-learn. One fifth of each class is held out.
"""

from __future__ import annotations

import argparse
import inspect
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import orbax.checkpoint as ocp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import optx_aliases
from flax import nnx
from optx_core import (
    GradientTransformation,
    chain,
    clip_by_global_norm,
    global_norm,
    monitor,
    partition,
)
from optx_flax import abstract_state, compile_step, label_params, metrics, restore_into
from optx_losses import softmax_cross_entropy_with_integer_labels
from optx_schedules import Schedule, warmup_cosine_decay_schedule

BATCH_SIZE = 64
WEIGHT_DECAY = 1e-2
EXCLUDED = ("dpsgd", "lbfgs", "sophia")  # need per-example gradients, a line search, the curvature
LABELS = {r"kernel$": "kernels", r"bias$": "biases"}


class Classifier(nnx.Module):
    """Two convolutions and a linear layer: (batch, 8, 8, 1) images to (batch, 10) logits."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.linear = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.conv1(images))
        x = nnx.relu(self.conv2(x))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.linear(x.reshape(x.shape[0], -1))


def make_optimizer(name: str, model: Classifier, learning_rate: Schedule) -> GradientTransformation:
    """Clips all gradients; updates kernels by the named optimizer with weight decay, biases by Adam."""
    make = optimizers()[name]
    decays = "weight_decay" in inspect.signature(make).parameters
    groups = {
        "kernels": make(learning_rate, **({"weight_decay": WEIGHT_DECAY} if decays else {})),
        "biases": optx_aliases.adam(1e-3),
    }
    monitored = {
        label: chain(tx, monitor({f"norm of {label}": global_norm})) for label, tx in groups.items()
    }
    return chain(clip_by_global_norm(1.0), partition(monitored, label_params(model, LABELS)))


def optimizers() -> dict[str, Any]:
    """Returns the optimizers that need only a learning rate, by name."""
    names = (name for name in optx_aliases.__all__ if not name.startswith("scale_by_"))
    functions = {name: getattr(optx_aliases, name) for name in names}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function)
        and next(iter(inspect.signature(function).parameters), None) == "learning_rate"
        and name not in EXCLUDED
    }


def train_step(
    model: Classifier, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """Runs one step; returns the loss, the accuracy and the norm of each group's update."""

    def loss_fn(model: Classifier) -> tuple[jax.Array, jax.Array]:
        logits = model(images)
        return softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model)
    optimizer.update(model, grads, value=loss)  # some optimizers (momo) use the loss
    measured = metrics(optimizer)
    norms = {label: measured[f"norm of {label}"] for label in LABELS.values()}
    return {"loss": loss, "accuracy": jnp.mean(logits.argmax(-1) == labels), **norms}


@nnx.jit
def accuracy(model: Classifier, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the fraction of images that are classified correctly."""
    return jnp.mean(model(images).argmax(-1) == labels)


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns images in [0, 1] of shape (n, 8, 8, 1) and labels: for training, then held out."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., None]
    labels = digits.target.astype(np.int32)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return train, train_labels, test, test_labels


def train(args: argparse.Namespace, console: Console) -> tuple[Classifier, Schedule, list[dict]]:
    """Trains for `args.steps` steps, from the last checkpoint if there is one."""
    images, labels, test_images, test_labels = load_data()
    model = Classifier(nnx.Rngs(args.seed))
    schedule = warmup_cosine_decay_schedule(
        init_value=args.learning_rate / 100,
        peak_value=args.learning_rate,
        warmup_steps=args.steps // 10,
        decay_steps=args.steps,
    )
    optimizer = nnx.Optimizer(model, make_optimizer(args.optimizer, model, schedule), wrt=nnx.Param)
    console.print(f"[bold]optimizer[/bold] {optimizer.tx!r}", highlight=False, soft_wrap=True)

    history: list[dict[str, float]] = []
    manager = None
    if args.checkpoint is not None:
        manager = ocp.CheckpointManager(
            pathlib.Path(args.checkpoint).absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True),
        )
        history = restore(manager, model, optimizer, vars(args), console)

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  held out {task.fields[held_out]:.1%}"),
        TimeRemainingColumn(),
    )
    every = max(args.steps // 20, 1)
    with (
        Progress(*columns, console=console) as progress,
        compile_step(train_step, model, optimizer) as compiled_step,
    ):
        last = history[-1] if history else {"loss": float("nan"), "held_out": 0.0}
        task = progress.add_task("train", total=args.steps, completed=len(history), **last)
        for step in range(len(history), args.steps):
            batch = np.random.default_rng((args.seed, step)).integers(len(labels), size=BATCH_SIZE)
            results = compiled_step(images[batch], labels[batch])
            row = {name: float(value) for name, value in results.items()}
            row["learning_rate"] = float(schedule(step))
            evaluate = step % every == 0 or step + 1 == args.steps
            row["held_out"] = last["held_out"]
            if evaluate:
                compiled_step.sync()  # writes the values back to the model and the optimizer
                row["held_out"] = float(accuracy(model, test_images, test_labels))
            history.append(row)
            last = row
            progress.update(task, advance=1, loss=row["loss"], held_out=row["held_out"])
            if manager is not None and evaluate:
                save(manager, model, optimizer, vars(args), history)
    if manager is not None:
        manager.close()
    return model, schedule, history


def save(
    manager: ocp.CheckpointManager,
    model: Classifier,
    optimizer: nnx.Optimizer,
    settings: dict[str, Any],
    history: list[dict[str, float]],
) -> None:
    """Saves the model, the optimizer and the history."""
    manager.save(
        len(history),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(nnx.to_pure_dict(nnx.state((model, optimizer)))),
            log=ocp.args.JsonSave({"history": history, "settings": resumable(settings)}),
        ),
    )


def restore(
    manager: ocp.CheckpointManager,
    model: Classifier,
    optimizer: nnx.Optimizer,
    settings: dict[str, Any],
    console: Console,
) -> list[dict[str, float]]:
    """Restores the model and the optimizer from the last checkpoint, if any; returns the history."""
    step = manager.latest_step()
    if step is None:
        return []
    log = manager.restore(step, args=ocp.args.Composite(log=ocp.args.JsonRestore()))["log"]
    if log["settings"] != resumable(settings):
        console.print(
            f"[red]The checkpoint was saved with {json.dumps(log['settings'])}, not with "
            f"{json.dumps(resumable(settings))}.[/red] Use the same options, or another folder."
        )
        raise SystemExit(2)
    target = ocp.args.StandardRestore(nnx.to_pure_dict(abstract_state(model, optimizer)))
    restored = manager.restore(step, args=ocp.args.Composite(state=target))["state"]
    restore_into((model, optimizer), restored)
    console.print(f"resumed at step {step}")
    return log["history"]


def resumable(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that must be equal in a resumed run."""
    return {name: settings[name] for name in ("optimizer", "learning_rate", "steps", "seed")}


def plot(history: list[dict[str, float]], path: pathlib.Path, title: str) -> None:
    """Plots the loss, the accuracy, the learning rate and the norms of the updates."""
    steps = np.arange(1, len(history) + 1)
    column = {name: np.array([row[name] for row in history]) for name in history[0]}
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5), sharex=True, layout="constrained")
    figure.suptitle(title)
    (loss, acc), (rate, norms) = axes
    loss.semilogy(steps, column["loss"], linewidth=0.8)
    loss.set_ylabel("training loss")
    acc.plot(steps, column["accuracy"], linewidth=0.5, alpha=0.5, label="training batch")
    acc.plot(steps, column["held_out"], label="held out", drawstyle="steps-post")
    acc.set(ylabel="accuracy", ylim=(0, 1.02))
    acc.legend(loc="lower right")
    rate.plot(steps, column["learning_rate"])
    rate.set(ylabel="learning rate", xlabel="step")
    for group in LABELS.values():
        norms.semilogy(steps, np.maximum(column[group], 1e-12), linewidth=0.8, label=group)
    norms.set(ylabel="norm of the update", xlabel="step", ylim=(1e-6, None))
    norms.legend()
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options."""
    parser = argparse.ArgumentParser(
        prog="hatch run demo",
        description="Train a small Flax NNX classifier on handwritten digits with optx.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--optimizer", default="adamw", metavar="NAME",
        help=f"for the kernels, one of: {', '.join(sorted(optimizers()))}",
    )  # fmt: skip
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--steps", type=int, default=800, help="steps of 64 images each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the model and of the batches")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder for the plot"
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR",
        help="folder to save to, and to resume from: a resumed run is bit-equal to an "
        "uninterrupted one",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.optimizer not in optimizers():
        parser.error(
            f"there is no optimizer {args.optimizer!r}; choose one of "
            f"{', '.join(sorted(optimizers()))}"
        )
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, not {args.steps}")
    return args


def main(argv: list[str] | None = None) -> float:
    """Trains, prints a table and saves the plot; returns the held-out accuracy."""
    args = parse(argv)
    mpl.use("Agg")
    console = Console()
    _model, _schedule, history = train(args, console)
    last = history[-1]
    table = Table(title=f"{args.optimizer}, {args.steps} steps of {BATCH_SIZE} images")
    table.add_column("")
    table.add_column("first", justify="right")
    table.add_column("last", justify="right")
    for name, text in {
        "loss": "training loss",
        "accuracy": "training accuracy",
        "held_out": "held-out accuracy",
        "learning_rate": "learning rate",
        "kernels": "norm of the kernels' update",
        "biases": "norm of the biases' update",
    }.items():
        table.add_row(text, f"{history[0][name]:.4g}", f"{last[name]:.4g}")
    console.print(table)
    picture = args.out / f"digits-{args.optimizer}.png"
    plot(history, picture, f"digits with {args.optimizer}: {last['held_out']:.1%} held out")
    console.print(f"held-out accuracy [bold]{last['held_out']:.2%}[/bold], plot in {picture}")
    return last["held_out"]


if __name__ == "__main__":
    main()
