"""Log-probabilities and distillation of the last layer in chunks: the numbers of all logits at once."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

ROWS, CLASSES = 11, 7
RNG = np.random.default_rng(0)
F, W, B = RNG.normal(size=(ROWS, 3)), RNG.normal(size=(3, CLASSES)), RNG.normal(size=CLASSES)
T, W_T, B_T = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(4, CLASSES)), RNG.normal(size=CLASSES)
B[4] = -np.inf  # padding of the vocabulary
Y = RNG.choice([0, 1, 2, 3, 5, 6], ROWS).astype(np.int32)
COTANGENTS = np.cos(np.arange(ROWS)), np.sin(np.arange(ROWS))
same = functools.partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-12)


def at_once(f, w, b, temperature, cap):
    """log p_y and the entropy of each row."""
    present = b > -jnp.inf
    x = f @ w + jnp.where(present, b, 0)[None]
    log_p = jax.nn.log_softmax(cap * jnp.tanh(x / cap) / temperature, where=present[None])
    log_p = jnp.where(present[None], log_p, 0)
    entropy = -jnp.sum(jnp.where(present[None], jnp.exp(log_p) * log_p, 0), axis=1)
    return jnp.take_along_axis(log_p, Y[:, None], 1)[:, 0], entropy


def in_chunks(f, w, b, temperature, cap, **how):
    result = L.linear_log_probs(
        f, w, Y, bias=b, temperature=temperature, soft_cap=cap, chunk_size=4, **how
    )
    return result if how else (result, jnp.zeros(ROWS))


@pytest.mark.parametrize("entropy", [False, True])
def test_log_probabilities_and_their_derivatives_are_those_of_all_logits(entropy, x64):
    given = (F, W, B, 1.3, 2.0)
    chunked = functools.partial(in_chunks, entropy=True) if entropy else in_chunks

    def total(pair):
        return lambda *args: sum(
            jnp.sum(c * x) for c, x in zip(COTANGENTS[: 1 + entropy], pair(*args), strict=False)
        )

    def results(pair):
        def product(f, w):
            gradient = jax.grad(lambda f, w: total(pair)(f, w, *given[2:]), (0, 1))
            return jax.jvp(gradient, (f, w), (jnp.cos(f), jnp.sin(w)))[1]

        value, gradient = jax.value_and_grad(total(pair), (0, 1, 2, 3, 4))(*given)
        return pair(*given)[: 1 + entropy], value, gradient, product(F, W)

    same(jax.jit(lambda: results(chunked))(), jax.jit(lambda: results(at_once))())


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_divergences_from_a_teacher_and_their_derivatives_are_those_of_all_logits(divergence, x64):
    beta, temperature = 0.3, 1.5

    def plain(f, w, b):
        x, x_t = f @ w + b[None], T @ W_T + B_T[None]
        log_s, log_t = jax.nn.log_softmax(x / temperature), jax.nn.log_softmax(x_t / temperature)
        s, t = jnp.exp(log_s), jnp.exp(log_t)
        if divergence == "forward":
            return jnp.sum(t * (log_t - log_s), axis=1)
        if divergence == "reverse":
            return jnp.sum(s * (log_s - log_t), axis=1)
        log_m = jnp.log(beta * t + (1 - beta) * s)
        return beta * jnp.sum(t * (log_t - log_m), 1) + (1 - beta) * jnp.sum(s * (log_s - log_m), 1)

    def chunked(f, w, b, *, logits=False, **how):
        teacher = {"teacher_logits": T @ W_T + B_T[None]}
        if not logits:
            teacher = {"teacher_features": T, "teacher_weights": W_T, "teacher_bias": B_T}
        options = {"divergence": divergence, "temperature": temperature, **how}
        options |= {"beta": beta} if divergence == "jsd" else {}
        return L.linear_distillation_loss(f, w, bias=b, chunk_size=4, **teacher, **options)

    def results(loss):
        mean, weighted = (
            lambda *args, c=c: jnp.sum(c * loss(*args)) for c in (1 / ROWS, COTANGENTS[0])
        )
        args = F, W, np.where(np.isfinite(B), B, 0)
        return loss(*args), *(jax.grad(total, (0, 1, 2))(*args) for total in (mean, weighted))

    expected = jax.jit(lambda: results(plain))()
    same(jax.jit(lambda: results(chunked))(), expected)
    other = functools.partial(chunked, logits=True, recompute=True)
    same(jax.jit(lambda: results(other))(), expected)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_a_class_that_student_and_teacher_exclude_is_as_if_cut_away(divergence):
    present = np.arange(CLASSES) != 4

    def gradient(w, b, w_t, b_t):
        return jax.jit(
            jax.value_and_grad(
                lambda f: jnp.sum(
                    L.linear_distillation_loss(
                        f, w, T, w_t, bias=b, teacher_bias=b_t, divergence=divergence
                    )
                )
            )
        )(jnp.asarray(F, jnp.float32))

    b_t = np.where(present, B_T, -np.inf)
    whole = gradient(W, B, W_T, b_t)
    cut = gradient(W[:, present], B[present], W_T[:, present], b_t[present])
    chex.assert_trees_all_close(whole, cut, rtol=1e-5, atol=1e-6)


W_T_32 = W_T.astype(np.float32)
LOSSES = {
    "temperature": lambda f, w, t: L.linear_log_probs(f, w, Y, temperature=2.0),
    "soft cap": lambda f, w, t: L.linear_softmax_cross_entropy(f, w, Y, soft_cap=2.0),
    **{
        d: lambda f, w, t, d=d: L.linear_distillation_loss(f, w, t, W_T_32, divergence=d)
        for d in ("forward", "reverse", "jsd")
    },
}


@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_taken_for_an_excluded_class(name):
    loss, invalid = jax.jit(LOSSES[name]), np.arange(ROWS) == 2
    rows_of_nan = lambda x: jnp.where(invalid[:, None], jnp.nan, x)
    np.testing.assert_array_equal(np.isnan(loss(rows_of_nan(F), W, T)), invalid)
    teacher = np.isnan(loss(F, W, rows_of_nan(T)))
    np.testing.assert_array_equal(teacher, invalid & (name in ("forward", "reverse", "jsd")))
    assert np.isnan(loss(F, np.where(np.arange(CLASSES) == 4, np.nan, W), T)).all()  # a class


def test_half_precision_has_the_gradients_of_double_precision_rounded_once(x64):
    """All sums are in float32, whatever the number of chunks."""
    half = jnp.asarray(F, jnp.bfloat16), jnp.asarray(W, jnp.bfloat16)
    teacher = jnp.asarray(T, jnp.float32)
    losses = [LOSSES[name] for name in ("temperature", "soft cap", "jsd")]

    def results(f, w):
        totals = [lambda f, w, loss=loss: jnp.sum(loss(f, w, teacher)) for loss in losses]
        return [jax.value_and_grad(total, (0, 1))(f, w) for total in totals]

    run = jax.jit(results)
    for (value, gradients), (exact, slopes) in zip(
        run(*half), run(*(x.astype(jnp.float64) for x in half)), strict=True
    ):
        np.testing.assert_allclose(value, exact, rtol=1e-5)
        for got, want in zip(gradients, slopes, strict=True):
            assert got.dtype == jnp.bfloat16
            np.testing.assert_allclose(got.astype(jnp.float64), want, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("loss", [L.linear_softmax_cross_entropy, L.linear_log_probs])
def test_shapes_that_do_not_match_are_named_with_their_cure(loss):
    f, w, name = jnp.asarray(F), jnp.asarray(W), loss.__name__
    for args, options, error, message in [
        ((f, w.T, Y), {}, ValueError, r".*weights is \(7, 3\).*; write weights.T"),
        ((f[0, 0], w, Y), {}, ValueError, r"features is \(\), weights is"),
        ((f, w[:, :0], Y), {}, ValueError, ".*there must be at least one class"),
        ((f, w, Y[:, None]), {}, ValueError, r"labels is .*; write labels\[..., 0\]"),
        ((f, w, Y[None]), {}, ValueError, r"labels is \(1, 11\), it must be \(11,\)"),
        ((f, w, Y > 2), {}, TypeError, "labels must be integers, not bool"),
        ((f, w, jnp.eye(7)[Y]), {}, TypeError, "labels must be .*use linear_distillation_loss"),
        ((f, w, Y), {"bias": jnp.ones((7, 1))}, ValueError, r"bias is .*; write bias\[..., 0\]"),
        ((f, w, Y), {"chunk_size": 2.0}, ValueError, "chunk_size must be a positive number"),
    ]:
        with pytest.raises(error, match=f"{name}: {message}"):
            loss(*args, **options)
    np.testing.assert_array_equal(
        loss(f, w, Y, chunk_size=np.int64(4)), loss(f, w, Y, chunk_size=4)
    )


def test_the_teacher_is_given_once_and_fits():
    distil = functools.partial(L.linear_distillation_loss, F, W)
    for args, options, message in [
        ((), {}, "give the teacher as teacher_features and teacher_weights, or as teacher_logits"),
        ((T, W_T), {"teacher_logits": T @ W_T}, "give the teacher as"),
        (
            (),
            {"teacher_logits": T @ W_T, "teacher_bias": B_T},
            "teacher_logits include teacher_bias",
        ),
        ((), {"teacher_logits": T}, "teacher_logits is"),
        ((), {"teacher_logits": (T @ W_T).T}, "teacher_logits is .*; write teacher_logits.T"),
        ((T[:3], W_T), {}, "features has rows"),
        ((T, W_T[:, :3]), {}, "teacher_weights is"),
        ((T, W_T), {"divergence": "kl"}, "divergence must be 'forward'"),
        ((T, W_T), {"divergence": "jsd", "beta": 1.0}, "beta must be less than 1"),
    ]:
        with pytest.raises(ValueError, match=f"linear_distillation_loss: {message}"):
            distil(*args, **options)


def test_temporaries_are_a_small_part_of_those_of_all_logits():
    f, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in [(4096, 512), (512, 50_000)])
    y = jax.ShapeDtypeStruct((4096,), jnp.int32)

    def temporaries(loss):
        gradient = jax.value_and_grad(lambda f, w, y: jnp.mean(loss(f, w, y)), (0, 1))
        return jax.jit(gradient).lower(f, w, y).compile().memory_analysis().temp_size_in_bytes

    def log_probs(f, w, y):
        return jnp.take_along_axis(jax.nn.log_softmax(f @ w), y[:, None], 1)[:, 0]

    def forward(f, w, y):
        log_s, log_t = jax.nn.log_softmax(f @ w), jax.nn.log_softmax(2 * f @ w)
        return jnp.sum(jnp.exp(log_t) * (log_t - log_s), axis=1)

    rows = jnp.arange(4096, dtype=jnp.float32)
    chunked = temporaries(lambda f, w, y: rows * L.linear_log_probs(f, w, y))
    assert chunked <= 0.25 * temporaries(lambda f, w, y: rows * log_probs(f, w, y))
    chunked = temporaries(lambda f, w, y: L.linear_distillation_loss(f, w, 2 * f, w))
    assert chunked <= 0.25 * temporaries(forward)
