"""One row for each loss, and the situations that every loss is put into."""

import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import optx_losses as L

N, K = 6, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, K))
PROBS = np.exp(X[::-1]) / np.exp(X[::-1]).sum(-1, keepdims=True)
INTS = RNG.integers(0, K, N).astype(np.int32)
BITS = RNG.integers(0, 2, (N, K))
GROUPS = np.array([0, 0, 1, 1, 2, 2], np.int32)
Y = RNG.normal(size=(N, K))
NEG = -np.abs(Y)
SEGMENTS = np.eye(2)[BITS]  # [N, K, 2]


# name: (array arguments, keyword arguments, which arguments are differentiated, the result's shape)
ROWS = {
    "squared_error": ((X, Y), {}, (0, 1), (N, K)),
    "l2_loss": ((X, Y), {}, (0, 1), (N, K)),
    "huber_loss": ((X, Y), {"delta": 0.5}, (0, 1), (N, K)),
    "log_cosh": ((X, Y), {}, (0, 1), (N, K)),
    "quantile_loss": ((X, Y), {"quantile": 0.3}, (0, 1), (N, K)),
    "gaussian_nll_loss": ((X, Y, 0.2 + np.abs(Y)), {"full": True}, (0, 1, 2), (N, K)),
    "poisson_nll_loss": ((X, 3 * np.abs(Y)), {"full": True}, (0,), (N, K)),
    "cosine_similarity": ((X, Y), {}, (0, 1), (N,)),
    "cosine_distance": ((X, Y), {}, (0, 1), (N,)),
    "softmax_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    "safe_softmax_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    "poly_loss_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    # Options are no arrays: jax 0.12 gives one that it has seen in double precision that dtype ever after.
    "softmax_cross_entropy_with_integer_labels": (
        (X, INTS), {"label_smoothing": 0.1, "z_loss": 1e-3, "class_weights": [1.0, 2.0, 3.0, 4.0, 5.0]}, (0,), (N,)),
    "softmax_focal_loss": ((X, INTS), {}, (0,), (N,)),
    "sigmoid_binary_cross_entropy": ((X, BITS), {}, (0,), (N, K)),
    "sigmoid_focal_loss": ((X, BITS), {"alpha": 0.3}, (0,), (N, K)),
    "hinge_loss": ((X, 2 * BITS - 1), {}, (0,), (N, K)),
    "perceptron_loss": ((X, 2 * BITS - 1), {}, (0,), (N, K)),
    "multiclass_hinge_loss": ((X, INTS), {}, (0,), (N,)),
    "multiclass_perceptron_loss": ((X, INTS), {}, (0,), (N,)),
    "sparsemax_loss": ((X, BITS), {}, (0,), (N, K)),
    "multiclass_sparsemax_loss": ((X, INTS), {}, (0,), (N,)),
    "kl_divergence": ((np.log(PROBS), PROBS[::-1]), {}, (0, 1), (N,)),
    "kl_divergence_with_log_targets": ((np.log(PROBS), np.log(PROBS[::-1])), {}, (0, 1), (N,)),
    "convex_kl_divergence": ((np.log(PROBS), PROBS[::-1]), {}, (0, 1), (N,)),
    "generalized_kl_divergence": ((Y, PROBS), {}, (0, 1), (N,)),
    "smooth_labels": ((PROBS,), {"alpha": 0.2}, (0,), (N, K)),
    "z_loss": ((X,), {}, (0,), (N,)),
    "triplet_margin_loss": ((X, Y, X[::-1]), {}, (0, 1, 2), (N,)),
    "ntxent": ((X, GROUPS), {}, (0,), (N,)),
    "supervised_contrastive_loss": ((X, GROUPS), {}, (0,), (N,)),
    "info_nce_loss": ((X, Y), {"symmetric": True}, (0, 1), (N,)),
    "ranking_softmax_loss": ((X, np.abs(Y)), {}, (0,), (N,)),
    "list_mle_loss": ((X, BITS), {}, (0,), (N,)),
    "pairwise_logistic_loss": ((X, BITS), {}, (0,), (N,)),
    "lambda_rank_loss": ((X, BITS), {}, (0,), (N,)),
    "dice_loss": ((RNG.normal(size=(N, K, 2)), SEGMENTS), {}, (0,), (N,)),
    "multiclass_generalized_dice_loss": ((RNG.normal(size=(N, K, 2)), SEGMENTS), {}, (0,), (N,)),
    "tversky_loss": ((RNG.normal(size=(N, K, 2)), SEGMENTS), {"gamma": 0.75}, (0,), (N,)),
    "binary_dice_loss": ((X, BITS), {}, (0,), (N,)),
    "lovasz_hinge_loss": ((X, BITS), {}, (0,), (N,)),
    "lovasz_softmax_loss": ((RNG.normal(size=(N, K, 2)), BITS.astype(np.int32)), {}, (0,), (N,)),
    "arcface_loss": ((np.tanh(X), INTS), {"scale": 8.0}, (0,), (N,)),
    "cosface_loss": ((np.tanh(X), INTS), {"scale": 8.0}, (0,), (N,)),
    "barlow_twins_loss": ((X, Y), {}, (0, 1), ()),
    "vicreg_loss": ((X, Y), {}, (0, 1), ()),
    "dpo_loss": ((X, Y, X[::-1], Y[::-1]), {"label_smoothing": 0.1}, (0, 1, 2, 3), (N, K)),
    "ipo_loss": ((X, Y, X[::-1], Y[::-1]), {}, (0, 1), (N, K)),
    "slic_loss": ((X, Y, X[::-1], Y[::-1]), {}, (0, 1), (N, K)),
    "simpo_loss": ((X, Y), {}, (0, 1), (N, K)),
    "orpo_loss": ((NEG, NEG[::-1]), {}, (0, 1), (N, K)),
    "kto_loss": ((X, Y, BITS == 1), {"kl": 0.1}, (0, 1), (N, K)),
    "linear_softmax_cross_entropy": (
        (X, RNG.normal(size=(K, 7)), INTS), {"chunk_size": 2, "label_smoothing": 0.1, "z_loss": 1e-3, "soft_cap": 5.0},
        (0, 1), (N,)),
    "linear_log_probs": (
        (X, RNG.normal(size=(K, 7)), INTS), {"chunk_size": 2, "temperature": 1.5, "soft_cap": 5.0}, (0, 1), (N,)),
    "linear_distillation_loss": (
        (X, RNG.normal(size=(K, 7)), Y, RNG.normal(size=(K, 7))), {"chunk_size": 2, "divergence": "jsd", "beta": 0.3},
        (0, 1), (N,)),
    "answer_log_probs": ((NEG,), {}, (0,), (N,)),
    "policy_loss": ((NEG, NEG[::-1], X), {"aggregate": "none", "clip": (0.2, 0.28)}, (0,), (N, K)),
    "sapo_loss": ((NEG, NEG[::-1], X), {}, (0,), ()),
    "group_relative_advantages": ((X,), {}, (0,), (N, K)),
    "generalized_advantage_estimate": ((X, Y), {"discount": 0.9, "trace_decay": 0.8}, (0, 1), (N, K)),
    "ctc_loss": (
        (RNG.normal(size=(2, 6, 4)), np.zeros((2, 6)), np.array([[1, 1], [2, 3]]), np.zeros((2, 2))), {}, (0,), (2,)),
}  # fmt: skip
ONE_AXIS = ["group_relative_advantages", "generalized_advantage_estimate"]
# Their `where` says which rows there are; only their features, and the teacher's, belong to rows.
LAST_LAYER = ["linear_softmax_cross_entropy", "linear_log_probs", "linear_distillation_loss"]
MAY_BE_NEGATIVE = {
    "linear_log_probs",
    "policy_loss",
    "sapo_loss",
    *ONE_AXIS,
    "answer_log_probs",
    "gaussian_nll_loss",
    "poisson_nll_loss",
    "cosine_similarity",
    "poly_loss_cross_entropy",
}
BATCH_LEVEL = {"barlow_twins_loss", "vicreg_loss"}
# Their `where` says which examples there are, not which entries.
BY_EXAMPLE = [
    "info_nce_loss",
    "ntxent",
    "supervised_contrastive_loss",
    "barlow_twins_loss",
    "vicreg_loss",
    "lovasz_softmax_loss",
]


