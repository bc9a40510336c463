"""Hyper-parameters at the ends of their ranges, and arguments that are equal."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_table import GROUPS, INTS, PROBS, ROWS, K, N, X, Y, cast, finite

import optx_losses as L

x, y, probs, ints, z = cast((X, Y, PROBS, INTS, np.tanh(X)), jnp.float32)
bits = cast(ROWS["sigmoid_binary_cross_entropy"][0], jnp.float32)[1].astype(jnp.float32)
maps, segments = cast(ROWS["dice_loss"][0], jnp.float32)
f, w, _ = cast(ROWS["linear_softmax_cross_entropy"][0], jnp.float32)
four = (x, y, x[::-1], y[::-1])
out = x.at[0, ints[0]].set(-jnp.inf)  # the label of the first example is excluded
integer = L.softmax_cross_entropy_with_integer_labels
log_p = jax.nn.log_softmax(x)
softplus, relu = jax.nn.softplus, jax.nn.relu
zeros = jnp.zeros

# (loss, arguments, hyper-parameters, how many of the arguments are differentiated, expected value or None)
ROWS_AT_BOUNDARIES = {
    "huber, infinite delta": (L.huber_loss, (x, y), {"delta": math.inf}, 2, lambda: L.l2_loss(x, y)),
    "huber, no error": (L.huber_loss, (x, x), {}, 2, lambda: zeros((N, K))),
    "quantile 0": (L.quantile_loss, (x, y), {"quantile": 0}, 2, lambda: relu(x - y)),
    "quantile 1": (L.quantile_loss, (x, y), {"quantile": 1}, 2, lambda: relu(y - x)),
    "log cosh, no error": (L.log_cosh, (x, x), {}, 2, lambda: zeros((N, K))),
    "variance 0": (L.gaussian_nll_loss, (x, x, zeros((N, K))), {"epsilon": 1.0}, 3, lambda: zeros((N, K))),
    "rate 0, no events": (L.poisson_nll_loss, (jnp.full(2, -jnp.inf), zeros(2)), {}, 1, lambda: zeros(2)),
    "rate 0 itself": (L.poisson_nll_loss, (zeros(2), zeros(2)), {"log_input": False, "full": True}, 1, lambda: zeros(2)),
    "smoothing 0": (integer, (x, ints), {"label_smoothing": 0}, 1, lambda: integer(x, ints)),
    "smoothing 1": (integer, (x, ints), {"label_smoothing": 1}, 1, lambda: -jnp.mean(log_p, -1)),
    "smoothing 1, label excluded": (
        integer, (out, ints), {"label_smoothing": 1.0}, 1,
        lambda: integer(out, jnp.argmax(x, -1).astype(jnp.int32), label_smoothing=1)),
    "class weights 0": (integer, (out, ints), {"class_weights": zeros(K)}, 1, lambda: zeros(N)),
    "z-loss 0": (integer, (x, ints), {"z_loss": 0}, 1, lambda: integer(x, ints)),
    "focal gamma 0": (L.softmax_focal_loss, (x, ints), {"gamma": 0}, 1, lambda: integer(x, ints)),
    "focal class weights 0": (L.softmax_focal_loss, (out, ints), {"class_weights": zeros(K)}, 1, lambda: zeros(N)),
    "sigmoid focal gamma 0": (
        L.sigmoid_focal_loss, (x, bits), {"gamma": 0.0}, 1, lambda: L.sigmoid_binary_cross_entropy(x, bits)),
    "sigmoid focal gamma 1/2, saturated": (L.sigmoid_focal_loss, (100 * x, bits), {"gamma": 0.5}, 1, None),
    "sigmoid focal alpha 0": (
        L.sigmoid_focal_loss, (x, bits), {"alpha": 0, "gamma": 0}, 1, lambda: (1 - bits) * softplus(x)),
    "sigmoid focal alpha 1": (
        L.sigmoid_focal_loss, (x, bits), {"alpha": 1, "gamma": 0}, 1, lambda: bits * softplus(-x)),
    "sigmoid focal, soft labels of 0 and 1": (
        L.sigmoid_focal_loss, (1e4 * x, bits), {}, 2, None),
    "positive weight 0": (
        L.sigmoid_binary_cross_entropy, (x, bits), {"pos_weight": 0}, 1, lambda: (1 - bits) * softplus(x)),
    "positive weight 1": (
        L.sigmoid_binary_cross_entropy, (x, bits), {"pos_weight": 1.0}, 1,
        lambda: L.sigmoid_binary_cross_entropy(x, bits)),
    "poly epsilon −1": (
        L.poly_loss_cross_entropy, (x, probs), {"epsilon": -1}, 2,
        lambda: jnp.sum(-probs * (log_p + 1 - jnp.exp(log_p)), -1)),
    "poly epsilon 0": (
        L.poly_loss_cross_entropy, (x, probs), {"epsilon": 0}, 2, lambda: L.softmax_cross_entropy(x, probs)),
    "soft class weights 0": (L.softmax_cross_entropy, (out, probs), {"class_weights": zeros(K)}, 1, lambda: zeros(N)),
    "smooth labels 0": (L.smooth_labels, (probs,), {"alpha": 0}, 1, lambda: probs),
    "smooth labels 1": (L.smooth_labels, (probs,), {"alpha": 1}, 1, lambda: jnp.full((N, K), 1 / K)),
    "arcface margin 0": (L.arcface_loss, (z, ints), {"margin": 0.0, "scale": 2.0}, 1, lambda: integer(2 * z, ints)),
    "arcface margin π / 2": (
        L.arcface_loss, (jnp.sign(z), ints), {"margin": math.pi / 2, "scale": 2.0}, 1, None),
    "cosface margin 0": (L.cosface_loss, (z, ints), {"margin": 0, "scale": 2.0}, 1, lambda: integer(2 * z, ints)),
    "triplet degree 1": (
        L.triplet_margin_loss, (x, y, y), {"norm_degree": 1, "margin": 0}, 3, lambda: zeros(N)),
    "triplet, all equal": (L.triplet_margin_loss, (x, x, x), {"norm_degree": 3, "margin": 1}, 3, lambda: jnp.ones(N)),
    "cosine of equals": (L.cosine_distance, (x, x), {"epsilon": 0}, 2, lambda: zeros(N)),
    "cosine of opposites": (L.cosine_similarity, (x, -x), {}, 2, lambda: -jnp.ones(N)),
    "cosine of zeros": (L.cosine_similarity, (0 * x, x), {"epsilon": 0}, 2, lambda: zeros(N)),
    "divergence of equals": (L.kl_divergence, (jnp.log(probs), probs), {}, 2, lambda: zeros(N)),
    "dice smooth 0, empty class": (
        L.dice_loss, (0 * maps, 0 * segments), {"smooth": 0, "apply_softmax": False}, 1, lambda: zeros(N)),
    "dice alpha and beta 0": (L.dice_loss, (maps, segments), {"alpha": 0, "beta": 0}, 1, lambda: zeros(N)),
    "generalized dice, empty": (
        L.multiclass_generalized_dice_loss, (maps, 0 * segments), {"smooth": 0.0}, 1, None),
    "tversky of a power of 1": (
        L.tversky_loss, (maps, segments), {"alpha": 0.5, "beta": 0.5}, 1, lambda: L.dice_loss(maps, segments)),
    "tversky of a small power": (L.tversky_loss, (100 * maps, segments), {"gamma": 1e-3}, 1, None),
    "preference smoothing 0": (L.dpo_loss, four, {"label_smoothing": 0, "beta": 1.0}, 4, None),
    "simpo gamma 0": (L.simpo_loss, (x, x), {"gamma": 0}, 2, lambda: jnp.full((N, K), math.log(2))),
    "kto weights 0": (
        L.kto_loss, (x, y, bits == 1), {"desirable_weight": 0, "undesirable_weight": 0}, 2, lambda: zeros((N, K))),
    "barlow off-diagonal 0": (L.barlow_twins_loss, (x, x), {"off_diagonal": 0, "epsilon": 1e-30}, 2, lambda: zeros(())),
    "barlow, constant columns": (L.barlow_twins_loss, (0 * x, 0 * x), {}, 2, lambda: jnp.asarray(K * 1.0)),
    "vicreg weights 0": (
        L.vicreg_loss, (x, y), {"invariance": 0, "variance": 0, "covariance": 0}, 2, lambda: zeros(())),
    "vicreg, constant columns": (L.vicreg_loss, (0 * x, 0 * x), {"invariance": 0, "covariance": 0, "variance": 1}, 2,
                                 lambda: jnp.asarray(0.99)),
    "ranking weights 0": (
        L.ranking_softmax_loss, (out, probs), {"weights": zeros((N, K))}, 1, lambda: zeros(N)),
    "equal relevances": (L.pairwise_logistic_loss, (x, jnp.ones((N, K))), {}, 1, lambda: zeros(N)),
    "no relevant item": (L.lambda_rank_loss, (x, zeros((N, K))), {}, 1, lambda: zeros(N)),
    "equal embeddings": (
        L.ntxent, (jnp.ones((N, K)), jnp.asarray(GROUPS)), {"temperature": 1.0}, 1, lambda: jnp.full(N, math.log(5))),
    "no positives": (L.supervised_contrastive_loss, (x, jnp.arange(N)), {}, 1, lambda: zeros(N)),
    "one pair": (L.info_nce_loss, (x[:1], x[:1]), {}, 2, lambda: zeros(1)),
    "last layer, smoothing 1, label excluded": (
        L.linear_softmax_cross_entropy, (f, w, ints),
        {"label_smoothing": 1, "bias": zeros(7).at[ints[0]].set(-jnp.inf)}, 2,
        lambda: integer(f @ w + zeros((N, 7)).at[:, ints[0]].set(-jnp.inf), ints, label_smoothing=1)),
    "last layer, chunks of 1": (
        L.linear_softmax_cross_entropy, (f, w, ints), {"chunk_size": 1}, 2, lambda: integer(f @ w, ints)),
    "last layer, a chunk of more than all": (
        L.linear_softmax_cross_entropy, (f, w, ints), {"chunk_size": 99}, 2, lambda: integer(f @ w, ints)),
}  # fmt: skip


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ROWS_AT_BOUNDARIES)
def test_at_a_boundary_values_gradients_and_products_are_finite(name):
    loss, args, kwargs, count, expected = ROWS_AT_BOUNDARIES[name]

    @jax.jit
    def value_gradient_and_product(*moving):
        def gradient(*moving):
            return jax.grad(
                lambda *m: jnp.sum(loss(*m, *args[count:], **kwargs)), tuple(range(count))
            )(*moving)

        value = loss(*moving, *args[count:], **kwargs)
        return value, jax.jvp(gradient, moving, jax.tree.map(jnp.tanh, moving))

    results = value_gradient_and_product(*args[:count])
    assert finite(results)
    if expected is not None:
        np.testing.assert_allclose(results[0], expected(), rtol=1e-5, atol=2e-6)


def test_a_power_of_1_has_the_derivative_of_the_loss_itself_at_a_perfect_prediction():
    perfect = segments
    for loss in (
        functools.partial(L.dice_loss, alpha=0.3, beta=0.7, apply_softmax=False),
        functools.partial(L.tversky_loss, apply_softmax=False),
    ):
        slope = jax.grad(lambda p, loss=loss: jnp.sum(loss(p, segments)))(perfect)
        assert jnp.max(jnp.abs(slope)) > 0.01


def test_the_second_derivative_of_huber_at_0_is_1():
    for loss in (L.huber_loss, L.log_cosh):
        assert jax.jit(jax.hessian(loss))(0.0) == 1


def test_a_confident_logit_has_a_finite_second_derivative():
    for loss in (
        L.sigmoid_binary_cross_entropy,
        functools.partial(L.sigmoid_focal_loss, gamma=0.5),
        functools.partial(L.sigmoid_focal_loss, gamma=2.0, alpha=0.25),
    ):
        second = jax.vmap(jax.hessian(lambda x, loss=loss: loss(x, 0.0)))
        assert np.isfinite(second(jnp.array([-1e4, -100.0, -89.0, -88.0, -40.0, 0.0, 100.0]))).all()


def test_focal_losses_are_the_formula_in_double_precision(x64):
    rng = np.random.default_rng(0)
    logits, share = 5 * rng.normal(size=40), rng.uniform(size=40)
    p = 1 / (1 + np.exp(-logits))
    for gamma in (0.5, 1.0, 2.0):
        miss = (1 - p) * share + p * (1 - share)
        expected = miss**gamma * (-share * np.log(p) - (1 - share) * np.log(1 - p))
        np.testing.assert_allclose(
            L.sigmoid_focal_loss(logits, share, gamma=gamma), expected, rtol=1e-10
        )


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [(-1.0, -2.0), (-1e-10, -1e-3), (-1e-3, -1e-10), (-1e-30, -1.0), (-1.0, -1e-30), (0.0, -1.0)],
)
def test_odds_near_probability_1_are_exact(chosen, rejected):
    c, r = np.float64(chosen), np.float64(rejected)

    def odds(log_p):
        return np.exp(log_p) / -np.expm1(log_p) if log_p else np.inf

    ratio = odds(r) / odds(c)
    value, (of_c, of_r) = jax.value_and_grad(L.orpo_loss, (0, 1))(
        jnp.float32(chosen), jnp.float32(rejected)
    )
    np.testing.assert_allclose(value, np.log1p(ratio), rtol=1e-5)
    p, q = np.exp(c), np.exp(r)
    mixed = p * -np.expm1(r) + q * -np.expm1(c)
    np.testing.assert_allclose(of_c, -q / mixed, rtol=1e-5)
    np.testing.assert_allclose(of_r, q * np.expm1(c) / (np.expm1(r) * mixed), rtol=1e-5, atol=1e-30)


def test_a_rejected_answer_of_probability_1_gives_a_large_loss_and_no_gradient():
    value, slopes = jax.value_and_grad(L.orpo_loss, (0, 1))(-1.0, 0.0)
    assert 80 < value < 100
    assert slopes == (0, 0)


def test_positive_weights_are_scalars_or_one_for_each_class():
    labels = bits
    weights = jnp.arange(K, dtype=jnp.float32)
    expected = weights[None] * labels * softplus(-x) + (1 - labels) * softplus(x)
    given = L.sigmoid_binary_cross_entropy(x, labels, pos_weight=weights)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        L.sigmoid_binary_cross_entropy(x, labels, pos_weight=[0, 1, 2, 3, 4]), given
    )
    for wrong in (-1.0, np.float32(-1)):
        with pytest.raises(ValueError, match="pos_weight must be at least 0"):
            L.sigmoid_binary_cross_entropy(x, labels, pos_weight=wrong)
    with pytest.raises(ValueError, match=r"pos_weight is \(6,\), the logits are \(6, 5\)"):
        L.sigmoid_binary_cross_entropy(x, labels, pos_weight=jnp.ones(N))


@pytest.mark.parametrize("loss", [L.softmax_cross_entropy, L.safe_softmax_cross_entropy])
def test_class_weights_of_soft_labels_are_those_of_integer_labels(loss):
    weights = jnp.arange(K, dtype=jnp.float32)
    one_hot = jnp.eye(K)[ints]
    np.testing.assert_allclose(
        loss(x, one_hot, class_weights=weights), integer(x, ints, class_weights=weights), rtol=1e-5
    )
    np.testing.assert_allclose(
        loss(x.T, one_hot.T, axis=0, class_weights=weights),
        loss(x, one_hot, class_weights=weights),
        rtol=1e-6,
    )
    weights = jnp.arange(3 * K, dtype=jnp.float32)
    for order in ((0, 2), (2, 0)):  # of the axes, and of the weights
        pairs = [a.reshape(3, 2, K) for a in (x, one_hot)]
        moved = [jnp.transpose(a, (1, *order)).reshape(2, 3 * K) for a in pairs]
        np.testing.assert_allclose(
            loss(*pairs, axis=order, class_weights=weights),
            loss(*moved, class_weights=weights),
            rtol=1e-6,
        )
    with pytest.raises(ValueError, match=r"class_weights is \(3,\), it must be \(5,\)"):
        loss(x, one_hot, class_weights=jnp.ones(3))


@pytest.mark.parametrize(
    "loss",
    [L.dice_loss, L.tversky_loss, L.multiclass_generalized_dice_loss],
    ids=lambda f: f.__name__,
)
def test_integer_targets_of_a_segmentation_are_its_one_hot_targets(loss):
    labels = jnp.argmax(segments, -1).astype(jnp.int32)
    np.testing.assert_allclose(loss(maps, labels), loss(maps, segments), rtol=1e-6)
    ignored = labels.at[0, 1].set(255)
    mask = jnp.ones((N, K, 1), bool).at[0, 1].set(False)
    np.testing.assert_allclose(
        loss(maps, ignored, ignore_index=255), loss(maps, segments, where=mask), rtol=1e-6
    )
    invalid = loss(maps, ignored)
    assert np.isnan(invalid[0])
    np.testing.assert_allclose(invalid[1:], loss(maps, segments)[1:], rtol=1e-6)
    np.testing.assert_allclose(loss(maps, ignored, where=mask), loss(maps, segments, where=mask))
    with pytest.raises(ValueError, match="ignore_index needs integer targets"):
        loss(maps, segments, ignore_index=1)
    single = jnp.where(labels == 1, 1.0, 0.0)[..., None]
    if loss is not L.multiclass_generalized_dice_loss:
        np.testing.assert_allclose(loss(maps[..., :1], labels), loss(maps[..., :1], single))


def test_answers_are_sums_and_means_of_their_tokens():
    log_probs = jnp.array([[-1.0, -2.0, -3.0], [-4.0, jnp.nan, -jnp.inf]])
    mask = jnp.array([[True, True, True], [True, False, False]])
    np.testing.assert_array_equal(L.answer_log_probs(log_probs, where=mask), [-6, -4])
    np.testing.assert_array_equal(
        L.answer_log_probs(log_probs, where=mask, reduction="mean"), [-2, -4]
    )
    nothing = jnp.zeros((2, 3), bool)
    for reduction in ("sum", "mean"):
        value, slope = jax.value_and_grad(
            lambda x, reduction=reduction: jnp.sum(
                L.answer_log_probs(x, where=nothing, reduction=reduction)
            )
        )(log_probs)
        assert value == 0
        np.testing.assert_array_equal(slope, 0)
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', not 'none'"):
        L.answer_log_probs(log_probs, reduction="none")
