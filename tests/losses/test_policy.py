"""Policy losses and advantages, beside the papers' equations in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

RNG = np.random.default_rng(0)
ROWS, TOKENS = 4, 6
OLD = -np.abs(RNG.normal(size=(ROWS, TOKENS))) - 0.5
NEW = OLD + 0.4 * RNG.normal(size=(ROWS, TOKENS))
REF = OLD + 0.4 * RNG.normal(size=(ROWS, TOKENS))
ENTROPY = np.abs(RNG.normal(size=(ROWS, TOKENS)))
A = np.array([1.5, -0.7, 0.2, -1.1])
MASK = np.arange(TOKENS)[None] < np.array([6, 2, 4, 1])[:, None]
# Packed, these are the rows 0 and 1, then 2 and 3: the mask cuts none of them.
PACKED_IDS = np.array([[3] * 6 + [5] * 2, [7] * 4 + [9] + [0] * 3])
PACKED_MASK = np.array([[True] * 8, [True] * 5 + [False] * 3])

exp, where, clip = np.exp, np.where, np.clip
sigmoid = lambda x: 1 / (1 + exp(-x))


def packed(x):
    """The tokens of four rows in two, with NaN in the padding."""
    rows = [x[0], x[1, :2]], [x[2, :4], x[3, :1], np.full(3, np.nan)]
    return jnp.asarray([np.concatenate(row) for row in rows])


def token_mean(loss):
    return loss[MASK].sum() / MASK.sum()


def sequence_mean(loss):
    return np.mean([row[there].mean() for row, there in zip(loss, MASK, strict=True)])


def sequence_sum(loss):
    return np.mean([row[there].sum() / 10 for row, there in zip(loss, MASK, strict=True)])


def ratio(log_p):
    return exp(log_p - OLD)


def sequence_ratio(log_p):
    means = [d[there].mean() for d, there in zip(log_p - OLD, MASK, strict=True)]
    return np.broadcast_to(exp(means)[:, None], OLD.shape)


def surrogate(r, low=0.2, high=0.2):
    return -np.minimum(r * A[:, None], clip(r, 1 - low, 1 + high) * A[:, None])


def dual(r):
    return where(A[:, None] < 0, np.minimum(surrogate(r), -1.3 * A[:, None]), surrogate(r))


def k3(log_p):
    return exp(REF - log_p) - (REF - log_p) - 1


def soft(r):
    tau = where(A > 0, 1.0, 1.05)[:, None]
    return -A[:, None] * sigmoid(tau * (r - 1)) * 4 / tau


WEIGHT = clip(ratio(NEW), None, 1.3)  # of CISPO, without a derivative
KL = {"reference_log_probs": REF, "kl_coefficient": 0.3}

# name: (loss, arguments, the paper's equation as a function of log π)
CASES = {
    "ppo": (L.ppo_loss, {}, lambda p: token_mean(surrogate(ratio(p)))),
    "ppo, dual clip": (L.ppo_loss, {"dual_clip": 1.3}, lambda p: token_mean(dual(ratio(p)))),
    "ppo, entropy": (
        L.ppo_loss, {"entropy": ENTROPY, "entropy_coefficient": 0.1},
        lambda p: token_mean(surrogate(ratio(p)) - 0.1 * ENTROPY)),
    "grpo": (L.grpo_loss, KL, lambda p: sequence_mean(surrogate(ratio(p)) + 0.3 * k3(p))),
    "dr. grpo": (L.dr_grpo_loss, {"max_length": 10}, lambda p: sequence_sum(surrogate(ratio(p)))),
    "dapo": (L.dapo_loss, {}, lambda p: token_mean(surrogate(ratio(p), 0.2, 0.28))),
    "bnpo": (L.bnpo_loss, KL, lambda p: token_mean(surrogate(ratio(p)) + 0.3 * k3(p))),
    "gspo": (
        L.gspo_loss, {"clip": (0.1, 0.2)}, lambda p: sequence_mean(surrogate(sequence_ratio(p), 0.1, 0.2))),
    "cispo": (L.cispo_loss, {"clip": (None, 0.3)}, lambda p: token_mean(-WEIGHT * A[:, None] * p)),
    "sapo": (L.sapo_loss, {}, lambda p: sequence_mean(soft(ratio(p)))),
    "not clipped": (
        L.policy_loss, {"aggregate": "sequence", "clip": None}, lambda p: sequence_mean(-A[:, None] * ratio(p))),
    "k1": (
        L.policy_loss, {"aggregate": "token", "kl": "k1", **KL},
        lambda p: token_mean(surrogate(ratio(p)) + 0.3 * (p - REF))),
    "k2": (
        L.policy_loss, {"aggregate": "token", "kl": "k2", **KL},
        lambda p: token_mean(surrogate(ratio(p)) + 0.15 * (p - REF) ** 2)),
}  # fmt: skip


def slopes(f, x, step=1e-6):
    """The gradient by central differences."""
    eye = np.eye(x.size).reshape(x.size, *x.shape) * step
    return np.array([(f(x + d) - f(x - d)) / (2 * step) for d in eye]).reshape(x.shape)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_paper(name, x64):
    loss, options, oracle = CASES[name]
    given = where(MASK, NEW, np.nan)  # padding
    value_and_gradient = jax.value_and_grad(lambda p: loss(p, OLD, A, where=MASK, **options))
    value, gradient = jax.jit(value_and_gradient)(given)
    np.testing.assert_allclose(value, oracle(NEW), rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes(oracle, NEW), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["grpo", "dr. grpo", "gspo"])
def test_packed_sequences_have_the_loss_and_the_gradient_of_rows(name, x64):
    loss, options, _ = CASES[name]

    given = {k: packed(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    old, a = packed(OLD), packed(np.broadcast_to(A[:, None], OLD.shape))

    def of_packed(p):
        return loss(p, old, a, segment_ids=PACKED_IDS, where=PACKED_MASK, **given)

    of_rows = jax.value_and_grad(lambda p: loss(p, OLD, A, where=MASK, **options))
    value, gradient = jax.jit(of_rows)(NEW)
    value_packed, gradient_packed = jax.jit(jax.value_and_grad(of_packed))(packed(NEW))
    np.testing.assert_allclose(value_packed, value, rtol=1e-12)
    expected = packed(np.asarray(gradient))
    np.testing.assert_allclose(gradient_packed, where(PACKED_MASK, expected, 0), rtol=1e-12)


def test_a_sequence_without_tokens_does_not_count():
    mask = np.array(MASK)
    mask[1] = False
    rest = np.array([0, 2, 3])
    for loss, options in (
        (L.grpo_loss, {}),
        (L.dr_grpo_loss, {"max_length": 10}),
        (L.gspo_loss, {}),
    ):
        value = loss(NEW, OLD, A, where=mask, **options)
        np.testing.assert_allclose(
            value, loss(NEW[rest], OLD[rest], A[rest], where=MASK[rest], **options), rtol=1e-6
        )
        np.testing.assert_array_equal(loss(NEW, OLD, A, where=mask & False, **options), 0)


def test_on_policy_the_gradient_is_that_of_the_policy_gradient():
    gradient = jax.jit(jax.grad(lambda p: L.grpo_loss(p, None, A)))(NEW)
    np.testing.assert_allclose(
        gradient, np.broadcast_to(-A[:, None], NEW.shape) / NEW.size, rtol=1e-5
    )


@pytest.mark.parametrize("aggregate", ["token", "none"])
def test_improbable_tokens_have_finite_losses_and_gradients_that_lead_back(aggregate):
    old, a = jnp.full((1, 3), -1e4), jnp.array([[-1.0, -1.0, 1.0]])
    log_p, ref = jnp.array([[0.0, -2e4, -jnp.inf]]), jnp.array([[-1.0, -1.0, -1e4]])

    @jax.jit
    def value_and_gradients(p):
        def loss(p, **options):
            return jnp.sum(L.policy_loss(p, old, a, aggregate=aggregate, **options))

        kl = {"reference_log_probs": ref, "kl_coefficient": 0.1}
        with_kl = jax.grad(lambda p: loss(p, **kl))(jnp.maximum(p, -2e4))
        return *jax.value_and_grad(loss)(p), with_kl

    value, gradient, with_kl = value_and_gradients(log_p)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert gradient[0, 0] > 0  # the ratio is to fall
    assert np.isfinite(with_kl).all()
    assert with_kl[0, 1] < 0  # log π is to rise to log ref


def test_arguments_that_lack_their_partner_are_refused():
    loss = lambda **options: L.policy_loss(
        NEW, OLD, **{"advantages": A, "aggregate": "token", **options}
    )
    for options, message in [
        ({"aggregate": "mean"}, "aggregate must be one of token, sequence"),
        ({"aggregate": "sequence-sum"}, "max_length belongs to aggregate 'sequence-sum'"),
        ({"max_length": 3}, "max_length belongs to aggregate 'sequence-sum'"),
        ({"kl_coefficient": 0.1}, "reference_log_probs and kl_coefficient go together"),
        ({"kl": "k1"}, "kl='k1' needs kl_coefficient, and reference_log_probs"),
        ({"entropy": ENTROPY}, "entropy and entropy_coefficient go together"),
        ({"clip": (-0.1, None)}, "clip's lower bound must be at least 0"),
        ({"dual_clip": 1.0}, "dual_clip must be greater than 1"),
        ({"as_weight": True, "dual_clip": 3.0}, ".*omit dual_clip"),
        ({"segment_ids": PACKED_IDS}, "advantages is|segment_ids is"),
        ({"clip": np.array([0.2, 0.28])}, "clip's lower bound is .*must be a scalar"),
        ({"clip": (0.1, 0.2, 0.3)}, "clip must be a pair"),
        ({"advantages": A[:, None]}, r"advantages is .*write advantages\[..., 0\]"),
        ({**KL, "kl_coefficient": np.ones((4, 1))}, "kl_coefficient is .*must be a scalar"),
        ({"aggregate": "sequence-sum", "max_length": MASK.sum(1)}, "max_length is .*a scalar"),
    ]:
        with pytest.raises(ValueError, match=f"policy_loss: {message}"):
            loss(**options)
    with pytest.raises(TypeError, match="aggregate"):
        L.policy_loss(NEW, OLD, A)
    with pytest.raises(ValueError, match="sapo_loss: temperature must be a pair"):
        L.sapo_loss(NEW, OLD, A, temperature=1.0)


def test_advantages_of_groups_are_those_of_numpy(x64):
    rewards = RNG.normal(size=(3, 4))
    centred = rewards - rewards.mean(1, keepdims=True)
    expected = {
        "std": centred / (rewards.std(1, ddof=1, keepdims=True) + 1e-4),
        "batch-std": centred / (rewards.std(ddof=1) + 1e-4),
        None: centred,
    }
    for scale, want in expected.items():
        advantages = functools.partial(L.group_relative_advantages, scale=scale)
        got = jax.jit(functools.partial(advantages, group_size=4))(rewards.ravel())
        np.testing.assert_allclose(got, want.ravel(), rtol=1e-12)
        if scale == "std":
            turned = jax.jit(functools.partial(advantages, axis=0))(rewards.T)
            np.testing.assert_allclose(turned, want.T, rtol=1e-12)
    invalid = L.group_relative_advantages([1.0, np.nan, 0.0, 1.0], group_size=2, scale="batch-std")
    assert np.isnan(invalid).all()  # the deviation is that of all rewards
    with pytest.raises(ValueError, match="group_size=5 does not divide the 12 rewards"):
        L.group_relative_advantages(rewards.ravel(), group_size=5)
    with pytest.raises(ValueError, match="group_size must be a positive number of answers"):
        L.group_relative_advantages(rewards.ravel(), group_size=4.0)


def test_equal_rewards_have_no_advantage_and_a_finite_gradient():
    def total(r):
        advantages = L.group_relative_advantages(r)
        return jnp.sum(advantages**2), advantages

    for rewards in (jnp.full(5, 0.1), jnp.ones((2, 1))):
        gradient, advantages = jax.jit(jax.grad(total, has_aux=True))(rewards)
        np.testing.assert_array_equal(advantages, 0)
        np.testing.assert_array_equal(gradient, 0)


def gae(r, v, gamma, decay, last=0.0):
    advantages, following = np.zeros_like(r), 0.0
    for t in reversed(range(len(r))):
        following = (
            r[t]
            + gamma[t] * (v[t + 1] if t + 1 < len(r) else last)
            - v[t]
            + gamma[t] * decay * following
        )
        advantages[t] = following
    return advantages


def test_generalized_advantages_are_those_of_the_recursion(x64):
    r, v, gamma = RNG.normal(size=7), RNG.normal(size=7), np.full(7, 0.9)
    gamma[3] = 0  # an episode ends
    got = L.generalized_advantage_estimate(r, v, discount=gamma, trace_decay=0.8, bootstrap=2.0)
    np.testing.assert_allclose(got, gae(r, v, gamma, 0.8, 2.0), rtol=1e-12)
    there = np.array([1, 1, 0, 1, 0, 1, 1]) == 1
    got = L.generalized_advantage_estimate(
        where(there, r, np.nan), v, discount=0.9, trace_decay=0.8, where=there
    )
    np.testing.assert_allclose(
        got[there], gae(r[there], v[there], np.full(5, 0.9), 0.8), rtol=1e-12
    )
    np.testing.assert_array_equal(got[~there], 0)
    with pytest.raises(ValueError, match="discount must be at most 1"):
        L.generalized_advantage_estimate(r, v, discount=np.float32(2))
    with pytest.raises(ValueError, match="bootstrap is"):
        L.generalized_advantage_estimate(np.ones((2, 3)), np.ones((2, 3)), bootstrap=np.ones(3))


def test_a_trajectory_ends_at_a_masked_step_too():
    r, v = jnp.array([1.0, 2.0, 0.0, 4.0]), jnp.array([0.5, 0.25, 9.0, 1.0])
    discount, mask = jnp.array([0.9, 0.9, 0.0, 0.9]), jnp.array([True, True, False, True])
    given = functools.partial(L.generalized_advantage_estimate, trace_decay=0.8, bootstrap=3.0)
    last = L.generalized_advantage_estimate(r[:2], v[:2], discount=0.9, trace_decay=0.8)
    first = given(r[3:], v[3:], discount=0.9)
    np.testing.assert_allclose(
        given(r, v, discount=discount, where=mask), [*last, 0.0, *first], rtol=1e-6
    )
    skipped = given(r, v, discount=0.9, where=mask)
    expected = given(r[np.array([0, 1, 3])], v[np.array([0, 1, 3])], discount=0.9)
    np.testing.assert_allclose(skipped[np.array([0, 1, 3])], expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("divisor", ["std", "batch-std"])
def test_rewards_of_any_size_have_the_same_advantages(scale, divisor):
    rewards = np.array([[1.0, 2.0, 4.0], [0.0, 3.0, 3.0]], np.float32)
    of = functools.partial(L.group_relative_advantages, scale=divisor, epsilon=0.0)
    np.testing.assert_allclose(of(rewards * np.float32(scale)), of(rewards), rtol=1e-5)


def test_the_share_of_the_teacher_is_refused_where_it_is_not_used():
    features, weights, logits = jnp.ones((1, 2)), jnp.zeros((2, 2)), jnp.zeros((1, 2))
    with pytest.raises(ValueError, match=r"linear_distillation_loss: beta .* not in 'reverse'"):
        L.linear_distillation_loss(
            features, weights, teacher_logits=logits, divergence="reverse", beta=0.5
        )
