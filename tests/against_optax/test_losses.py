"""The same numbers as optax, gradients included; the differences meant are in the package's README."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.losses
import pytest

import optx_losses as L

RNG = np.random.default_rng(0)
N, K = 7, 5
F = lambda *shape: RNG.normal(size=shape).astype(np.float32)
X, Y = 2 * F(N, K), F(N, K)
PROBS = np.asarray(jax.nn.softmax(F(N, K)))
INTS = RNG.integers(0, K, N).astype(np.int32)
BITS = RNG.integers(0, 2, (N, K)).astype(np.float32)
MASK = RNG.random((N, K)) < 0.7
SEGMENTS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, (N, 4, 4))]
ROWS = [
    ("squared_error", (X, Y), {}),
    ("squared_error", (X,), {}),
    ("l2_loss", (X, Y), {}),
    ("huber_loss", (X, Y), {"delta": 0.5}),
    ("log_cosh", (X, Y), {}),
    ("cosine_similarity", (X, Y), {}),
    ("cosine_similarity", (X, Y), {"axis": 0}),
    ("cosine_distance", (X, Y), {}),
    ("softmax_cross_entropy", (X, PROBS), {}),
    ("softmax_cross_entropy", (X, PROBS), {"axis": 0}),
    ("softmax_cross_entropy", (X, PROBS), {"axis": (0, 1)}),
    ("safe_softmax_cross_entropy", (X, PROBS), {}),
    ("softmax_cross_entropy_with_integer_labels", (X, INTS), {}),
    ("poly_loss_cross_entropy", (X, PROBS), {"epsilon": 1.5}),
    ("sigmoid_binary_cross_entropy", (X, BITS), {}),
    ("sigmoid_focal_loss", (X, BITS), {"alpha": 0.3, "gamma": 1.5}),
    ("sigmoid_focal_loss", (X, BITS), {}),
    ("hinge_loss", (X, 2 * BITS - 1), {}),
    ("perceptron_loss", (X, 2 * BITS - 1), {}),
    ("multiclass_hinge_loss", (X, INTS), {}),
    ("multiclass_perceptron_loss", (X, INTS), {}),
    ("sparsemax_loss", (X, BITS.astype(np.int32)), {}),
    ("multiclass_sparsemax_loss", (X, INTS), {}),
    ("kl_divergence", (np.log(PROBS), PROBS[::-1]), {}),
    ("kl_divergence", (np.log(PROBS), PROBS[::-1]), {"where": MASK}),
    ("kl_divergence_with_log_targets", (np.log(PROBS), np.log(PROBS[::-1])), {}),
    ("convex_kl_divergence", (Y, PROBS), {}),
    ("generalized_kl_divergence", (Y, PROBS), {}),
    ("smooth_labels", (PROBS,), {"alpha": 0.2}),
    ("triplet_margin_loss", (X, Y, X[::-1]), {}),
    ("dice_loss", (F(N, 4, 4, 3), SEGMENTS), {"alpha": 0.3, "beta": 0.6, "class_weights": np.array([1.0, 2, 3], np.float32)}),
    ("dice_loss", (F(N, 4, 4, 3), SEGMENTS), {"ignore_background": True, "reduction": "none"}),
    ("dice_loss", (F(N, 4, 1), SEGMENTS[:, 0, :, :1]), {"reduction": "sum"}),
    ("binary_dice_loss", (X, BITS), {}),
]  # fmt: skip


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:The function convex_kl_divergence:DeprecationWarning")
@pytest.mark.parametrize(("name", "args", "kwargs"), ROWS)
def test_values_and_gradients_are_optaxs(name, args, kwargs):
    args = [jnp.asarray(a) for a in args]
    ours, theirs = getattr(L, name), getattr(optax.losses, name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = theirs(*args, **kwargs)
        slope = jax.grad(lambda x: jnp.sum(theirs(x, *args[1:], **kwargs)))(args[0])
    np.testing.assert_allclose(ours(*args, **kwargs), expected, rtol=2e-5, atol=2e-6)
    grad = jax.grad(lambda x: jnp.sum(ours(x, *args[1:], **kwargs)))(args[0])
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=2e-6)


def test_reduced_losses_of_optax_are_the_means_of_ours():
    groups = np.array([0, 0, 1, 1, 2, 2], np.int32)
    z = jnp.asarray(X[:6])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ntxent = optax.losses.ntxent(z, groups, 0.5)
        ranking = optax.losses.ranking_softmax_loss(
            jnp.asarray(X), jnp.asarray(BITS), where=jnp.asarray(MASK)
        )
    np.testing.assert_allclose(jnp.mean(L.ntxent(z, groups, 0.5)), ntxent, rtol=1e-5)
    mine = L.ranking_softmax_loss(
        jnp.asarray(X), jnp.asarray(BITS), where=jnp.asarray(MASK), reduce_fn=jnp.mean
    )
    np.testing.assert_allclose(mine, ranking, rtol=1e-5)


def test_the_least_norm_of_a_cosine_is_the_root_of_optaxs():
    ours = L.cosine_distance(jnp.asarray(X), jnp.asarray(Y), epsilon=3.0**0.5)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = optax.losses.cosine_distance(jnp.asarray(X), jnp.asarray(Y), epsilon=3.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_fenchel_young_losses_are_optaxs():
    ours = L.make_fenchel_young_loss(jax.nn.logsumexp)(jnp.asarray(X), jnp.asarray(PROBS))
    theirs = optax.losses.make_fenchel_young_loss(jax.nn.logsumexp)(
        jnp.asarray(X), jnp.asarray(PROBS)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_ctc_and_its_forward_probabilities_are_optaxs():
    logits, labels = jnp.asarray(F(4, 9, K)), jnp.asarray(RNG.integers(1, K, (4, 3)), jnp.int32)
    frames = jnp.asarray(np.arange(9)[None] >= np.array([9, 8, 7, 9])[:, None], jnp.float32)
    length = jnp.asarray(np.arange(3)[None] >= np.array([3, 0, 2, 1])[:, None], jnp.float32)
    ours = L.ctc_loss_with_forward_probs(logits, frames, labels, length)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = optax.losses.ctc_loss_with_forward_probs(logits, frames, labels, length)
        slope = jax.grad(lambda x: jnp.sum(optax.ctc_loss(x, frames, labels, length)))(logits)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        states = np.arange(mine.shape[2])[None] <= np.array([3, 0, 2, 1])[:, None] - (
            mine.shape[2] == 3
        )
        likely = (other > -1e3) & states[
            None
        ]  # of all but the last frame: there optax has the final transition in
        np.testing.assert_allclose(mine[:-1][likely[:-1]], other[:-1][likely[:-1]], rtol=1e-5)
    grad = jax.grad(lambda x: jnp.sum(L.ctc_loss(x, frames, labels, length)))(logits)
    np.testing.assert_allclose(grad, slope, atol=3e-6)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 4)])
def test_assignments_cost_what_optaxs_do(shape):
    costs = jnp.asarray(F(*shape))
    rows, columns = L.hungarian_algorithm(costs)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        i, j = optax.assignment.hungarian_algorithm(costs)
    np.testing.assert_allclose(costs[rows, columns].sum(), costs[i, j].sum(), rtol=1e-5)
