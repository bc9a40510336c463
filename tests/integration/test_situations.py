"""What users hand in that a function must take, copy or refuse: mutated arguments, callable masks, dtypes."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
import optx_compat
import optx_core
from optx_core import (
    add_decayed_weights,
    build,
    ema,
    freeze,
    masked,
    multi_steps,
    partition,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
)


def test_a_recorded_call_keeps_copies_of_what_the_caller_can_change():
    number = np.array(0.5)
    first = scale_by_learning_rate(number)
    number[...] = 0.1
    second = scale_by_learning_rate(number)
    assert first != second
    assert "0.5" in repr(first)
    members, labels = {"a": scale(1.0)}, {"w": "a"}
    tx = partition(members, labels)
    shown = repr(tx)
    members["b"] = labels["v"] = "a"
    assert repr(tx) == shown


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """A callable pytree, as Equinox's modules are."""

    weight: object
    bias: object

    def __call__(self, x):
        raise AssertionError("a mask is not to be called")


@pytest.mark.parametrize(
    "make",
    [
        lambda m: masked(scale(2.0), m),
        freeze,
        lambda m: add_decayed_weights(0.1, m),
        lambda m: optx_aliases.adamw(0.1, mask=m),
        lambda m: optx_core.selective_transform(trace(0.9), freeze_mask=m),
    ],
)
def test_a_mask_may_be_a_callable_tree_of_bools(make):
    params = Module(jnp.ones(2), jnp.ones(1))
    tx = make(Module(True, False))
    updates, _ = tx.update(params, tx.init(params), params)
    assert isinstance(updates, Module)
    labels = partition({"a": scale(1.0), "b": scale(0.0)}, Module("a", "b"))
    assert float(labels.update(params, labels.init(params))[0].bias[0]) == 0.0


def dtype_arguments():
    for module in (optx_core, optx_aliases):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                for argument, kind in build.kinds_of(function).items():
                    if kind == build.Kind("dtype"):
                        yield pytest.param(function, argument, id=f"{name}-{argument}")


@pytest.mark.parametrize(("function", "argument"), list(dtype_arguments()))
def test_no_moment_has_an_integer_dtype(function, argument):
    needed = {
        name: 0.1
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    }
    if "inner" in needed or "optimizer" in needed or "base_optimizer" in needed:
        needed = {name: scale(-1.0) if name != "every_k" else 2 for name in needed}
    needed |= {n: optx_core.stateless(lambda u, p: u) for n in ("hessian_diagonal_fn",)
               if n in inspect.signature(function).parameters}  # fmt: skip
    with pytest.raises(TypeError, match="floating-point dtype, not int8"):
        function(**needed, **{argument: "int8"}).init(jnp.ones((4, 4)))


def test_there_are_dtype_arguments_to_try():
    assert len(list(dtype_arguments())) > 30


@pytest.mark.parametrize(
    "tx", [scale_by_learning_rate, scale_by_schedule, trace, add_decayed_weights]
)
@pytest.mark.parametrize("value", [(1e-3,), None, [0.1], np.array([0.1])], ids=str)
def test_a_schedule_that_returns_no_number_is_refused(tx, value):
    params = jnp.ones(2)
    made = tx(lambda count: value)
    with pytest.raises(TypeError, match="a schedule must return a number"):
        made.update(params, made.init(params), params)


def test_a_learning_rate_of_none_is_refused():
    with pytest.raises(TypeError, match="learning_rate must be a number or a schedule, not None"):
        optx_aliases.adamw(None)


@pytest.mark.parametrize(
    ("module", "name", "there"),
    [
        (optx_core, "adamw", "it is optx_aliases.adamw"),
        (optx_aliases, "chain", "it is optx_core.chain"),
        (optx_core, "leafwise", "it is optx_core.build.leafwise"),
        (optx_core, "multi_transform", "use optx_core.partition"),
        (optx_core, "projection_simplex", "it is optx_projections.projection_simplex"),
        (optx_core, "tree_get", "it is optx_core.tree.get"),
        (optx_core.tree, "tree_get", "it is optx_core.tree.get"),
        (optx_core, "contrib", "use optx_aliases"),
        (optx_aliases, "SGD", "it is optx_aliases.sgd"),
        (optx_compat, "nnls", "use scipy.optimize.nnls"),
        (optx_compat, "muon", "it is optax.contrib.muon"),
    ],
)
def test_a_name_of_another_package_says_where_it_is(module, name, there):
    there = there.replace(".", r"\.")
    with pytest.raises(AttributeError, match=there):
        getattr(module, name)
    with pytest.raises(ImportError, match=there):
        exec(f"from {module.__name__} import {name}")
    assert not hasattr(module, name)


def test_names_that_are_nowhere_have_pythons_own_errors():
    with pytest.raises(ImportError, match="cannot import name 'nowhere' from 'optx_core' \\("):
        exec("from optx_core import nowhere")
    with pytest.raises(AttributeError, match=r"no attribute 'nowhere'$"):
        optx_core.nowhere  # noqa: B018
    exec("from optx_core import _training")


def test_accumulator_dtypes_of_wrappers_are_checked_too():
    with pytest.raises(TypeError, match="floating-point dtype, not int32"):
        multi_steps(scale(1.0), 2, accumulator_dtype=jnp.int32).init(jnp.ones(2))
    with pytest.raises(TypeError, match="ema: accumulator_dtype must be a floating-point dtype"):
        ema(0.9, accumulator_dtype="int8")
