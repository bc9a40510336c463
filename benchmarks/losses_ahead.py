"""Bytes of the losses of a last layer, compiled for a GPU and a TPU that need not be there.

hatch run ahead:losses [cuda] [tpu] [--rows 512] [--tokens 4096 --classes 50000 --features 512]

Value and gradients with respect to features and weights: XLA's count of the bytes that are moved, and the
temporaries, for all logits at once and for logits in chunks: by default, and of `--rows` rows.
XLA counts the body of a loop once: the bytes are those of the same program with its loop unrolled. For a TPU
compiling 32 chunks takes minutes, and each row is printed as soon as it is there.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import optx_losses as L  # noqa: N812
from benchmarks._ahead import TARGETS, bytes_moved, device_of
from benchmarks._timing import temporaries


def log_probs(f: Any, w: Any, y: Any) -> Any:
    """The log-probabilities of the labels, from all logits."""
    return jnp.take_along_axis(jax.nn.log_softmax(f @ w), y[:, None], 1)[:, 0]


def divergence(f: Any, w: Any, y: Any, teacher: Any) -> Any:
    """KL(T‖S), from all logits of both."""
    del y
    log_s, log_t = jax.nn.log_softmax(f @ w), jax.nn.log_softmax(jax.lax.stop_gradient(teacher @ w))
    return jnp.sum(jnp.exp(log_t) * (log_t - log_s), 1)


def policy(log_p: Any) -> Any:
    """A policy loss, each token with an advantage of its own."""
    return L.ppo_loss(log_p, None, np.cos(np.arange(len(log_p), dtype=np.float32)))


# For each case all logits at once, then ours: functions of features, weights, labels, teacher's features.
CASES: dict[str, dict[str, Callable[..., Any]]] = {
    "cross entropy": {
        "plain": lambda f, w, y, t: -log_probs(f, w, y),
        "optx": lambda f, w, y, t, **o: L.linear_softmax_cross_entropy(f, w, y, **o),
    },
    "log-probabilities + PPO": {
        "plain": lambda f, w, y, t: policy(log_probs(f, w, y)),
        "optx": lambda f, w, y, t, **o: policy(L.linear_log_probs(f, w, y, **o)),
    },
    "distillation": {
        "plain": divergence,
        "optx": lambda f, w, y, t, **o: L.linear_distillation_loss(f, w, t, w, **o),
    },
}


def compiled(loss: Callable[..., Any], device: Any, size: tuple[int, int, int]) -> Any:
    """The program of the mean and its gradients."""
    tokens, classes, features = size
    on = jax.sharding.SingleDeviceSharding(device)

    def array(*shape: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=on)

    f, w, y = array(tokens, features), array(features, classes), array(tokens, dtype=jnp.int32)
    jax.clear_caches()
    step = jax.value_and_grad(lambda f, w, y, t: jnp.mean(loss(f, w, y, t)), argnums=(0, 1))
    return jax.jit(step).lower(f, w, y, f).compile()


def sizes_of(loss: Callable[..., Any], device: Any, size: tuple[int, int, int]) -> list[float]:
    """The bytes that are moved, and those of the temporaries."""
    with mock.patch("jax.lax.scan", functools.partial(jax.lax.scan, unroll=True)):
        unrolled = compiled(loss, device, size)
    return [bytes_moved(unrolled), temporaries(compiled(loss, device, size))]


def main() -> None:
    """Compiles the table for the platforms that are named, or for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platforms", nargs="*", metavar="platform", help=", ".join(TARGETS))
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--rows", type=int, nargs="*", default=[512, 128])
    given = parser.parse_args()
    size = given.tokens, given.classes, given.features
    chunks: dict[str, dict[str, int]] = {"optx": {}}
    chunks |= {f"optx, {rows} rows": {"chunk_size": rows} for rows in given.rows}
    for platform in given.platforms or TARGETS:
        try:
            device = device_of(platform)
        except Exception as error:  # noqa: BLE001 (whatever a missing plugin raises)
            print(f"{platform}: not compiled for, {type(error).__name__}: {str(error)[:100]}")
            continue
        shape = " × ".join(map(str, size))
        print(f"\nCompiled for {TARGETS[platform][0]}: jax {jax.__version__}, {shape}\n")
        print("| loss | from | GB moved | × plain | temporaries, MB | × plain |")
        print("| --- | --- | --- | --- | --- | --- |")
        for case, pair in CASES.items():
            first = sizes_of(pair["plain"], device, size)
            ours = {name: functools.partial(pair["optx"], **o) for name, o in chunks.items()}
            for name, loss in ({"plain": None} | ours).items():
                moved, held = sizes = first if loss is None else sizes_of(loss, device, size)
                of_moved, of_held = (x / y for x, y in zip(sizes, first, strict=True))
                print(
                    f"| {case} | {name} | {moved / 1e9:.2f} | {of_moved:.2f} "
                    f"| {held / 1e6:.0f} | {of_held:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