# Not losses of arrays, or covered by the row of another name.
WITHOUT_ROW = {
    "make_fenchel_young_loss",
    "hungarian_algorithm",
    "ctc_loss_with_forward_probs",
    "kto_kl",
    "next_token_labels",
    *(f"{name}_loss" for name in ("robust_dpo", "exo", "nca", "sppo", "apo_zero", "apo_down")),
    *(f"{name}_loss" for name in ("ppo", "grpo", "dr_grpo", "dapo", "bnpo", "gspo", "cispo")),
}
INTEGER_LABELS = [
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "arcface_loss",
    "cosface_loss",
]


def has(name, argument):
    return argument in inspect.signature(getattr(L, name)).parameters


def cast(args, dtype):
    """The arguments with their floats cast; integers as they are."""
    arrays = [
        jnp.asarray(a, dtype) if np.issubdtype(a.dtype, np.floating) else jnp.asarray(a)
        for a in args
    ]
    return [jnp.asarray(a, jnp.int32) if a.dtype == jnp.int64 else a for a in arrays]


def as_function(name, args, **kwargs):
    """The loss as a function of the arguments that are differentiated, and these arguments."""
    _, fixed, wrt, _ = ROWS[name]

    def f(*moving):
        full = list(args)
        for i, a in zip(wrt, moving, strict=True):
            full[i] = a
        return getattr(L, name)(*full, **fixed, **kwargs)

    return f, [args[i] for i in wrt]


