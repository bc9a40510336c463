"""Promises that every loss keeps: one row for each in `loss_table`."""

import functools
import inspect
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_table import (
    INTEGER_LABELS,
    INTS,
    ONE_AXIS,
    PROBS,
    ROWS,
    K,
    N,
    X,
    cast,
    has,
)

import optx_losses as L

LABELLED_ROWS = ["linear_softmax_cross_entropy", "linear_log_probs"]
every = pytest.mark.parametrize("name", ROWS)


def run(name, *args):
    return getattr(L, name)(*args, **ROWS[name][1])


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


@pytest.mark.sampled(6)
@every
def test_a_batch_of_batches_gives_the_same(name):
    args = cast(ROWS[name][0], jnp.float32)
    value = jax.jit(functools.partial(run, name))(*args)
    batched = jax.jit(jax.vmap(lambda *args: run(name, *args)))
    twice = batched(*[jnp.stack([a, a]) for a in args])
    np.testing.assert_allclose(twice, jnp.stack([value, value]), rtol=2e-5, atol=2e-6)


def test_on_eight_devices_losses_with_integer_labels_are_the_same_and_gather_no_logits(on_devices):
    on_devices(pathlib.Path(__file__).with_name("losses_on_eight_devices.py"))


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


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ROWS
        if has(name, "axis")
        and name not in ONE_AXIS
        and not any(kind in name for kind in ("dice", "tversky", "lovasz"))
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
    if name in INTEGER_LABELS:  # the order of the axes is that of the classes
        pairs = jnp.stack([args[0], -args[0]], axis=1)
        moved = jnp.swapaxes(pairs, 1, 2).reshape(N, 2 * K)
        if (weights := kwargs.get("class_weights")) is not None:
            kwargs["class_weights"] = jnp.arange(1.0, 2 * len(weights) + 1)
        turned = loss(pairs, args[1], **kwargs, axis=(2, 1))
        np.testing.assert_array_equal(turned, loss(moved, args[1], **kwargs))
    with pytest.raises(ValueError, match=f"{name}: axis=2 is out of range"):
        loss(*args, **kwargs, axis=2)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_no_number_is_refused_where_one_is_expected(name):
    args, kwargs = ROWS[name][:2]
    for argument, parameter in inspect.signature(getattr(L, name)).parameters.items():
        kind = str(parameter.annotation)
        bad = ["a", float("nan"), np.ones((2, 7)), lambda count: 1.0, True, [1.0], None]
        if kind not in ("Scalar", "float", "int", "Scalar | None"):
            continue
        for value in bad if "None" not in kind else bad[:-1]:
            with pytest.raises((TypeError, ValueError), match=f"^{name}: .*{argument}"):
                getattr(L, name)(*args, **{**kwargs, argument: value})


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
        match="labels must be integers, not float32; for probabilities of the classes use",
    ):
        L.softmax_cross_entropy_with_integer_labels(jnp.zeros((4, 3)), jnp.zeros(4))


def test_the_classes_of_a_segmentation_may_lie_on_any_axis_but_the_first():
    logits, labels = cast(ROWS["lovasz_softmax_loss"][0], jnp.float32)
    value = L.lovasz_softmax_loss(jnp.swapaxes(logits, 1, 2), labels, axis=1)
    np.testing.assert_allclose(value, L.lovasz_softmax_loss(logits, labels), rtol=1e-6)
    with pytest.raises(
        ValueError, match="lovasz_softmax_loss: axis=0 must be a single axis other than 0"
    ):
        L.lovasz_softmax_loss(logits, labels, axis=0)


def test_a_fenchel_young_loss_of_another_axis_is_that_of_the_transpose():
    x, p = cast((X, PROBS), jnp.float32)
    rows = L.make_fenchel_young_loss(jax.nn.logsumexp)(x, p)
    columns = L.make_fenchel_young_loss(jax.nn.logsumexp, axis=0)(x.T, p.T)
    np.testing.assert_allclose(columns, rows, rtol=1e-6)
    np.testing.assert_allclose(rows, L.softmax_cross_entropy(x, p), rtol=1e-5)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", [*INTEGER_LABELS, *LABELLED_ROWS])
def test_the_number_of_no_class_gives_nan_and_to_no_other_example(name):
    args, kwargs = cast(ROWS[name][0], jnp.float32), ROWS[name][1]
    place = len(args) - 1
    value = getattr(L, name)(*args, **kwargs)
    for wrong in (-1, 7 if name in LABELLED_ROWS else K, 2**31 - 1):
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
