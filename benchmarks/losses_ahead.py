"""Bytes of the losses of a last layer, compiled for a GPU and a TPU that need not be there.

hatch run ahead:losses [cuda] [tpu]

Value and gradients with respect to features and weights, 4,096 tokens, 50,000 classes, 512 features: XLA's
count of the bytes that are moved, and the temporaries, for all logits at once and for logits in chunks.
XLA counts the body of a loop once: the bytes are those of the same program with its loop unrolled.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import optx_losses as L  # noqa: N812
from benchmarks._ahead import TARGETS, bytes_moved, device_of
from benchmarks._timing import temporaries

TOKENS, CLASSES, FEATURES = 4096, 50_000, 512
Y = np.arange(TOKENS, dtype=np.int32) * 7 % CLASSES
ADVANTAGES = np.cos(np.arange(TOKENS, dtype=np.float32))


def log_probs(f: Any, w: Any, **_: Any) -> Any:
    """The log-probabilities of the labels, from all logits."""
    return jnp.take_along_axis(jax.nn.log_softmax(f @ w), Y[:, None], 1)[:, 0]


def divergence(f: Any, w: Any, teacher: Any) -> Any:
    """KL(T‖S), from all logits of both."""
    log_s, log_t = jax.nn.log_softmax(f @ w), jax.nn.log_softmax(jax.lax.stop_gradient(teacher @ w))
    return jnp.sum(jnp.exp(log_t) * (log_t - log_s), 1)


# For each case all logits at once, then ours.
CASES: dict[str, dict[str, Callable[..., Any]]] = {
    "cross entropy": {
        "plain": lambda f, w, t: -log_probs(f, w),
        "optx": lambda f, w, t, **o: L.linear_softmax_cross_entropy(f, w, Y, **o),
    },
    "log-probabilities + PPO": {
        "plain": lambda f, w, t: L.ppo_loss(log_probs(f, w), None, ADVANTAGES),
        "optx": lambda f, w, t, **o: L.ppo_loss(L.linear_log_probs(f, w, Y, **o), None, ADVANTAGES),
    },
    "distillation": {
        "plain": divergence,
        "optx": lambda f, w, t, **o: L.linear_distillation_loss(f, w, t, w, **o),
    },
}
CHUNKS = {"optx": {}, "optx, 512 rows": {"chunk_size": 512}, "optx, 128 rows": {"chunk_size": 128}}


def compiled(loss: Callable[..., Any], device: Any) -> Any:
    """The program of the mean and its gradients."""
    on = jax.sharding.SingleDeviceSharding(device)
    f, w = (
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=on)
        for shape in ((TOKENS, FEATURES), (FEATURES, CLASSES))
    )
    jax.clear_caches()
    step = jax.value_and_grad(lambda f, w, t: jnp.mean(loss(f, w, t)), argnums=(0, 1))
    return jax.jit(step).lower(f, w, f).compile()


def main() -> None:
    """Compiles the table for the platforms that are named, or for all."""
    console = Console(width=110)
    for platform in [name for name in TARGETS if name in sys.argv[1:]] or TARGETS:
        try:
            device = device_of(platform)
        except Exception as error:  # noqa: BLE001 (whatever a missing plugin raises)
            console.print(
                f"{platform}: not compiled for, {type(error).__name__}: {str(error)[:100]}"
            )
            continue
        table = Table(
            "loss", "from", "GB moved", "x plain", "temporaries, MB", "x plain",
            title=f"Compiled for {TARGETS[platform][0]}: jax {jax.__version__}",
        )  # fmt: skip
        for case, pair in CASES.items():
            first = None
            rows = {"all logits": pair["plain"]} | {
                name: (lambda f, w, t, o=options, ours=pair["optx"]: ours(f, w, t, **o))
                for name, options in CHUNKS.items()
            }
            for name, loss in rows.items():
                with mock.patch("jax.lax.scan", functools.partial(jax.lax.scan, unroll=True)):
                    unrolled = compiled(loss, device)
                sizes = bytes_moved(unrolled), temporaries(compiled(loss, device))
                first = sizes if first is None else first
                moved, held = (x / y for x, y in zip(sizes, first, strict=True))
                cells = (
                    f"{sizes[0] / 1e9:.2f}",
                    f"{moved:.2f}",
                    f"{sizes[1] / 1e6:.0f}",
                    f"{held:.2f}",
                )
                table.add_row(case, name, *cells)
        console.print(table)


if __name__ == "__main__":
    main()
