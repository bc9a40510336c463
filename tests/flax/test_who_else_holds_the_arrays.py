"""Arrays that others hold, through every function of the bridge that holds or takes arrays.

The situations: a tied Variable, a clone, a snapshot, an array that `device_put` shares, a step that
fails, a step that is dropped, a held model that is pickled.
"""

import copy
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax import nnx
from optx_core import apply_if_finite, chain, scale_by_learning_rate, trace, zero1_rule
from optx_flax import (
    abstract_state,
    compile_step,
    create_sharded,
    hyperparams,
    metrics,
    micro_value_and_grad,
    migrate_opt_state,
    place_opt_state,
    restore_into,
    set_hyperparam,
    shard_state,
    value_fn,
)

from optx_core import inject_hyperparams  # isort: skip

X = jnp.ones((4, 3))


class Tied(nnx.Module):
    def __init__(self, seed=0):
        self.first = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(seed))
        self.second = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(seed + 1))
        self.second.kernel = self.first.kernel

    def __call__(self, x):
        return self.second(self.first(x))


def loss_fn(model, x):
    return jnp.mean((model(x) - 1) ** 2)


def train_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(loss_fn)(model, x)
    optimizer.update(model, grads)
    return loss


def tx():
    return inject_hyperparams(
        lambda learning_rate: chain(trace(0.9), scale_by_learning_rate(learning_rate))
    )(0.1)


def made(seed=0):
    model = Tied(seed)
    return model, nnx.Optimizer(model, tx(), wrt=nnx.Param)


def arrays(objects):
    return jax.tree.leaves(nnx.as_pure(nnx.state(objects)))


MESH = jax.make_mesh((1,), ("data",))


def restored_from_live(model, optimizer):
    other = made(1)
    restore_into(other, nnx.state((model, optimizer)))
    return other


def migrated(model, optimizer):
    new = nnx.Optimizer(model, tx(), wrt=nnx.Param)
    migrate_opt_state(optimizer, model, new)
    return model, new


def placed(model, optimizer):
    place_opt_state(optimizer, MESH, model=model)
    return model, optimizer


def created(model, optimizer):
    return create_sharded(Tied, tx(), MESH, param_rule=zero1_rule("data", 1))


def sharded(model, optimizer):
    return model, nnx.Optimizer(model, shard_state(tx(), model, mesh=MESH), wrt=nnx.Param)


def set_number(model, optimizer):
    set_hyperparam(optimizer, "learning_rate", 0.05)
    return model, optimizer


def accumulated(model, optimizer):
    _, grads = micro_value_and_grad(loss_fn, 2)(model, X)
    optimizer.update(model, grads)
    return model, optimizer


def evaluated(model, optimizer):
    value_fn(model, loss_fn, X)(nnx.state(model, nnx.Param))
    return model, optimizer


def stepped(model, optimizer):
    with compile_step(train_step, model, optimizer) as step:
        step(X)
    return model, optimizer


def scanned(model, optimizer):
    with compile_step(train_step, model, optimizer) as step:
        step.scan(jnp.stack([X, X]))
    return model, optimizer


def read(model, optimizer):
    hyperparams(optimizer), metrics(optimizer), abstract_state(model, optimizer)
    return model, optimizer


FUNCTIONS = {
    "restore_into": restored_from_live,
    "migrate_opt_state": migrated,
    "place_opt_state": placed,
    "create_sharded": created,
    "shard_state": sharded,
    "set_hyperparam": set_number,
    "micro_value_and_grad": accumulated,
    "value_fn": evaluated,
    "compile_step": stepped,
    "compile_step.scan": scanned,
    "hyperparams, metrics, abstract_state": read,
}


def clones(objects):
    return nnx.clone(objects)


def snapshots(objects):
    return nnx.to_pure_dict(nnx.state(objects))


def device_puts(objects):
    return jax.device_put(arrays(objects))


def stranger(objects):
    """Another Variable that holds the same array."""
    return nnx.Dict(kernel=nnx.Param(objects[0].first.kernel[...]))


