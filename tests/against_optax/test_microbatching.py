"""Strategies of microbatching, compared with optax's and with the whole batch at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optx_core import Accumulator, micro_grad, micro_vmap, microbatch

X = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)
STRATEGY = optax.microbatching.AccumulationType


@pytest.mark.parametrize(
    ("reduction", "theirs"),
    [
        ("sum", STRATEGY.SUM),
        ("mean", STRATEGY.MEAN),
        ("mean", STRATEGY.RUNNING_MEAN),
        ("concat", STRATEGY.CONCAT),
        ({"a": "sum", "b": "concat"}, {"a": STRATEGY.SUM, "b": STRATEGY.CONCAT}),
    ],
)
def test_each_strategy_is_optaxs(reduction, theirs):
    def f(x, *, shift):
        return {"a": jnp.tanh(x - shift), "b": 2 * x}

    ours = microbatch(f, 4, argnames="shift", reduction=reduction)
    expected = optax.microbatch(f, 0, 4, theirs, argnames="shift")
    shift = X[::-1]
    for one, other in zip(
        jax.tree.leaves(ours(X, shift=shift)),
        jax.tree.leaves(expected(X, shift=shift)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_batches_may_have_their_examples_on_different_axes():
    run = microbatch(lambda x, y: x @ y, 3, argnums=(0, 1), in_axes=(1, 0), reduction="sum")
    np.testing.assert_allclose(run(X.T, X), X.T @ X, rtol=1e-5)
    with pytest.raises(ValueError, match=r"batch\[0\]: 3, batch\[1\]: 12"):
        microbatch(lambda x, y: x, 3, argnums=(0, 1))(X.T, X)
    with pytest.raises(ValueError, match="in_axes has 1 axes for 2 batches"):
        microbatch(lambda x, y: x, 3, argnums=(0, 1), in_axes=(0,))


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "stack", "statistics"])
def test_fewer_slices_run_by_the_same_program(reduction):
    traces = []

    @jax.jit
    def run(real):
        traces.append(real)
        f = microbatch(lambda x: 2 * x, 3, reduction=reduction, num_real_microbatches=real)
        return f(X)

    done = jnp.stack([2 * X[k::4] for k in range(2)])
    made = run(2)
    run(3)
    assert len(traces) == 1
    if reduction == "stack":
        np.testing.assert_allclose(made, jnp.concatenate([done, jnp.zeros_like(done)]))
    elif reduction == "concat":
        real = (np.arange(12) % 4 < 2)[:, None]
        np.testing.assert_allclose(made, np.where(real, 2 * X, 0))
    elif reduction == "statistics":
        np.testing.assert_allclose(made.mean, done.mean(0), rtol=1e-5)
        np.testing.assert_allclose(made.variance, done.var(0), rtol=1e-4)
        assert int(made.count) == 2
    else:
        np.testing.assert_allclose(made, getattr(jnp, reduction)(done, 0), rtol=1e-5)


def test_an_accumulator_of_ones_own_sees_every_slice_and_its_number():
    weighted = Accumulator(
        init=lambda shapes: jnp.zeros(shapes.shape, shapes.dtype),
        update=lambda carry, x, index: carry + x * index.astype(x.dtype),
        finalize=lambda carry: {"sum": carry},
    )
    made = microbatch(jnp.sum, 4, reduction=weighted)(X)
    np.testing.assert_allclose(made["sum"], sum(k * jnp.sum(X[k::3]) for k in range(3)), rtol=1e-5)
    with pytest.raises(ValueError, match="reduction must be one of"):
        microbatch(jnp.sum, 4, reduction="median")
    with pytest.raises(ValueError, match="micro_vmap: reduction must be one of"):
        micro_vmap(jnp.sum, 4, reduction="statistics")


def test_gradients_of_single_examples_are_transformed_and_measured():
    def loss(w, x, y):
        return jnp.mean((x @ w - y) ** 2), {"y": y}

    w, y = jnp.asarray([0.5, -1.0, 2.0]), X[:, 0]
    both = lambda g: (g, g**2)
    grads, aux = micro_grad(
        loss, 4, batch_argnums=(1, 2), has_aux=True, transform_fn=both, metrics_fn=jnp.linalg.norm
    )(w, X, y)
    each = jax.vmap(jax.grad(lambda w, x, y: (x @ w - y) ** 2), (None, 0, 0))(w, X, y)
    np.testing.assert_allclose(grads[0], each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(grads[1], (each**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(aux.values, (X @ w - y) ** 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(aux.metrics, jnp.linalg.norm(each, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(aux.aux["y"][:, 0], y)


def test_one_can_differentiate_through_slices():
    f = lambda w: jnp.sum(microbatch(lambda x: jnp.tanh(x * w), 4, reduction="concat")(X) ** 2)
    np.testing.assert_allclose(
        jax.grad(f)(1.5), jax.grad(lambda w: jnp.sum(jnp.tanh(X * w) ** 2))(1.5), rtol=1e-5
    )


SPLIT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from optx_core import micro_grad

for kind in (AxisType.Explicit, AxisType.Auto):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(np.arange(64.0, dtype=np.float32).reshape(32, 2) / 64, P("data", None))
        w = jax.device_put(np.ones(2, np.float32), P())
        loss = lambda w, x: jnp.mean(jnp.tanh(x @ w) ** 2)
        step = jax.jit(micro_grad(loss, 8))
        np.testing.assert_allclose(step(w, x), jax.jit(jax.grad(loss))(w, x), rtol=1e-5)
        text = step.lower(w, x).compile().as_text()
        assert "all-gather" not in text and "all-to-all" not in text, kind
print("ok")
"""


def test_a_batch_split_over_devices_stays_where_it_is(on_devices):
    assert on_devices("-c", SPLIT).strip().endswith("ok")
