"""`compile_step`: the same steps as `nnx.jit`, on one flat list of arrays."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import chain, inject_hyperparams, scale_by_learning_rate, trace, with_ema
from optx_flax import compile_step, hyperparams, set_hyperparam


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Model(nnx.Module):
    """BatchNorm, Dropout, tied weights, a list, a bare array, a bias that is None, an integer."""

    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, use_bias=False, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.tied = self.layers[1].kernel
        self.calls = nnx.Variable(jnp.array(0, jnp.int32))
        self.shift = nnx.data(jnp.ones(4))

    def __call__(self, x):
        self.calls[...] += 1
        x = self.dropout(self.norm(self.layers[1](self.layers[0](x))))
        return x @ self.tied[...] + self.shift


def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - 1) ** 2))(model)
    optimizer.update(model, grads)
    return loss


def made():
    model = Model(nnx.Rngs(0))
    tx = with_ema(chain(trace(0.9), scale_by_learning_rate(0.05)))
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def small():
    """A model that compiles fast, for what does not depend on the kinds of its parts."""
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, scale_by_learning_rate(0.05), wrt=nnx.Param)


def arrays(objects):
    def plain(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(plain, nnx.as_pure(nnx.state(objects)))


X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 3)), jnp.float32)


@pytest.fixture(scope="module")
def expected():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model, optimizer = made()
        step = nnx.jit(train_step)
        losses = [float(step(model, optimizer, x)) for x in X]
    return losses, arrays((model, optimizer))


@pytest.mark.parametrize("donate", [True, False])
def test_a_model_of_all_kinds_trains_as_under_nnx_jit(expected, donate):
    objects = made()
    with compile_step(train_step, *objects, donate=donate) as step:
        losses = [float(step(x)) for x in X]
    np.testing.assert_allclose(losses, expected[0], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        arrays(objects),
        expected[1],
    )
    assert objects[0].tied is objects[0].layers[1].kernel
    assert int(objects[0].calls[...]) == int(objects[1].step[...]) == 6


def test_scan_takes_a_step_for_each_entry(expected):
    objects = made()
    with compile_step(train_step, *objects) as step:
        first = step(X[0])
        rest = step.scan(X[1:])
    np.testing.assert_allclose([float(first), *rest], expected[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        arrays(objects),
        expected[1],
    )


def test_the_step_is_traced_once_and_once_more_for_another_shape():
    traced = []
    objects = small()

    def counted(model, optimizer, x):
        traced.append(x.shape)
        return train_step(model, optimizer, x)

    step = compile_step(counted, *objects)
    for x in (X[0], X[1], X[2][:4], X[3]):
        step(x)
    step.sync()
    step(X[0])
    assert traced == [(8, 3), (4, 3)]


def test_values_that_are_held_say_so_and_come_back():
    model, optimizer = small()
    shift = nnx.Dict(bare=nnx.data(jnp.ones(2)))
    step = compile_step(lambda m, o, s, x: train_step(m, o, x), model, optimizer, shift)
    step(X[0])
    message = "held by a compiled step: call its sync"
    for read in (
        lambda: model.kernel[...] + 1,
        lambda: shift["bare"] + 1,
        lambda: jnp.asarray(model.kernel),
        lambda: np.asarray(model.bias[...]),
        lambda: float(optimizer.step[...]),
        lambda: jnp.sum(optimizer.step[...]),
        lambda: model(X[0]),
        lambda: compile_step(train_step, model, optimizer)(X[0]),
    ):
        with pytest.raises(RuntimeError, match=message):
            read()
    assert "held by compile_step" in repr(model.kernel)
    step.sync()
    assert bool(jnp.isfinite(model(X[0])).all())
    step.sync()  # nothing is held: no harm


def test_what_is_changed_between_sync_and_the_next_step_counts():
    model = nnx.Linear(2, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    tx = inject_hyperparams(scale_by_learning_rate)(learning_rate=1.0)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    traced = []

    def move(model, optimizer):
        traced.append(1)
        optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))

    step = compile_step(move, model, optimizer)
    step()
    step.sync()
    np.testing.assert_allclose(model.kernel[...], 0.0)
    set_hyperparam(optimizer, "learning_rate", 0.5)
    model.kernel[...] = jnp.full((2, 1), 10.0)
    step()
    step.sync()
    np.testing.assert_allclose(model.kernel[...], 9.5)
    assert float(hyperparams(optimizer)["learning_rate"]) == 0.5
    assert len(traced) == 1


def test_the_cheat_sheets_step_gets_its_own_objects_back():
    model, optimizer = small()

    def cheat_sheet(model, optimizer, x):
        return model, optimizer, train_step(model, optimizer, x)

    with compile_step(cheat_sheet, model, optimizer) as step:
        same, also, loss = step(X[0])
        *_, losses = step.scan(X[1:])
    assert same is model
    assert also is optimizer
    assert losses.shape == (5,)
    assert np.isfinite(float(loss))


def test_the_objects_come_back_when_a_step_fails():
    model, optimizer = small()
    before = arrays((model, optimizer))

    def fails(model, optimizer, x):
        train_step(model, optimizer, x)
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError), compile_step(fails, model, optimizer) as step:
        step(X[0])
    chex.assert_trees_all_equal(arrays((model, optimizer)), before)


def test_buffers_that_two_variables_share_are_donated_once():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    other = nnx.Linear(2, 2, rngs=nnx.Rngs(1))
    other.kernel[...] = model.kernel[...]

    def add(model, other):
        model.kernel[...] += 1.0

    kept = np.asarray(model.kernel[...])
    with compile_step(add, model, other) as step:
        step()
        step()
    np.testing.assert_allclose(model.kernel[...], kept + 2)
    np.testing.assert_allclose(other.kernel[...], kept)


def test_metrics_and_random_streams_are_objects_too():
    model, optimizer = small()
    average, rngs = nnx.metrics.Average("loss"), nnx.Rngs(noise=3)

    def noisy(model, optimizer, average, rngs, x):
        x = x + jax.random.normal(rngs.noise(), x.shape)
        average.update(loss=train_step(model, optimizer, x))

    with compile_step(noisy, model, optimizer, average, rngs) as step:
        step.scan(X)
    assert int(rngs.noise.count[...]) == 6
    assert np.isfinite(float(average.compute()))


MISTAKES = {
    "the objects again": (
        lambda m, o, x: None,
        lambda step, m, o: step(m, o, X[0]),
        TypeError,
        r"bound already; call the step with the other arguments only",
    ),
    "a new variable": (
        lambda m, o, x: setattr(m, "seen", nnx.Variable(x)),
        lambda step, m, o: step(X[0]),
        ValueError,
        r"0/seen appeared.*nnx\.pop\(model, nnx\.Intermediate\)",
    ),
    "a variable less": (
        lambda m, o, x: delattr(m, "calls"),
        lambda step, m, o: step(X[0]),
        ValueError,
        "0/calls went away",
    ),
    "another mode": (
        lambda m, o, x: m.eval(),
        lambda step, m, o: step(X[0]),
        ValueError,
        r"static attribute of its objects \(train\(\) or eval\(\)",
    ),
    "another dtype": (
        lambda m, o, x: m.layers[0].kernel.set_value(m.layers[0].kernel[...].astype(jnp.bfloat16)),
        lambda step, m, o: step(X[0]),
        ValueError,
        r"changed 0/layers/0/kernel from float32\[3, 4\] to bfloat16",
    ),
    "another shape": (
        lambda m, o, x: m.calls.set_value(jnp.zeros(2, jnp.int32)),
        lambda step, m, o: step.scan(X),
        ValueError,
        r"changed 0/calls from int32\[\] to int32\[2\]",
    ),
    "a stranger returned": (
        lambda m, o, x: nnx.Linear(1, 1, rngs=nnx.Rngs(0)),
        lambda step, m, o: step(X[0]),
        ValueError,
        "returns a Linear that is not one of its objects",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_that_names_the_cure(name):
    step_fn, call, error, message = MISTAKES[name]
    model, optimizer = made()
    before = arrays((model, optimizer))
    step = compile_step(step_fn, model, optimizer)
    with pytest.raises(error, match=message):
        call(step, model, optimizer)
    step.sync()
    chex.assert_trees_all_equal(arrays((model, optimizer)), before)


def test_no_objects_is_an_error():
    with pytest.raises(TypeError, match="needs the objects that the step changes"):
        compile_step(train_step)


def test_weak_types_do_not_compile_twice():
    traced = []
    variable = nnx.Variable(jnp.asarray(1.0) * 2)  # weakly typed

    def step_fn(v):
        traced.append(1)
        v[...] = v[...] * 2.0

    holder = nnx.Dict(v=variable)
    step = compile_step(lambda d: step_fn(d["v"]), holder)
    step()
    step()
    step.sync()
    assert float(variable[...]) == 8.0
    assert len(traced) == 1