OTHERS = {
    "a clone": clones,
    "a snapshot": snapshots,
    "device_put": device_puts,
    "another": stranger,
}


def values(other):
    leaves = jax.tree.leaves(
        nnx.as_pure(nnx.state(other)) if isinstance(other, nnx.Pytree) else other
    )
    return [np.array(x) for x in jax.tree.leaves(nnx.as_pure(leaves))]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_others_hold_stays_valid_and_as_it_was(function):
    """Before the function and after it: both are followed by compiled steps of all the objects."""
    given = made()
    before = {name: hold(given) for name, hold in OTHERS.items()}
    result = FUNCTIONS[function](*given)
    after = {name: hold(result) for name, hold in OTHERS.items()}
    told = {name: values(other) for name, other in before.items()}
    told_after = {name: values(other) for name, other in after.items()}
    kept = [np.array(x) for x in arrays(given)] if result[0] is not given[0] else None
    with compile_step(train_step, *result) as step:
        step(X)
        step.scan(X[None])
    for name in OTHERS:
        for old, new in zip(told[name], values(before[name]), strict=True):
            np.testing.assert_array_equal(old, new, err_msg=name)
        for old, new in zip(told_after[name], values(after[name]), strict=True):
            np.testing.assert_array_equal(old, new, err_msg=name)
    if kept is not None:
        for old, new in zip(kept, arrays(given), strict=True):
            np.testing.assert_array_equal(old, new)
    assert result[0].second.kernel is result[0].first.kernel
    assert np.isfinite(float(loss_fn(result[0], X)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_held_model_is_refused_with_the_cure(function):
    if function == "create_sharded":
        pytest.skip("takes no model")
    given = made()
    step = compile_step(train_step, *given)
    step(X)
    with pytest.raises(RuntimeError, match="held by a compiled step: call its sync"):
        FUNCTIONS[function](*given)
    step.sync()
    assert np.isfinite(float(loss_fn(given[0], X)))


def test_arguments_and_results_are_not_donated():
    """An argument that is an array of the model, or is stored in it; results that are the state."""
    model, optimizer = made()
    model.last = nnx.Variable(jnp.zeros((4, 3)))
    model.copy = nnx.Variable(jnp.zeros((3, 3)))

    def step_fn(model, optimizer, x, kernel):
        train_step(model, optimizer, x)
        model.last[...] = x
        model.copy[...] = model.first.kernel[...]
        return nnx.as_pure(nnx.state(model)), kernel

    x, kernel = X + 1, model.first.kernel[...]
    before = np.array(kernel)
    with compile_step(step_fn, model, optimizer) as step:
        results = [step(x, kernel) for _ in range(3)]
    np.testing.assert_array_equal(x, 2.0)
    np.testing.assert_array_equal(kernel, before)
    for state, same in results:
        np.testing.assert_array_equal(same, before)
        np.testing.assert_array_equal(state["copy"], state["first"]["kernel"])


def test_call_after_call_is_donated_and_only_the_first_is_copied():
    model, optimizer = made()
    step = compile_step(train_step, model, optimizer)
    first = arrays((model, optimizer))
    step(X)
    assert not any(x.is_deleted() for x in first)
    held = step._hold.leaves
    step(X)
    assert all(x.is_deleted() for x in held)


def test_the_copies_are_made_one_at_a_time():
    """An array that nobody else holds is freed as soon as it is copied."""
    model = nnx.Dict(a=nnx.Param(jnp.ones(8)), b=nnx.Param(jnp.ones(8)))
    refs = [weakref.ref(model[k].get_value()) for k in "ab"]
    alive = []
    copied = jnp.copy

    def counted(x):
        alive.append(sum(ref() is not None for ref in refs))
        return copied(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jnp, "copy", counted)
        compile_step(lambda m: None, model)()
    assert alive == [2, 1]


# A step that fails while it runs.


def failing(tx):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


@pytest.mark.parametrize("call", ["once", "scan"])
def test_after_a_step_that_raises_the_last_good_state_is_there(call):
    model, optimizer = failing(
        apply_if_finite(scale_by_learning_rate(0.1), 0, when_exceeded="raise")
    )
    step = compile_step(train_step, model, optimizer)
    step(X)
    step.sync()
    good = [np.array(x) for x in arrays((model, optimizer))]
    bad = X * jnp.nan
    with pytest.raises(Exception, match="not finite 1 times in a row"), step:
        step(bad) if call == "once" else step.scan(bad[None])
    for old, new in zip(good, arrays((model, optimizer)), strict=True):
        np.testing.assert_array_equal(old, new)
    pickle.dumps(nnx.to_pure_dict(nnx.state((model, optimizer))))
    step(X)  # and it goes on
    step.sync()
    assert int(optimizer.step[...]) == 2


def test_printing_in_a_step_costs_no_donation():
    model, optimizer = failing(scale_by_learning_rate(0.1))

    def printing(model, optimizer, x):
        jax.debug.print("{}", x[0, 0], ordered=False)
        return train_step(model, optimizer, x)

    step = compile_step(printing, model, optimizer)
    step(X)
    held = step._hold.leaves
    step(X)
    assert held[0].is_deleted()
    step.sync()


def broken_after(step):
    """Makes the next call fail after its arrays have been donated, as for a lack of memory."""
    program = step._hold.program
    call = program.once

    def fails(leaves, *args):
        call(leaves, *args)
        raise MemoryError("out of memory")

    program.once = fails


def test_what_a_donated_step_took_with_it_is_named():
    model, optimizer = failing(scale_by_learning_rate(0.1))
    step = compile_step(train_step, model, optimizer)
    step(X)
    broken_after(step)
    told = r"the values of 0/bias, .* are lost. compile_step\(..., donate=False\) keeps"
    with pytest.raises(MemoryError) as raised:
        step(X)
    assert "donate=False" in "".join(raised.value.__notes__)
    with pytest.raises(RuntimeError, match=told):
        step.sync()
    with pytest.raises(RuntimeError, match=told):
        model.kernel[...] + 1
    # Without donation nothing is lost.
    model, optimizer = failing(scale_by_learning_rate(0.1))
    step = compile_step(train_step, model, optimizer, donate=False)
    step(X)
    broken_after(step)
    with pytest.raises(MemoryError), step:
        step(X)
    assert int(optimizer.step[...]) == 1


def test_an_interrupt_after_a_step_loses_nothing():
    """Ctrl-C is raised between the call and the assignment of its results."""
    model, optimizer = failing(scale_by_learning_rate(0.1))
    step = compile_step(train_step, model, optimizer)
    step(X)
    hold = step._hold

    class Interrupted(list):
        def extend(self, results):
            super().extend(results)
            raise KeyboardInterrupt

    hold.results = Interrupted()
    with pytest.raises(KeyboardInterrupt), step:
        step(X)
    assert int(optimizer.step[...]) == 2
    assert bool(jnp.isfinite(model.kernel[...]).all())


# A step that is dropped, and objects that are copied while they are held.


def test_a_step_that_is_dropped_gives_the_values_back():
    model, optimizer = made()
    compile_step(train_step, model, optimizer)(X)
    gc.collect()
    assert int(optimizer.step[...]) == 1
    assert np.isfinite(float(loss_fn(model, X)))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_held_model_cannot_be_copied_by_value(copied):
    model, optimizer = made()
    with compile_step(train_step, model, optimizer) as step:
        step(X)
        with pytest.raises(RuntimeError, match="held by a compiled step: call its sync"):
            copied(model)
    assert copied(nnx.to_pure_dict(nnx.state(model)))


def test_a_clone_of_a_held_model_says_what_it_is():
    model, optimizer = made()
    with compile_step(train_step, model, optimizer) as step:
        step(X)
        clone = nnx.clone(model)
    with pytest.raises(RuntimeError, match="copied while a compiled step held it"):
        clone.first.kernel[...] + 1
