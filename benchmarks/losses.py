"""Losses side by side with optax (and torch where it is installed): `python -m benchmarks.losses`.

`--tokens`, `--classes` and `--features` make the cross entropies smaller for a small machine; the
stated targets are for 4,096 × 50,000 × 512.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import optx_losses as L  # noqa: N812
from benchmarks._timing import alternate, temporaries


def compiled(loss, args, count=None):
    """Value and gradients of the mean, compiled; of the first `count` arguments, or of all floats."""
    given = args[:count]
    where = tuple(i for i, a in enumerate(given) if jnp.issubdtype(a.dtype, jnp.floating))

    def mean(*args):
        return jnp.mean(loss(*args))

    return jax.jit(jax.value_and_grad(mean, argnums=where)).lower(*args).compile()


def rows(title, candidates, args, rounds, count=None):
    """Rows of a table: time and temporaries of each candidate, × the first."""
    programs = {name: compiled(loss, args, count) for name, loss in candidates.items()}
    runs = {name: (lambda run=run: run(*args)) for name, run in programs.items()}
    seconds = alternate(runs, rounds=rounds, warmup=1)
    first, *_ = programs
    base = seconds[first], temporaries(programs[first])
    for name, program in programs.items():
        temps = temporaries(program)
        yield (
            title, name, f"{seconds[name]:.3f}", f"{seconds[name] / base[0]:.2f}",
            f"{temps / 2**20:.0f}", f"{temps / max(base[1], 1):.2f}",
        )  # fmt: skip


def cross_entropies(n, classes, features, rounds):
    """Integer labels on logits, and the last layer with its cross entropy."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(n, classes)), jnp.float32)
    y = jnp.asarray(rng.integers(0, classes, n), jnp.int32)
    size = f"{n} × {classes}"
    yield from rows(
        f"integer cross entropy, {size}",
        {
            "optax": optax.softmax_cross_entropy_with_integer_labels,
            "optx": L.softmax_cross_entropy_with_integer_labels,
        },
        (logits, y),
        rounds,
    )
    del logits
    f = jnp.asarray(rng.normal(size=(n, features)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(features, classes)) * 0.05, jnp.float32)
    yield from rows(
        f"last layer + cross entropy, {size} × {features}",
        {
            "plain": lambda f, w, y: optax.softmax_cross_entropy_with_integer_labels(f @ w, y),
            "optx": L.linear_softmax_cross_entropy,
            "optx, 256 rows": lambda f, w, y: L.linear_softmax_cross_entropy(
                f, w, y, chunk_size=256
            ),
            "optx, recompute=True, 128 rows": lambda f, w, y: L.linear_softmax_cross_entropy(
                f, w, y, chunk_size=128, recompute=True
            ),
        },
        (f, w, y),
        rounds,
    )


