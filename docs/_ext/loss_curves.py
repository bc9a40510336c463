"""The losses as functions of one number, for their plots: the range, its name, and the function."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import optx_losses as o

Curve = tuple[tuple[float, float], str, Callable[[jax.Array], jax.Array]]
WIDE, SIGNED, UNIT = (-3.0, 3.0), (-1.5, 1.5), (-1.0, 1.0)
ONE, PIXELS = jnp.ones(()), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
VIEW = jnp.array([[1.0, 0.5], [-1.0, 1.0], [0.5, -1.0], [-0.5, -0.5]])
OTHER = jnp.array([[0.2, -1.0], [1.0, 0.3], [-0.9, 0.1], [-0.3, 0.6]])


def _two(x: jax.Array) -> jax.Array:
    return jnp.stack([x, 0 * x])


def _on_circle(*angles: jax.Array | float) -> jax.Array:
    return jnp.stack([jnp.stack([jnp.cos(a), jnp.sin(a)]) for a in map(jnp.asarray, angles)])


def _label(loss: Callable[..., jax.Array]) -> Curve:
    return WIDE, "logit of the label, of two classes", lambda x: loss(_two(x), 0)


def _distribution(loss: Callable[..., jax.Array]) -> Curve:
    return (
        WIDE,
        "logit of the label, of two classes",
        lambda x: loss(_two(x), jnp.array([1.0, 0.0])),
    )


def _masks(loss: Callable[..., jax.Array]) -> Curve:
    def of(x: jax.Array) -> jax.Array:
        logits = jnp.stack([jnp.zeros(5), jnp.full(5, x)], axis=-1)[None]
        return loss(logits, jnp.stack([1 - PIXELS, PIXELS], axis=-1)[None])

    return WIDE, "logit of five pixels, four of them positive", of


def _pair(loss: Callable[..., jax.Array], beta: float = 1.0) -> Curve:
    return WIDE, "log-ratio of the chosen answer", lambda x: loss(x, 0 * x, beta=beta)


def _token(loss: Callable[..., jax.Array], **options: object) -> Curve:
    def of(x: jax.Array) -> jax.Array:
        return loss(x[None, None], jnp.zeros((1, 1)), jnp.ones(1), **options)

    return SIGNED, "log-ratio of a token, for an advantage of 1", of


def _list(loss: Callable[..., jax.Array]) -> Curve:
    relevances = jnp.array([2.0, 1.0, 0.0])
    of = lambda x: loss(jnp.stack([x, 0 * x + 0.5, 0 * x - 0.5]), relevances)  # noqa: E731
    return WIDE, "score of the best of three items", of


def _embedding(loss: Callable[..., jax.Array]) -> Curve:
    labels = jnp.array([0, 0, 1])
    of = lambda x: loss(_on_circle(x, 0.0, 2.0), labels, 0.5)[0]  # noqa: E731
    return WIDE, "angle; a positive is at 0, a negative at 2", of


def _divergence(loss: Callable[..., jax.Array], targets: jax.Array) -> Curve:
    of = lambda x: loss(jax.nn.log_softmax(_two(x)), targets)  # noqa: E731
    return WIDE, "logit of one of two classes, whose target is 0.7", of


def _measure(loss: Callable[..., jax.Array]) -> Curve:
    label = "logarithm of the prediction, for a target of 0.7"
    return WIDE, label, lambda x: loss(x[None], jnp.array([0.7]))


def _views(loss: Callable[..., jax.Array]) -> Curve:
    label = "weight of one view in the other"
    return WIDE, label, lambda x: loss(VIEW, x * VIEW + OTHER)


_SHARES = jnp.array([0.7, 0.3])
_FEATURE = (jnp.array([[1.0, 0.0]]), jnp.zeros(1, int))  # weights and label
CURVES: dict[str, Curve] = {
    "apo_down_loss": (
        WIDE,
        "log-ratio of the chosen answer; the rejected one has its negative",
        lambda x: o.apo_down_loss(x, -x, beta=1.0),
    ),
    "apo_zero_loss": _pair(o.apo_zero_loss),
    "arcface_loss": (UNIT, "cosine of the label", lambda x: o.arcface_loss(_two(x), 0, scale=4.0)),
    "barlow_twins_loss": _views(o.barlow_twins_loss),
    "binary_dice_loss": (
        WIDE,
        "logit of five pixels, four of them positive",
        lambda x: o.binary_dice_loss(jnp.full(5, x), PIXELS),
    ),
    "bnpo_loss": _token(o.bnpo_loss),
    "cispo_loss": _token(o.cispo_loss),
    "convex_kl_divergence": _measure(o.convex_kl_divergence),
    "cosface_loss": (UNIT, "cosine of the label", lambda x: o.cosface_loss(_two(x), 0, scale=4.0)),
    "cosine_distance": (
        WIDE,
        "angle",
        lambda x: o.cosine_distance(_on_circle(x), _on_circle(0.0)),
    ),
    "cosine_similarity": (
        WIDE,
        "angle",
        lambda x: o.cosine_similarity(_on_circle(x), _on_circle(0.0)),
    ),
    "ctc_loss": (
        WIDE,
        "logit of the only label, in each of two frames",
        lambda x: o.ctc_loss(
            jnp.stack([_two(x)[::-1]] * 2)[None],
            jnp.zeros((1, 2)),
            jnp.ones((1, 1), int),
            jnp.zeros((1, 1)),
        ),
    ),
    "dapo_loss": _token(o.dapo_loss),
    "dice_loss": _masks(o.dice_loss),
    "dpo_loss": _pair(o.dpo_loss),
    "dr_grpo_loss": _token(o.dr_grpo_loss, max_length=1),
    "exo_loss": _pair(o.exo_loss),
    "gaussian_nll_loss": (
        WIDE,
        "error, for a variance of 1",
        lambda x: o.gaussian_nll_loss(x, 0 * x, ONE),
    ),
    "generalized_kl_divergence": _measure(o.generalized_kl_divergence),
    "grpo_loss": _token(o.grpo_loss),
    "gspo_loss": _token(o.gspo_loss),
    "hinge_loss": (WIDE, "score of a positive", lambda x: o.hinge_loss(x, ONE)),
    "huber_loss": (WIDE, "error", lambda x: o.huber_loss(x, 0 * x)),
    "info_nce_loss": (
        WIDE,
        "angle of the anchor; its positive is at 0, a negative at 2",
        lambda x: o.info_nce_loss(_on_circle(x, 2.0), _on_circle(0.0, 2.0), 0.5)[0],
    ),
    "ipo_loss": _pair(o.ipo_loss, 0.5),
    "kl_divergence": _divergence(o.kl_divergence, _SHARES),
    "kl_divergence_with_log_targets": _divergence(
        o.kl_divergence_with_log_targets, jnp.log(_SHARES)
    ),
    "kto_loss": (
        WIDE,
        "log-ratio of a desirable answer",
        lambda x: o.kto_loss(x[None], jnp.zeros(1), jnp.ones(1, bool), beta=1.0),
    ),
    "l2_loss": (WIDE, "error", o.l2_loss),
    "lambda_rank_loss": _list(o.lambda_rank_loss),
    "linear_softmax_cross_entropy": (
        WIDE,
        "logit of the label, of two classes",
        lambda x: o.linear_softmax_cross_entropy(x[None, None], *_FEATURE),
    ),
    "list_mle_loss": _list(o.list_mle_loss),
    "log_cosh": (WIDE, "error", o.log_cosh),
    "lovasz_hinge_loss": (
        WIDE,
        "logit of five pixels, four of them positive",
        lambda x: o.lovasz_hinge_loss(jnp.full((1, 5), x), PIXELS.astype(int)[None]),
    ),
    "lovasz_softmax_loss": (
        WIDE,
        "logit of five pixels, four of them positive",
        lambda x: o.lovasz_softmax_loss(
            jnp.stack([jnp.zeros(5), jnp.full(5, x)], axis=-1)[None], PIXELS.astype(int)[None]
        ),
    ),
    "multiclass_generalized_dice_loss": _masks(o.multiclass_generalized_dice_loss),
    "multiclass_hinge_loss": _label(o.multiclass_hinge_loss),
    "multiclass_perceptron_loss": _label(o.multiclass_perceptron_loss),
    "multiclass_sparsemax_loss": _label(o.multiclass_sparsemax_loss),
    "nca_loss": _pair(o.nca_loss),
    "ntxent": _embedding(o.ntxent),
    "orpo_loss": (
        (-3.0, -0.1),
        "mean log-probability of the chosen answer, for −1 of the rejected",
        lambda x: o.orpo_loss(x, 0 * x - 1),
    ),
    "pairwise_logistic_loss": _list(o.pairwise_logistic_loss),
    "perceptron_loss": (WIDE, "score of a positive", lambda x: o.perceptron_loss(x, ONE)),
    "poisson_nll_loss": (
        WIDE,
        "log of the rate, for a count of 1",
        lambda x: o.poisson_nll_loss(x, ONE),
    ),
    "policy_loss": _token(o.policy_loss, aggregate="token"),
    "poly_loss_cross_entropy": _distribution(o.poly_loss_cross_entropy),
    "ppo_loss": (
        SIGNED,
        "log-ratio of a token, for an advantage of 1",
        lambda x: o.ppo_loss(x[None, None], jnp.zeros((1, 1)), jnp.ones((1, 1))),
    ),
    "quantile_loss": (WIDE, "error", lambda x: o.quantile_loss(x, 0 * x, 0.8)),
    "ranking_softmax_loss": _list(o.ranking_softmax_loss),
    "robust_dpo_loss": _pair(o.robust_dpo_loss),
    "safe_softmax_cross_entropy": _distribution(o.safe_softmax_cross_entropy),
    "sapo_loss": _token(o.sapo_loss),
    "sigmoid_binary_cross_entropy": (
        WIDE,
        "logit",
        lambda x: o.sigmoid_binary_cross_entropy(x, ONE),
    ),
    "sigmoid_focal_loss": (WIDE, "logit of a positive", lambda x: o.sigmoid_focal_loss(x, ONE)),
    "simpo_loss": _pair(o.simpo_loss),
    "slic_loss": _pair(o.slic_loss),
    "softmax_cross_entropy": _distribution(o.softmax_cross_entropy),
    "softmax_cross_entropy_with_integer_labels": _label(
        o.softmax_cross_entropy_with_integer_labels
    ),
    "softmax_focal_loss": _label(o.softmax_focal_loss),
    "sparsemax_loss": (WIDE, "score of a positive", lambda x: o.sparsemax_loss(x, ONE)),
    "sppo_loss": _pair(o.sppo_loss),
    "squared_error": (WIDE, "error", o.squared_error),
    "supervised_contrastive_loss": _embedding(o.supervised_contrastive_loss),
    "triplet_margin_loss": (
        WIDE,
        "anchor; the positive is at 0, the negative at 1.5",
        lambda x: o.triplet_margin_loss(x[None], jnp.zeros(1), jnp.full(1, 1.5)),
    ),
    "tversky_loss": _masks(o.tversky_loss),
    "vicreg_loss": _views(o.vicreg_loss),
    "z_loss": (WIDE, "one of two logits", lambda x: o.z_loss(_two(x))),
}
