"""Run by `test_last_layer.py` in a process with eight devices: the same gradients however things lie."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optx_losses as L

ROWS, FEATURES, CLASSES = 32, 8, 64
WEIGHTS = {
    "in one piece": PartitionSpec(),
    "split by features": PartitionSpec("data"),
    "split by classes": PartitionSpec(None, "model"),
}
LABELS = {"everywhere": PartitionSpec(), "split by rows": PartitionSpec("data")}


RNG = np.random.default_rng(0)
F, T = (jnp.asarray(RNG.normal(size=(ROWS, FEATURES)), jnp.float32) for _ in range(2))
W, W_T = (jnp.asarray(RNG.normal(size=(FEATURES, CLASSES)), jnp.float32) for _ in range(2))
Y = jnp.asarray(RNG.integers(0, CLASSES, ROWS), jnp.int32).at[3].set(-100)
COTANGENTS = jnp.cos(jnp.arange(ROWS, dtype=jnp.float32))


def cross_entropy(f, w, y, t, w_t):
    return L.linear_softmax_cross_entropy(f, w, y, chunk_size=8, ignore_index=-100).mean()


def cross_entropy_at_once(f, w, y, t, w_t):
    return L.softmax_cross_entropy_with_integer_labels(f @ w, y, ignore_index=-100).mean()


def log_probs(f, w, y, t, w_t):
    log_p, entropy = L.linear_log_probs(f, w, y, chunk_size=8, entropy=True, ignore_index=-100)
    return jnp.sum(COTANGENTS * (log_p + entropy))


def log_probs_at_once(f, w, y, t, w_t):
    log_p = jax.nn.log_softmax(f @ w)
    of_label = jnp.where(y < 0, 0, jnp.take_along_axis(log_p, jnp.maximum(y, 0)[:, None], 1)[:, 0])
    return jnp.sum(COTANGENTS * (of_label - jnp.where(y < 0, 0, (jnp.exp(log_p) * log_p).sum(1))))


def distillation(f, w, y, t, w_t):
    return L.linear_distillation_loss(f, w, t, w_t, divergence="reverse", chunk_size=8).mean()


def distillation_at_once(f, w, y, t, w_t):
    log_s, log_t = jax.nn.log_softmax(f @ w), jax.nn.log_softmax(t @ w_t)
    return jnp.mean(jnp.sum(jnp.exp(log_s) * (log_s - log_t), axis=1))


def check(in_chunks, at_once, weights_and_labels):
    """Value and gradients on either kind of mesh, beside those of all logits on one device."""
    want = jax.jit(jax.value_and_grad(at_once, (0, 1)))(F, W, Y, T, W_T)
    for kind, (weights, rows) in itertools.product(
        (AxisType.Auto, AxisType.Explicit), weights_and_labels
    ):
        mesh = jax.make_mesh((2, 4), ("data", "model"), (kind, kind))
        specs = (LABELS[rows], WEIGHTS[weights], LABELS[rows], LABELS[rows], WEIGHTS[weights])
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(x, NamedSharding(mesh, s))
                for x, s in zip((F, W, Y, T, W_T), specs, strict=True)
            ]
            program = jax.jit(jax.value_and_grad(in_chunks, (0, 1))).lower(*placed).compile()
            made = program(*placed)
        for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-6)
        if kind is AxisType.Explicit:
            laid = made[1][1].sharding
            assert laid.is_equivalent_to(placed[1].sharding, 2), (weights, rows, laid)
        if weights == "split by classes":
            gathered = re.findall(r"= (\S+) all-gather\(", program.as_text())
            assert not [shape for shape in gathered if str(CLASSES) in shape], (
                kind,
                rows,
                gathered,
            )


def main():
    check(cross_entropy, cross_entropy_at_once, list(itertools.product(WEIGHTS, LABELS)))
    check(log_probs, log_probs_at_once, [("split by classes", "split by rows")])
    check(distillation, distillation_at_once, [("split by classes", "split by rows")])


if __name__ == "__main__":
    main()
