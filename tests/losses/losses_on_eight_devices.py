"""Run by `test_losses.py` in a process with eight devices: losses of labels and tokens, however they lie."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optx_losses as L
from sampling import share

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

N, PIXELS, CLASSES = 16, 6, 8
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(N, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, N).astype(np.int32)
MAPS = RNG.normal(size=(N, PIXELS, CLASSES)).astype(np.float32)
SEGMENTS = RNG.integers(0, CLASSES, (N, PIXELS)).astype(np.int32)
WEIGHTS = np.arange(1.0, CLASSES + 1, dtype=np.float32)


def ctc(logits, labels):
    paddings = jnp.zeros_like(labels, jnp.float32)
    return L.ctc_loss(logits, paddings, labels[:, :2], paddings[:, :2])


# name: (arguments, keyword arguments); nothing of the logits' size is gathered
IN_PLACE = {
    "softmax_cross_entropy_with_integer_labels": (
        (ROWS, LABELS), {"label_smoothing": 0.1, "z_loss": 1e-3, "class_weights": WEIGHTS, "ignore_index": 3}),
    "softmax_focal_loss": ((ROWS, LABELS), {"class_weights": WEIGHTS}),
    "multiclass_hinge_loss": ((ROWS, LABELS), {}),
    "multiclass_perceptron_loss": ((ROWS, LABELS), {}),
    "arcface_loss": ((np.tanh(ROWS), LABELS), {"scale": 8.0}),
    "cosface_loss": ((np.tanh(ROWS), LABELS), {"scale": 8.0}),
    "lovasz_softmax_loss": ((MAPS, SEGMENTS), {}),
    "dice_loss": ((MAPS, SEGMENTS), {"ignore_index": 3}),
    "multiclass_generalized_dice_loss": ((MAPS, SEGMENTS), {}),
    "tversky_loss": ((MAPS, SEGMENTS), {}),
}  # fmt: skip
# These sort the classes, look up states among them, or compare each example with all others.
GATHERING = {
    "multiclass_sparsemax_loss": ((ROWS, LABELS), {}),
    "ctc_loss": ((MAPS, SEGMENTS), {}),
    "ntxent": ((ROWS, LABELS // 2), {}),
    "supervised_contrastive_loss": ((ROWS, LABELS // 2), {}),
}
TOKEN_IDS = np.sort(RNG.integers(0, 3, (N, CLASSES))).astype(np.int32)
# Tokens, packed by their ids, or features in the place of the classes: both axes are split, of ids too.
OF_ROWS = {
    "gspo_loss": lambda x, ids: L.gspo_loss(x, 0.9 * x, jnp.tanh(x), clip=None, segment_ids=ids),
    "grpo_loss": lambda x, ids: L.grpo_loss(x, 0.9 * x, jnp.tanh(jnp.sum(x, axis=1))),
    "answer_log_probs": lambda x, ids: L.answer_log_probs(
        x, reduction="mean", segment_ids=ids, num_segments=3
    )[:, 1],
    "group_relative_advantages": lambda x, ids: jnp.sum(
        jnp.cos(L.group_relative_advantages(x, axis=0, group_size=N)), axis=1
    ),
    "generalized_advantage_estimate": lambda x, ids: jnp.sum(
        jnp.cos(L.generalized_advantage_estimate(x, x, discount=0.9, where=ids > 0)), axis=1
    ),
    "next_token_labels": lambda x, ids: jnp.sum(
        x * L.next_token_labels(ids, segment_ids=ids, where=ids > 0).astype(x.dtype), axis=1
    ),
    "vicreg_loss": lambda x, ids: L.vicreg_loss(x, jnp.cos(x)),
    "info_nce_loss": lambda x, ids: L.info_nce_loss(
        x, jnp.cos(x), where=jnp.max(ids, axis=1) > 0, symmetric=True
    ),
}
GATHERING |= {name: ((ROWS, TOKEN_IDS), {}) for name in OF_ROWS}
# Which axes of the mesh the batch and the classes are split over, and whether inside `jax.set_mesh`.
LAYOUTS = [
    (AxisType.Auto, "data", "model", True),
    (AxisType.Explicit, None, "model", True),
    (AxisType.Explicit, "data", "model", True),
    (AxisType.Explicit, "data", "model", False),
]


def run(name, logits, labels, options):
    loss = OF_ROWS.get(name) or (ctc if name == "ctc_loss" else getattr(L, name))
    return loss(logits, labels, **options)


def losses(rows):
    """The weighted sum of all losses: each has a gradient of its own, and each row another cotangent."""

    def total(logits, labels):
        cotangents = jnp.cos(jnp.arange(N, dtype=jnp.float32))
        values = [
            run(name, logits[name], labels[name], options) for name, (_, options) in rows.items()
        ]
        return sum(jnp.sum(cotangents * value) for value in values), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def check(rows, gathers):
    """The results on each mesh and in each layout, beside those of one device."""
    program = losses(rows)
    given = [{name: args[i] for name, (args, _) in rows.items()} for i in (0, 1)]
    expected = program(*given)
    for kind, batch, classes, inside in share(LAYOUTS, 4, str(gathers)):
        mesh = jax.make_mesh((2, 4), ("data", "model"), (kind, kind))

        def lay(x, classes, mesh=mesh, batch=batch):
            between = (None,) * (x.ndim - 2)
            spec = (batch, *between, classes)[: x.ndim]
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

        with jax.set_mesh(mesh) if inside else contextlib.nullcontext():
            logits = {name: lay(x, classes) for name, x in given[0].items()}
            labels = {
                name: lay(y, classes if name in OF_ROWS else None) for name, y in given[1].items()
            }
            compiled = program.lower(logits, labels).compile()
            results = compiled(logits, labels)
        for name, a, b in zip(rows, results[0][1], expected[0][1], strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-5, err_msg=name)
        for name, gradient in results[1].items():
            message = f"{name} on {kind}, split by {batch}, {classes}"
            np.testing.assert_allclose(
                np.asarray(gradient), expected[1][name], rtol=1e-4, atol=1e-5, err_msg=message
            )
        if not gathers:
            gathered = re.findall(r"= (\S+) all-(?:gather|to-all)\(", compiled.as_text())
            assert not gathered, (kind, batch, classes, inside, gathered)
        if not inside:
            for (name, (_, options)), value in zip(rows.items(), expected[0][1], strict=True):
                eager = run(name, logits[name], labels[name], options)
                np.testing.assert_allclose(eager, value, rtol=1e-4, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    check(IN_PLACE, gathers=False)
    check(GATHERING, gathers=True)