def last_layers(n, classes, features, rounds):
    """Log-probabilities for a policy loss, and distillation, of the last layer."""
    rng = np.random.default_rng(0)
    f, other = (jnp.asarray(rng.normal(size=(n, features)), jnp.float32) for _ in range(2))
    w, w_teacher = (
        jnp.asarray(rng.normal(size=(features, classes)) * 0.05, jnp.float32) for _ in range(2)
    )
    y = jnp.asarray(rng.integers(0, classes, n), jnp.int32)
    advantages = jnp.asarray(rng.normal(size=n), jnp.float32)
    size = f"{n} × {classes} × {features}"

    # All arrays are arguments: XLA would compute what depends on constants alone when it compiles.
    def policy(log_probs):
        return lambda f, w, y, advantages: L.ppo_loss(log_probs(f, w, y), None, advantages)

    def entropy(pair):
        def loss(f, w, y, advantages):
            log_probs, entropy = pair(f, w, y)
            return L.ppo_loss(
                log_probs, None, advantages, entropy=entropy, entropy_coefficient=0.01
            )

        return loss

    def plain_pair(f, w, y):
        log_p = jax.nn.log_softmax(f @ w)
        return jnp.take_along_axis(log_p, y[:, None], 1)[:, 0], -jnp.sum(jnp.exp(log_p) * log_p, 1)

    yield from rows(
        f"log-probabilities + PPO, {size}",
        {
            "plain": policy(lambda f, w, y: plain_pair(f, w, y)[0]),
            "optx": policy(L.linear_log_probs),
            "optx, 512 rows": policy(functools.partial(L.linear_log_probs, chunk_size=512)),
        },
        (f, w, y, advantages),
        rounds,
        count=2,
    )
    yield from rows(
        f"log-probabilities, entropy + PPO, {size}",
        {
            "plain": entropy(plain_pair),
            "optx": entropy(functools.partial(L.linear_log_probs, entropy=True)),
        },
        (f, w, y, advantages),
        rounds,
        count=2,
    )

    def plain_divergence(divergence):
        def loss(f, w, other, w_teacher):
            log_s, log_t = jax.nn.log_softmax(f @ w), jax.nn.log_softmax(other @ w_teacher)
            s, t = jnp.exp(log_s), jnp.exp(log_t)
            if divergence == "forward":
                return jnp.sum(t * (log_t - log_s), 1)
            if divergence == "reverse":
                return jnp.sum(s * (log_s - log_t), 1)
            log_m = jnp.log((s + t) / 2)
            return jnp.sum(t * (log_t - log_m) + s * (log_s - log_m), 1) / 2

        return loss

    chunked = functools.partial(functools.partial, L.linear_distillation_loss)
    for divergence in ("forward", "reverse", "jsd"):
        yield from rows(
            f"distillation, {divergence}, {size}",
            {
                "plain": plain_divergence(divergence),
                "optx": chunked(divergence=divergence),
                "optx, 512 rows": chunked(divergence=divergence, chunk_size=512),
            },
            (f, w, other, w_teacher),
            rounds,
            count=2,
        )


def binary(n, rounds):
    """Binary cross entropy."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=n), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, n), jnp.float32)
    candidates = {
        "optax": lambda x: optax.sigmoid_binary_cross_entropy(x, labels),
        "optx": lambda x: L.sigmoid_binary_cross_entropy(x, labels),
    }
    yield from rows(f"binary cross entropy, {n >> 20} M", candidates, (logits,), rounds)


def ctc(rounds):
    """CTC, 32 × 400 frames × 80 labels."""
    rng = np.random.default_rng(0)
    batch, frames, length, classes = 32, 400, 80, 80
    logits = jnp.asarray(rng.normal(size=(batch, frames, classes)), jnp.float32)
    labels = jnp.asarray(rng.integers(1, classes, (batch, length)), jnp.int32)
    pads, label_pads = jnp.zeros((batch, frames)), jnp.zeros((batch, length))
    candidates = {
        name: lambda x, loss=loss: loss(x, pads, labels, label_pads)
        for name, loss in {"optax": optax.ctc_loss, "optx": L.ctc_loss}.items()
    }
    yield from rows("CTC, 32 × 400 × 80", candidates, (logits,), rounds)


def torch_integer(n, classes, rounds):
    """Torch's integer cross entropy, where torch is installed."""
    try:
        import torch
    except ImportError:
        return
    x = torch.randn(n, classes, requires_grad=True)
    y = torch.randint(0, classes, (n,))

    def run():
        x.grad = None
        torch.nn.functional.cross_entropy(x, y).backward()
        return 0

    seconds = alternate({"torch": run}, rounds=rounds, warmup=1)["torch"]
    yield f"integer cross entropy, {n} × {classes}", "torch", f"{seconds:.3f}", "", "", ""


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--logits", type=int, default=2**24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["cross", "binary", "ctc", "last"])
    given = parser.parse_args()
    table = Table("case", "candidate", "seconds", "× first", "temporaries, MiB", "× first")
    if given.only in (None, "binary"):
        for row in binary(given.logits, given.rounds):
            table.add_row(*row)
    if given.only in (None, "ctc"):
        for row in ctc(given.rounds):
            table.add_row(*row)
    if given.only in (None, "cross"):
        for row in cross_entropies(given.tokens, given.classes, given.features, given.rounds):
            table.add_row(*row)
        for row in torch_integer(given.tokens, given.classes, given.rounds):
            table.add_row(*row)
    if given.only in (None, "last"):
        for row in last_layers(given.tokens, given.classes, given.features, given.rounds):
            table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
