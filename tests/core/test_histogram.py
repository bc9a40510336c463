"""Histograms of magnitudes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import (
    MaskedNode,
    chain,
    gradient_histogram,
    log2_histogram,
    metrics,
    monitor,
    scale,
    snapshot,
    tree,
)
from optx_testing import check_transformation


def by_hand(values, low, high):
    """The counts, one value at a time."""
    counts = np.zeros(high - low + 4, int)
    for value in np.abs(np.asarray(values).astype(np.complex128)).ravel():
        if value == 0:
            counts[0] += 1
        elif not np.isfinite(value):
            counts[-1] += 1
        else:
            counts[int(np.clip(np.floor(np.log2(value)), low - 1, high)) - low + 2] += 1
    return counts


VALUES = {
    "powers of two": 2.0 ** np.arange(-30, 31),
    "just below them": np.nextafter(
        np.float32(2.0) ** np.arange(-30, 31, dtype=np.float32), np.float32(0)
    ),
    "zeros": np.zeros((2, 3)),
    "not finite": np.array([np.nan, np.inf, -np.inf, 1.0]),
    "extremes": np.array([1e-37, 3e38, -1e-20, 65504.0]),
    "normal": np.random.default_rng(0).normal(size=(4, 5, 6)) * 1e-3,
    "complex": np.array([3 + 4j, 0j, 1e-9j]),
    "a scalar": np.array(0.3),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize(("low", "high"), [(-24, 8), (-3, 2), (0, 1)])
@pytest.mark.parametrize("name", VALUES)
def test_each_entry_is_counted_once_in_its_bin(name, low, high):
    wide = jnp.complex64 if np.iscomplexobj(VALUES[name]) else jnp.float32
    values = jnp.asarray(VALUES[name], wide)
    counts = log2_histogram({"w": values}, low, high)["w"]
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, by_hand(values, low, high))
    assert int(counts.sum()) == values.size


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_dtypes_are_counted_where_they_are(dtype):
    values = jnp.asarray([0.5, 1.0, 1.5, 4.0, 0.0], dtype)
    np.testing.assert_array_equal(log2_histogram(values, -2, 3), [1, 0, 0, 1, 2, 0, 1, 0, 0])


def test_missing_gradients_have_no_counts():
    grads = {"a": jnp.ones(2), "b": None, "c": MaskedNode()}
    counts = log2_histogram(grads)
    assert counts["b"] is None
    assert isinstance(counts["c"], MaskedNode)


def test_the_transformation_keeps_the_last_histogram_and_leaves_the_updates():
    tx = chain(gradient_histogram(-2, 1), scale(0.5))
    params = {"w": jnp.zeros(3), "b": jnp.zeros(2)}
    state = tx.init(params)
    np.testing.assert_array_equal(metrics(state)["histogram"]["w"], np.zeros(7))
    grads = {"w": jnp.array([0.3, 0.4, 8.0]), "b": jnp.array([0.0, jnp.nan])}
    for _ in range(2):
        updates, state = jax.jit(tx.update)(grads, state)
    np.testing.assert_array_equal(updates["w"], 0.5 * grads["w"])
    read = metrics(state)["histogram"]
    np.testing.assert_array_equal(read["w"], [0, 0, 2, 0, 0, 1, 0])
    np.testing.assert_array_equal(read["b"], [1, 0, 0, 0, 0, 0, 1])
    assert tree.get(state, "histogram") is read


def test_it_keeps_every_promise():
    check_transformation(gradient_histogram(-3, 3))
    assert repr(gradient_histogram()) == "gradient_histogram(low=-24, high=8)"


def test_it_is_a_measurement_for_snapshot_and_monitor():
    grads = {"w": jnp.array([0.3])}
    for tx in (
        snapshot("h", log2_histogram),
        monitor({"h": functools.partial(log2_histogram, low=-24)}),
    ):
        _, state = tx.update(grads, tx.init(grads))
        assert int(metrics(state)["h"]["w"].sum()) == 1


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0.5, 3), (0, None)])
def test_bins_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="gradient_histogram: low must be less than high"):
        gradient_histogram(low, high)
    with pytest.raises(ValueError, match="log2_histogram: low must be less than high"):
        log2_histogram(jnp.ones(1), low, high)