class Results(NamedTuple):
    """What a loss gives in one situation; gradients and products are those of its sum."""

    value: Any
    tangent: Any
    gradient: Any
    product: Any


@functools.cache
def results_of(name):
    """A compiled program for the `Results` of a loss: `program(args, kwargs)`."""

    @jax.jit
    def program(args, kwargs):
        f, moving = as_function(name, args, **kwargs)
        value, tangent = jax.jvp(f, moving, [jnp.ones_like(a) for a in moving])
        directions = [jnp.cos(jnp.arange(a.size, dtype=jnp.float32)) for a in moving]
        directions = [
            d.reshape(a.shape).astype(a.dtype) for d, a in zip(directions, moving, strict=True)
        ]

        def gradient(*moving):
            return jax.grad(lambda *m: jnp.sum(f(*m)), tuple(range(len(moving))))(*moving)

        gradients, product = jax.jvp(gradient, moving, directions)
        return Results(value, tangent, gradients, product)

    return program


def finite(tree):
    return all(np.isfinite(np.asarray(x, np.float64)).all() for x in jax.tree.leaves(tree))


def excluded_by_where(name):
    """A mask for `where`, and for each argument which of its entries the mask excludes (or None)."""
    args = ROWS[name][0]
    if name in ("lovasz_softmax_loss", "ctc_loss", *LAST_LAYER):
        mask = np.ones(N if name in LAST_LAYER else args[1].shape, bool)
        if name == "ctc_loss":
            mask = np.array([True, False])
        mask[..., -1] = False
    elif name in BY_EXAMPLE:
        mask = np.array([True, True, False, True, True, False])
    else:
        mask = np.ones(args[0].shape, bool)
        mask[:, -1] = False
        return mask, [~mask if a.shape == mask.shape else None for a in args]
    excluded = []
    for a in args:
        shares = a.shape[: mask.ndim] == mask.shape
        shape = (...,) + (None,) * (a.ndim - mask.ndim)
        excluded.append(np.broadcast_to(~mask[shape], a.shape) if shares else None)
    if name in LAST_LAYER:
        excluded[1] = None
    return mask, excluded


def filled(args, excluded, fill):
    """The arguments with `fill` in the excluded entries: an out-of-range label where they are integers."""
    return [
        a
        if out is None or a.dtype == bool
        else jnp.where(
            out, jnp.asarray(fill if jnp.issubdtype(a.dtype, jnp.floating) else -7, a.dtype), a
        )
        for a, out in zip(args, excluded, strict=True)
    ]


def inside(name, args, scale):
    """The differentiated arguments with entries ±scale, where the loss is defined there; else None."""
    wrt = ROWS[name][2]
    large = [
        jnp.sign(a) * scale if i in wrt and scale else (0 * a if i in wrt else a)
        for i, a in enumerate(args)
    ]
    if name in ("arcface_loss", "cosface_loss"):  # cosines
        return [jnp.clip(large[0], -1, 1), large[1]]
    if name in ("orpo_loss", "answer_log_probs", "kl_divergence_with_log_targets"):
        return [-jnp.abs(a) if i in wrt else a for i, a in enumerate(large)]
    if name == "poisson_nll_loss":
        return [-jnp.abs(large[0]), large[1]]
    if name in ("kl_divergence", "convex_kl_divergence", "generalized_kl_divergence"):
        return [-jnp.abs(large[0]), jnp.abs(large[1])]
    return large


# A logit or log-probability of −inf, at a class (the last) that the targets give nothing to.
MINUS_INFINITY = [
    "softmax_cross_entropy",
    "safe_softmax_cross_entropy",
    "poly_loss_cross_entropy",
    "kl_divergence",
    "convex_kl_divergence",
    "generalized_kl_divergence",
    "z_loss",
    "ranking_softmax_loss",
    "list_mle_loss",
    "pairwise_logistic_loss",
    "ctc_loss",
    *[name for name in INTEGER_LABELS if name not in ("arcface_loss", "cosface_loss")],
]


def with_minus_infinity(name):
    """Arguments whose last class has a logit of −inf and no share of the targets."""
    x, *rest = cast(ROWS[name][0], jnp.float32)
    x = x.at[..., -1].set(-jnp.inf)
    if name == "ctc_loss":
        return [x, rest[0], jnp.minimum(rest[1], 2), rest[2]]
    if name in INTEGER_LABELS:
        return [x, jnp.minimum(rest[0], K - 2)]
    return [x, *(a.at[..., -1].set(0) for a in rest)]


# The arguments that may hold integers where the row has floats, rounded to integers of their range.
def as_integers(args):
    return [
        jnp.asarray(np.rint(np.clip(a, -3, 3)), jnp.int32)
        if np.issubdtype(a.dtype, np.floating)
        else a
        for a in args
    ]
