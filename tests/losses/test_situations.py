"""Every loss in every situation: values, gradients and Hessian-vector products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_table import (
    BATCH_LEVEL,
    BY_EXAMPLE,
    INTEGER_LABELS,
    LAST_LAYER,
    MAY_BE_NEGATIVE,
    MINUS_INFINITY,
    ROWS,
    WITHOUT_ROW,
    K,
    N,
    as_integers,
    cast,
    excluded_by_where,
    filled,
    finite,
    has,
    inside,
    results_of,
    with_minus_infinity,
)

import optx_losses as L


def every(test):
    """Runs a test for each loss: losses times situations are many, of which one in eight runs always."""
    return pytest.mark.sampled(8)(pytest.mark.parametrize("name", ROWS)(test))


FILLS = (0.0, jnp.nan, jnp.inf, -jnp.inf, 1e30)
IGNORING = [
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "arcface_loss",
    "cosface_loss",
    "linear_softmax_cross_entropy",
    "linear_log_probs",
    "lovasz_softmax_loss",
    "binary_dice_loss",
    "dice_loss",
    "multiclass_generalized_dice_loss",
    "tversky_loss",
]


def assert_close(results, expected, rtol=1e-5, atol=1e-6):
    for a, b in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol
        )


def test_every_public_loss_has_a_row():
    assert set(L.__all__) == set(ROWS) | WITHOUT_ROW
    assert sorted(L.__all__) == L.__all__


def test_every_loss_that_can_ignore_examples_is_tested_for_it():
    assert {name for name in ROWS if has(name, "ignore_index")} == set(IGNORING)
    without_where = {name for name in ROWS if not has(name, "where")}
    assert not without_where


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision_gives_finite_float32_values_and_gradients_in_the_arguments_dtype(
    name, dtype
):
    args = cast(ROWS[name][0], dtype)
    results = results_of(name)(args, {})
    assert results.value.shape == ROWS[name][3]
    assert results.value.dtype == jnp.float32
    assert finite(results)
    if name not in MAY_BE_NEGATIVE:
        assert (results.value >= 0).all()
    moving = [args[i] for i in ROWS[name][2]]
    for part in (results.gradient, results.product):
        assert [g.dtype for g in part] == [a.dtype for a in moving]
    # Both modes compute in float32; what differs is that each gradient is rounded to its dtype.
    back = [g.astype(jnp.float32) for g in results.gradient]
    rounding = float(jnp.finfo(dtype).eps) * sum(jnp.sum(jnp.abs(g)) for g in back)
    np.testing.assert_allclose(
        jnp.sum(results.tangent), sum(jnp.sum(g) for g in back), rtol=1e-5, atol=rounding + 1e-4
    )


@every
def test_first_and_second_derivatives_are_those_of_finite_differences(name, x64):
    args = cast(ROWS[name][0], jnp.float64)
    results = results_of(name)(args, {})
    assert results.value.dtype == jnp.float64
    if name == "lambda_rank_loss":  # its weights have no gradient
        return
    moved = []
    for step in (1e-6, -1e-6):
        full = list(args)
        for i in ROWS[name][2]:
            direction = jnp.cos(jnp.arange(args[i].size, dtype=jnp.float32)).reshape(args[i].shape)
            full[i] = args[i] + step * direction.astype(jnp.float64)
        moved.append(results_of(name)(full, {}))
    plus, minus = moved
    for g, h, product in zip(plus.gradient, minus.gradient, results.product, strict=True):
        np.testing.assert_allclose(product, (g - h) / 2e-6, rtol=1e-4, atol=1e-5)
    slope = sum(
        jnp.sum(g * jnp.cos(jnp.arange(g.size, dtype=jnp.float32)).reshape(g.shape).astype(g.dtype))
        for g in results.gradient
    )
    difference = (jnp.sum(plus.value) - jnp.sum(minus.value)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-5)
    total = sum(jnp.sum(g) for g in results.gradient)
    np.testing.assert_allclose(jnp.sum(results.tangent), total, rtol=1e-8, atol=1e-9)


@every
def test_large_arguments_give_finite_values_gradients_and_products(name):
    args = cast(ROWS[name][0], jnp.float32)
    # exp(−x) overflows at 88.7; there, probabilities and their squares underflow.
    for scale in (0.0, 1e4, -1e4, 60.0, -86.0, 89.0, -100.0, 104.0):
        results = results_of(name)(inside(name, args, scale), {})
        assert finite(results), scale


@every
def test_an_example_of_nan_has_the_value_nan(name):
    args, (_, kwargs, wrt, shape) = cast(ROWS[name][0], jnp.float32), ROWS[name]
    example = min(2, len(args[0]) - 1)
    for i in wrt:
        if name in LAST_LAYER and i in (1, 3):
            continue
        invalid = [x.at[example].set(jnp.nan) if i == j else x for j, x in enumerate(args)]
        value = getattr(L, name)(*invalid, **kwargs)
        assert np.isnan(value[example] if shape else value).any(), i


@every
def test_an_empty_batch_gives_no_values(name):
    if name in BATCH_LEVEL:
        with pytest.raises(ValueError, match=name):
            getattr(L, name)(jnp.zeros((0, 3)), jnp.zeros((0, 3)))
        return
    args = [
        a if name in LAST_LAYER and i in (1, 3) else a[:0]
        for i, a in enumerate(cast(ROWS[name][0], jnp.float32))
    ]
    results = results_of(name)(args, {})
    shape = ROWS[name][3]
    assert results.value.shape == ((0, *shape[1:]) if shape else ())
    moving = [args[i] for i in ROWS[name][2]]
    for part in (results.gradient, results.product):
        assert all(g.shape == a.shape for g, a in zip(part, moving, strict=True))
        assert finite(part)


@every
def test_what_where_excludes_has_no_effect_whatever_it_holds(name):
    args, (_, kwargs, wrt, _) = cast(ROWS[name][0], jnp.float32), ROWS[name]
    mask, excluded = excluded_by_where(name)
    by_class = name in INTEGER_LABELS
    if by_class:
        args[1] = jnp.minimum(args[1], K - 2)
    program, first = results_of(name), None
    for fill in FILLS:
        results = program(filled(args, excluded, fill), {"where": jnp.asarray(mask)})
        assert finite(results), fill
        for part in (results.gradient, results.product):
            for i, g in zip(wrt, part, strict=True):
                if excluded[i] is not None:
                    np.testing.assert_array_equal(g[excluded[i]], 0)
        first = first or results
        assert_close(results, first)

    if "class_weights" in kwargs:
        return
    if mask.shape[0] == len(args[0]) and mask.ndim == 1:  # the mask selects examples
        keep = [a if out is None else a[mask] for a, out in zip(args, excluded, strict=True)]
        value, masked = first.value, ~mask
        if value.ndim:
            np.testing.assert_array_equal(value[masked], 0)
            value = value[mask]
    else:
        keep = [a if out is None else a[:, :-1] for a, out in zip(args, excluded, strict=True)]
        value = first.value
        if value.ndim == 2:
            np.testing.assert_array_equal(value[:, -1], 0)
            value = value[:, :-1]
    np.testing.assert_allclose(value, getattr(L, name)(*keep, **kwargs), rtol=1e-5, atol=1e-6)


@every
def test_a_mask_of_the_wrong_dtype_or_shape_is_refused(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    mask, _ = excluded_by_where(name)
    loss = getattr(L, name)
    with pytest.raises(TypeError, match=f"{name}: where must be boolean"):
        loss(*args, **kwargs, where=jnp.ones(mask.shape))
    with pytest.raises(ValueError, match=f"{name}: where is"):
        loss(*args, **kwargs, where=jnp.ones((*mask.shape, 2), bool))
    with pytest.raises(ValueError, match=rf"{name}: where is .*; write where\[..., 0\]"):
        loss(*args, **kwargs, where=jnp.ones((*mask.shape, 1), bool))
    with pytest.raises(ValueError, match=f"{name}: where is"):
        loss(*args, **kwargs, where=jnp.ones((len(mask) + 1, *mask.shape[1:]), bool))


@pytest.mark.parametrize(
    "name", [name for name in ROWS if ROWS[name][3] == (N,) and name not in BY_EXAMPLE]
)
def test_a_mask_of_size_1_along_the_classes_selects_examples(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    if name in LAST_LAYER:  # the mask is of the examples
        return
    mask = np.ones((N,) + (1,) * (args[0].ndim - 1), bool)
    mask[2] = False
    loss = getattr(L, name)
    if name == "lovasz_hinge_loss":
        mask = np.broadcast_to(mask, args[0].shape)
    value = loss(*args, **kwargs, where=jnp.asarray(mask))
    whole = np.broadcast_to(mask, args[0].shape)
    np.testing.assert_array_equal(value, loss(*args, **kwargs, where=jnp.asarray(whole)))
    if name in INTEGER_LABELS or name.endswith("softmax_cross_entropy"):
        by_example = jnp.asarray(mask[:, 0])
        np.testing.assert_array_equal(value, loss(*args, **kwargs, where=by_example))
    others = np.arange(N) != 2
    np.testing.assert_allclose(value[others], loss(*args, **kwargs)[others], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", IGNORING)
def test_ignored_labels_give_0_and_no_derivatives_whatever_the_example_holds(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    place = len(args) - 1
    if name in ("dice_loss", "multiclass_generalized_dice_loss", "tversky_loss"):
        args[1] = jnp.argmax(args[1], axis=-1).astype(jnp.int32)
    y, others = args[place], np.arange(N) != 2
    labels = y.at[2].set(-100)

    @jax.jit
    def results_for(fill):
        x = args[0].at[2].set(fill)

        def f(x):
            return getattr(L, name)(x, *args[1:place], labels, **kwargs, ignore_index=-100)

        gradient = jax.grad(lambda x: jnp.sum(f(x)))
        return f(x), *jax.jvp(gradient, (x,), (jnp.ones_like(x),))

    expected = results_for(0.0)
    assert expected[0][2] == 0
    for fill in FILLS:
        results = results_for(fill)
        assert finite(results), fill
        assert_close(results, expected)
        np.testing.assert_array_equal(results[1][2], 0)
        np.testing.assert_array_equal(results[2][2], 0)
    cut = [a[others] if a.shape[:1] == (N,) else a for a in [*args[:place], labels]]
    alone = getattr(L, name)(*cut, **kwargs)
    np.testing.assert_allclose(expected[0][others], alone, rtol=1e-5, atol=1e-6)
    for ignored in (1, 2**31 - 1):
        labels_in_range = jnp.where(y == ignored, 0, y).at[2].set(ignored)
        full = [args[0].at[2].set(jnp.nan), *args[1:place], labels_in_range]
        value = getattr(L, name)(*full, **kwargs, ignore_index=ignored)
        assert value[2] == 0
        assert finite(value)


def test_ignored_rows_of_nan_leave_the_weights_gradient_of_the_last_layer_finite():
    f, w, y = cast(ROWS["linear_softmax_cross_entropy"][0], jnp.float32)
    f, y = f.at[2].set(jnp.nan), y.at[2].set(-100)
    others = np.arange(N) != 2
    for how in ({}, {"recompute": True}, {"chunk_size": 2}):
        slope = jax.grad(
            lambda w, how=how: jnp.sum(
                L.linear_softmax_cross_entropy(f, w, y, ignore_index=-100, **how)
            )
        )(w)
        expected = jax.grad(
            lambda w: jnp.sum(L.linear_softmax_cross_entropy(f[others], w, y[others]))
        )(w)
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MINUS_INFINITY)
def test_a_class_of_minus_infinity_that_the_targets_lack_is_as_if_cut_away(name):
    args, kwargs = with_minus_infinity(name), ROWS[name][1]
    results = results_of(name)(args, {})
    assert finite(results)
    np.testing.assert_array_equal(results.gradient[0][..., -1], 0)
    np.testing.assert_array_equal(results.product[0][..., -1], 0)
    if "class_weights" not in kwargs:
        by_class = name in INTEGER_LABELS or name == "ctc_loss"
        cut = [a[..., :-1] if i == 0 or not by_class else a for i, a in enumerate(args)]
        np.testing.assert_allclose(
            results.value, getattr(L, name)(*cut, **kwargs), rtol=1e-5, atol=1e-6
        )


@every
def test_python_numbers_and_integers_are_arguments_like_arrays(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    loss = getattr(L, name)
    lists = [a.tolist() for a in args]
    expected = loss(*args, **kwargs)
    np.testing.assert_array_equal(loss(*lists, **kwargs), expected)
    mask, _ = excluded_by_where(name)
    np.testing.assert_array_equal(
        loss(*lists, **kwargs, where=mask.tolist()), loss(*args, **kwargs, where=mask)
    )

    @jax.jit
    def gradient_and_product(x):
        return jax.jvp(
            jax.grad(lambda x: jnp.sum(loss(x, *lists[1:], **kwargs))), (x,), (jnp.ones_like(x),)
        )

    gradient, product = gradient_and_product(args[0])
    assert finite(product)
    expected_gradient = results_of(name)(args, {}).gradient[0]
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    whole = as_integers(args)
    floats = [
        a.astype(jnp.float32) if b.dtype == jnp.float32 else a
        for a, b in zip(whole, args, strict=True)
    ]
    np.testing.assert_array_equal(loss(*whole, **kwargs), loss(*floats, **kwargs))


@pytest.mark.parametrize("loss", [L.squared_error, L.softmax_cross_entropy, L.log_cosh])
def test_the_gradient_of_a_list_of_numbers_is_a_list_of_numbers(loss):
    x, y = [[0.5, -1.0], [2.0, 3.0]], [[0.5, 0.5], [1, 0]]
    slope = jax.grad(lambda x: jnp.sum(loss(x, y)))(x)
    expected = jax.grad(lambda x: jnp.sum(loss(x, jnp.asarray(y))))(jnp.asarray(x))
    np.testing.assert_allclose(np.asarray(slope), expected, rtol=1e-6)


def test_python_numbers_have_no_say_in_the_dtype(x64):
    x = jnp.ones(2, jnp.float32)
    assert L.squared_error(x, [1.0, 2.0]).dtype == jnp.float32
    assert L.squared_error([1.0, 2.0], [1, 2]).dtype == jnp.float64
    assert L.kto_loss(x, x, x > 0, 0.5).dtype == jnp.float32
    assert L.squared_error(x, np.ones(2)).dtype == jnp.float64
    assert L.squared_error(2.0, 1).shape == ()


@pytest.mark.parametrize("name", INTEGER_LABELS)
def test_labels_of_any_integer_dtype_mean_the_same_class_and_never_wrap_around(name):
    (x, y), kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    loss = getattr(L, name)
    expected = loss(x, y, **kwargs)
    for dtype in ("int8", "uint8", "int16", "uint32", "int64"):
        np.testing.assert_array_equal(loss(x, np.asarray(y, dtype), **kwargs), expected)
    for wrong in (2**32 + 1, 2**40, -(2**32) + 1):
        assert np.isnan(loss(x, np.asarray(y, np.int64) * 0 + wrong, **kwargs)).all()
    assert np.isnan(loss(x, np.full(N, 2**32 - 1, np.uint32), **kwargs)).all()
    if has(name, "ignore_index"):
        for labels in (np.asarray(y, np.uint32), np.asarray(y, np.uint8)):
            np.testing.assert_array_equal(loss(x, labels, **kwargs, ignore_index=-100), expected)
        with pytest.raises(TypeError, match=f"{name}: ignore_index must be an integer or None"):
            loss(x, y, **kwargs, ignore_index=1.5)


@every
def test_what_is_no_array_of_numbers_is_refused_by_name(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    for wrong in (None, "abc", {"a": 1}, object(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match=name):
            getattr(L, name)(wrong, *args[1:], **kwargs)
