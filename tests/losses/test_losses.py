"""Promises that every loss keeps: one row for each."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    "gaussian_nll_loss": ((X, Y, np.abs(Y)), {"full": True}, (0, 1, 2), (N, K)),
    "poisson_nll_loss": ((X, 3 * np.abs(Y)), {"full": True}, (0,), (N, K)),
    "cosine_similarity": ((X, Y), {}, (0, 1), (N,)),
    "cosine_distance": ((X, Y), {}, (0, 1), (N,)),
    "softmax_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    "safe_softmax_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    "poly_loss_cross_entropy": ((X, PROBS), {}, (0, 1), (N,)),
    "softmax_cross_entropy_with_integer_labels": (
        (X, INTS), {"label_smoothing": 0.1, "z_loss": 1e-3, "class_weights": np.arange(1.0, 6.0)}, (0,), (N,)),
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
    "ctc_loss": (
        (RNG.normal(size=(2, 6, 4)), np.zeros((2, 6)), np.array([[1, 1], [2, 3]]), np.zeros((2, 2))), {}, (0,), (2,)),
}  # fmt: skip
MAY_BE_NEGATIVE = {
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
every = pytest.mark.parametrize("name", ROWS)


def run(name, *args):
    kwargs = ROWS[name][1]
    return getattr(L, name)(*args, **kwargs)


def cast(args, dtype):
    """The arguments with their floats cast; integers as they are."""
    made = [
        jnp.asarray(a, dtype) if np.issubdtype(a.dtype, np.floating) else jnp.asarray(a)
        for a in args
    ]
    return [jnp.asarray(a, jnp.int32) if a.dtype == jnp.int64 else a for a in made]


@functools.cache
def derivatives(name):
    """One program: the values, their derivatives in the direction of ones, the gradients of their sum."""

    @jax.jit
    def all_three(*args):
        f, some = moving(name, args)
        value, tangent = jax.jvp(f, some, [jnp.ones_like(a) for a in some])
        return value, tangent, jax.vjp(f, *some)[1](jnp.ones_like(value))

    return all_three


def moving(name, args):
    """The loss as a function of the arguments that are differentiated, and these."""
    wrt = ROWS[name][2]

    def f(*some):
        full = list(args)
        for i, a in zip(wrt, some, strict=True):
            full[i] = a
        return run(name, *full)

    return f, [args[i] for i in wrt]


def test_every_public_loss_has_a_row():
    others = {"make_fenchel_young_loss", "hungarian_algorithm", "ctc_loss_with_forward_probs"}
    assert set(L.__all__) == set(ROWS) | others
    assert sorted(L.__all__) == L.__all__


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_values_jvp_and_vjp_are_finite_one_per_example_and_float32_at_least(name, dtype):
    args = cast(ROWS[name][0], dtype)
    value, tangent, back = derivatives(name)(*args)
    some = [args[i] for i in ROWS[name][2]]
    assert value.shape == ROWS[name][3]
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()
    assert np.isfinite(tangent).all()
    for g, a in zip(back, some, strict=True):
        assert g.dtype == a.dtype
        assert np.isfinite(g.astype(jnp.float32)).all()
    if name not in MAY_BE_NEGATIVE:
        assert (value >= 0).all()
    # Both modes compute in float32; what differs is that each gradient is rounded to its dtype.
    back = [g.astype(jnp.float32) for g in back]
    rounding = float(jnp.finfo(dtype).eps) * sum(jnp.sum(jnp.abs(g)) for g in back)
    np.testing.assert_allclose(
        jnp.sum(tangent), sum(jnp.sum(g) for g in back), rtol=1e-5, atol=rounding + 1e-4
    )


@every
def test_derivatives_are_those_of_finite_differences_in_double_precision(name, x64):
    args = cast(ROWS[name][0], jnp.float64)
    f, some = moving(name, args)
    f = jax.jit(f)
    value = f(*some)
    assert value.dtype == jnp.float64
    rng = np.random.default_rng(1)
    directions = [jnp.asarray(rng.normal(size=a.shape)) for a in some]
    if name == "lambda_rank_loss":  # its weights have no gradient
        return
    _, tangent = jax.jvp(f, some, directions)
    step = 1e-6
    plus, minus = (
        f(*[a + s * d for a, d in zip(some, directions, strict=True)]) for s in (step, -step)
    )
    np.testing.assert_allclose(tangent, (plus - minus) / (2 * step), rtol=1e-5, atol=1e-6)
    _, pull = jax.vjp(f, *some)
    weights = jnp.asarray(rng.normal(size=value.shape))
    back = sum(jnp.sum(g * d) for g, d in zip(pull(weights), directions, strict=True))
    np.testing.assert_allclose(back, jnp.sum(weights * tangent), rtol=1e-8, atol=1e-9)


@every
def test_zeros_and_values_of_1e4_are_finite_in_value_and_derivatives(name):
    for scale in (0.0, 1e4, -1e4):
        args = cast(ROWS[name][0], jnp.float32)
        wrt = ROWS[name][2]
        if name in ("arcface_loss", "cosface_loss"):
            scale = np.sign(scale)
        if name in ("orpo_loss", "kl_divergence_with_log_targets", "poisson_nll_loss") and scale:
            scale = -abs(scale)
            args = [jnp.abs(a) for a in args]
        if name == "generalized_kl_divergence" and scale:
            continue  # signs differ, and exp(1e4) is infinite in the mathematics too
        if name in ("kl_divergence", "convex_kl_divergence") and scale < 0:
            continue  # targets must be at least 0
        only = [
            i
            for i in wrt
            if not (
                i == 1
                and name.startswith(("kl_", "convex", "generalized", "softmax", "safe", "poly"))
            )
        ]
        args = [
            jnp.asarray(np.sign(a) * scale, jnp.float32)
            if i in only and scale
            else (jnp.zeros_like(a) if i in only else a)
            for i, a in enumerate(args)
        ]
        value, tangent, back = derivatives(name)(*args)
        assert np.isfinite(value).all(), scale
        assert np.isfinite(tangent).all(), scale
        assert all(np.isfinite(g).all() for g in back), scale


@every
def test_an_empty_batch_gives_no_values(name):
    if name in BATCH_LEVEL:
        with pytest.raises(ValueError, match=name):
            run(name, jnp.zeros((0, 3)), jnp.zeros((0, 3)))
        return
    args = [
        a if name == "linear_softmax_cross_entropy" and i == 1 else a[:0]
        for i, a in enumerate(cast(ROWS[name][0], jnp.float32))
    ]
    value, _, back = derivatives(name)(*args)
    some = [args[i] for i in ROWS[name][2]]
    assert value.shape == (0, *ROWS[name][3][1:])
    assert all(g.shape == a.shape for g, a in zip(back, some, strict=True))


@every
def test_wrong_shapes_are_refused_by_name(name):
    args = cast(ROWS[name][0], jnp.float32)
    if len(args) < 2:
        return
    for i in range(len(args)):
        wrong = list(args)
        wrong[i] = args[i][..., None]
        with pytest.raises(ValueError, match=name):
            run(name, *wrong)
    with pytest.raises(TypeError, match=name):
        run(name, args[0].astype(jnp.complex64), *args[1:])


@every
def test_a_batch_of_batches_gives_the_same(name):
    args = cast(ROWS[name][0], jnp.float32)
    value = derivatives(name)(*args)[0]
    batched = jax.jit(jax.vmap(lambda *args: run(name, *args)))
    twice = batched(*[jnp.stack([a, a]) for a in args])
    np.testing.assert_allclose(twice, jnp.stack([value, value]), rtol=2e-5, atol=2e-6)


def has(name, argument):
    return argument in inspect.signature(getattr(L, name)).parameters


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_examples_that_where_leaves_out_are_as_if_cut_away(name):
    args = cast(ROWS[name][0], jnp.float32)
    there = np.array([True, True, False, True, True, False])
    if name == "lovasz_softmax_loss":  # its where is of pixels
        args, there = [jnp.swapaxes(a, 0, 1)[:1] for a in args], np.ones((1, N), bool)
        there[0, [2, 5]] = False
        cut = [a[:, there[0]] for a in args]
    else:
        cut = [a[there] for a in args]
    kwargs, like = ROWS[name][1], [i for i, a in enumerate(args) if a.dtype == jnp.float32]
    expected = jax.jit(functools.partial(getattr(L, name), **kwargs))(*cut)

    @jax.jit
    def loss_and_gradients(*given):
        def f(*some):
            full = list(given)
            for i, a in zip(like, some, strict=True):
                full[i] = a
            value = getattr(L, name)(*full, **kwargs, where=jnp.asarray(there))
            return jnp.sum(value), value

        return jax.value_and_grad(f, tuple(range(len(like))), has_aux=True)(
            *[given[i] for i in like]
        )

    for fill in (0.0, jnp.nan, jnp.inf, 1e30):
        mask = [there[(...,) + (None,) * (a.ndim - there.ndim)] for a in args]
        filled = [jnp.where(mask[i], a, fill) if i in like else a for i, a in enumerate(args)]
        (_, value), back = loss_and_gradients(*filled)
        if value.ndim and name != "lovasz_softmax_loss":
            np.testing.assert_array_equal(value[~there], 0)
            value = value[there]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        for g in back:
            assert np.isfinite(g).all()
            np.testing.assert_array_equal(g[~there], 0)


def test_a_batch_of_which_nothing_counts_is_0_with_no_gradient():
    nothing, z = jnp.zeros(3, bool), jnp.full((3, 2), jnp.nan)
    labels = jnp.zeros(3, jnp.int32)
    for loss in (
        lambda z: L.info_nce_loss(z, z, where=nothing),
        lambda z: L.ntxent(z, labels, where=nothing),
        lambda z: L.supervised_contrastive_loss(z, labels, where=nothing),
    ):
        np.testing.assert_array_equal(loss(z), 0)
        np.testing.assert_array_equal(jax.grad(lambda z, loss=loss: jnp.sum(loss(z)))(z), 0)


@pytest.mark.parametrize(
    "name", [name for name in ROWS if has(name, "where") and name not in BY_EXAMPLE]
)
def test_what_where_leaves_out_has_no_say_whatever_it_holds(name):
    args = cast(ROWS[name][0], jnp.float32)
    mask = np.ones(args[0].shape, bool)
    mask[:, -1] = False
    kwargs = dict(ROWS[name][1])
    like = [i for i, a in enumerate(args) if a.shape == args[0].shape and a.dtype == jnp.float32]
    if name == "kto_loss":
        like = [0, 1]
    integer = (
        name.startswith(
            ("multiclass_h", "multiclass_p", "multiclass_s", "softmax_f", "arcface", "cosface")
        )
        or "integer" in name
    )
    if integer:
        args[1] = jnp.minimum(args[1], K - 2)
    results = []
    wrt = [i for i in ROWS[name][2] if i in like]

    @jax.jit
    def everything(*full):
        def f(*some):
            given = list(full)
            for i, a in zip(wrt, some, strict=True):
                given[i] = a
            return getattr(L, name)(*given, **kwargs, where=jnp.asarray(mask))

        some = tuple(full[i] for i in wrt)
        value, tangent = jax.jvp(f, some, tuple(jnp.ones_like(a) for a in some))
        return value, tangent, *jax.vjp(f, *some)[1](jnp.ones_like(value))

    for fill in (0.0, jnp.inf, -jnp.inf, jnp.nan, 1e30):
        filled = [jnp.where(mask, a, fill) if i in like else a for i, a in enumerate(args)]
        value, tangent, *back = everything(*filled)
        results.append((value, tangent, *back))
        assert np.isfinite(value).all(), fill
        assert np.isfinite(tangent).all(), fill
        for g in back:
            np.testing.assert_array_equal(g[:, -1], 0)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    if (
        results[0][0].ndim == 1
        and not integer
        and args[0].ndim == 2
        and "class_weights" not in kwargs
    ):
        cut = [a[:, :-1] if a.shape[:2] == (N, K) else a for a in args]
        np.testing.assert_allclose(results[0][0], getattr(L, name)(*cut, **kwargs), rtol=1e-5)
    with pytest.raises(TypeError, match=f"{name}: where must be boolean"):
        getattr(L, name)(*args, **kwargs, where=jnp.ones(args[0].shape))
    with pytest.raises(ValueError, match=f"{name}: where is"):
        getattr(L, name)(*args, **kwargs, where=jnp.ones((1,), bool))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ROWS
        if has(name, "axis") and not any(kind in name for kind in ("dice", "tversky", "lovasz"))
    ],
)
def test_the_axis_may_be_any_and_several(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), dict(ROWS[name][1])
    loss = getattr(L, name)
    along = lambda **axis: jax.jit(functools.partial(loss, **kwargs, **axis))
    value = along()(*args)
    turned = [a.T if a.ndim == 2 else a for a in args]
    first = along(axis=0)(*turned)
    np.testing.assert_allclose(first, value.T if value.ndim == 2 else value, rtol=1e-5, atol=1e-6)
    split = [a.reshape(N, 1, K) if a.ndim == 2 else a for a in args]
    two = along(axis=(1, 2))(*split)
    np.testing.assert_allclose(two.reshape(value.shape), value, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=f"{name}: axis=2 is out of range"):
        loss(*args, **kwargs, axis=2)


def test_a_column_of_predictions_against_a_row_of_targets_is_named_with_its_cure():
    with pytest.raises(
        ValueError,
        match=r"squared_error: predictions is \(4, 1\), targets is \(4,\).*write predictions\[\.\.\., 0\]",
    ):
        L.squared_error(jnp.zeros((4, 1)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"labels must be integers|labels is \(4, 1\)"):
        L.softmax_cross_entropy_with_integer_labels(jnp.zeros((4, 3)), jnp.zeros((4, 1), jnp.int32))
    with pytest.raises(
        TypeError,
        match="labels must be integers, not float32; for shares of classes use softmax_cross_entropy",
    ):
        L.softmax_cross_entropy_with_integer_labels(jnp.zeros((4, 3)), jnp.zeros(4))


def test_the_classes_of_a_segmentation_may_lie_on_any_axis_but_the_first():
    logits, labels = cast(ROWS["lovasz_softmax_loss"][0], jnp.float32)
    value = L.lovasz_softmax_loss(jnp.swapaxes(logits, 1, 2), labels, axis=1)
    np.testing.assert_allclose(value, L.lovasz_softmax_loss(logits, labels), rtol=1e-6)
    with pytest.raises(ValueError, match="lovasz_softmax_loss: axis=0 must be one axis, and not"):
        L.lovasz_softmax_loss(logits, labels, axis=0)


def test_a_fenchel_young_loss_of_another_axis_is_that_of_the_transpose():
    x, p = cast((X, PROBS), jnp.float32)
    rows = L.make_fenchel_young_loss(jax.nn.logsumexp)(x, p)
    columns = L.make_fenchel_young_loss(jax.nn.logsumexp, axis=0)(x.T, p.T)
    np.testing.assert_allclose(columns, rows, rtol=1e-6)
    np.testing.assert_allclose(rows, L.softmax_cross_entropy(x, p), rtol=1e-5)


INTEGER_LABELS = [
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "arcface_loss",
    "cosface_loss",
]


IGNORING = [
    name
    for name in [*INTEGER_LABELS, "linear_softmax_cross_entropy"]
    if "ignore_index" in inspect.signature(getattr(L, name)).parameters
]


@pytest.mark.parametrize("ignored", [-100, 1, 2**31 - 1])
@pytest.mark.parametrize("name", IGNORING)
def test_an_ignored_label_gives_0_and_no_gradient_whether_or_not_in_range(name, ignored):
    (x, *between, y), kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    y = jnp.where(y == 1, 0, y).at[2].set(ignored)

    def loss(x, y):
        return getattr(L, name)(x, *between, y, **kwargs, ignore_index=ignored)

    value, pull = jax.vjp(lambda x: loss(x, y), x)
    (slope,) = pull(jnp.ones_like(value))
    assert value[2] == 0
    np.testing.assert_array_equal(slope[2], 0)
    others = np.arange(len(y)) != 2
    alone, pull = jax.vjp(lambda x: loss(x, y[others]), x[others])
    np.testing.assert_allclose(value[others], alone, rtol=1e-6)
    np.testing.assert_allclose(slope[others], pull(jnp.ones_like(alone))[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*INTEGER_LABELS, "linear_softmax_cross_entropy"])
def test_the_number_of_no_class_gives_nan_and_to_no_other_example(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    place = len(args) - 1
    value = getattr(L, name)(*args, **kwargs)
    for wrong in (-1, 7 if name == "linear_softmax_cross_entropy" else K, 2**31 - 1):
        given = [*args[:place], args[place].at[2].set(wrong)]

        def loss(x, given=given):
            return getattr(L, name)(x, *given[1:], **kwargs)

        made, pull = jax.vjp(loss, args[0])
        assert np.isnan(made[2])
        np.testing.assert_allclose(made[jnp.arange(N) != 2], value[jnp.arange(N) != 2], rtol=1e-6)
        (g,) = pull(jnp.ones(N))
        assert np.isfinite(g[jnp.arange(N) != 2]).all()
        assert not np.isfinite(g[2]).all()


@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy_with_integer_labels", "softmax_focal_loss"]
)
def test_a_logit_of_minus_infinity_is_a_class_left_out(name):
    x = jnp.asarray(X, jnp.float32)
    labels = jnp.minimum(jnp.asarray(INTS), K - 2)
    out = x.at[:, -1].set(-jnp.inf)
    loss = getattr(L, name)
    np.testing.assert_allclose(loss(out, labels), loss(x[:, :-1], labels), rtol=1e-6)
    _, tangent = jax.jvp(lambda x: loss(x, labels), (out,), (jnp.ones_like(out),))
    assert np.isfinite(tangent).all()
    g = jax.grad(lambda x: jnp.sum(loss(x, labels)))(out)
    assert np.isfinite(g).all()
    np.testing.assert_array_equal(g[:, -1], 0)


def test_the_assignment_is_the_cheapest_of_all_permutations():
    rng = np.random.default_rng(3)
    solve = jax.jit(L.hungarian_algorithm)
    for _ in range(20):
        costs = rng.integers(-3, 4, (4, 5)).astype(np.float32)  # many ties
        rows, columns = solve(jnp.asarray(costs))
        best = min(
            sum(costs[i, j] for i, j in enumerate(some))
            for some in itertools.permutations(range(5), 4)
        )
        assert len(set(map(int, columns))) == 4
        assert costs[rows, columns].sum() == best
        other, turned = L.hungarian_algorithm(jnp.asarray(costs.T))
        assert costs.T[other, turned].sum() == best
