"""Run by `test_last_layer.py` in a process with eight devices: the same gradients however things lie."""

import itertools

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


def main():
    rng = np.random.default_rng(0)
    f = jnp.asarray(rng.normal(size=(ROWS, FEATURES)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(FEATURES, CLASSES)), jnp.float32)
    y = jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32).at[3].set(-100)

    @jax.jit
    def at_once(f, w, y):
        return L.softmax_cross_entropy_with_integer_labels(f @ w, y, ignore_index=-100).mean()

    @jax.jit
    def in_chunks(f, w, y):
        return L.linear_softmax_cross_entropy(f, w, y, chunk_size=8, ignore_index=-100).mean()

    want = jax.value_and_grad(at_once, (0, 1))(f, w, y)
    for kind, weights, rows in itertools.product(
        (AxisType.Auto, AxisType.Explicit), WEIGHTS, LABELS
    ):
        mesh = jax.make_mesh((2, 4), ("data", "model"), (kind, kind))
        specs = (LABELS[rows], WEIGHTS[weights], LABELS[rows])
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(x, NamedSharding(mesh, s))
                for x, s in zip((f, w, y), specs, strict=True)
            ]
            made = jax.jit(jax.value_and_grad(in_chunks, (0, 1)))(*placed)
        for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-6)
        if kind is AxisType.Explicit:
            laid = made[1][1].sharding
            assert laid.is_equivalent_to(placed[1].sharding, 2), (weights, rows, laid)


if __name__ == "__main__":
    main()
