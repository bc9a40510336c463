"""Hyper-parameters in the state, which can be read, scheduled and changed between steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import Params, build, safe_increment
from optx_core._engine.staged import staged


class WrappedScheduleState(NamedTuple):
    """State of a plain schedule among injected hyper-parameters.

    Attributes:
      count: int32 scalar, the number of updates so far.
    """

    count: build.Count


class InjectStatefulHyperparamsState(NamedTuple):
    """State of a transformation with injected hyper-parameters.

    Attributes:
      count: int32 scalar, the number of updates so far.
      hyperparams: the values at the last update by name, as arrays of at least float32. Unscheduled ones
        also apply to the next update: replace one to change it.
      hyperparams_states: the states of the schedules, by name.
      inner_state: the transformation's own state.
    """

    count: build.Count
    hyperparams: build.Measured
    hyperparams_states: dict[str, Any]
    inner_state: build.InnerState


class _InjectedFactory(build.Recorded):
    """A factory of transformations with its numbers moved into the state."""

    def __init__(self, factory: Callable[..., Any], static: frozenset[str], dtype: Any) -> None:
        self._factory = factory
        self._static = static
        self._dtype = dtype
        name = getattr(factory, "__name__", type(factory).__name__)
        self.__name__ = f"inject_hyperparams({name})"
        self.__signature__ = inspect.signature(factory)
        self._kinds, self._hints = build.kinds_of(factory), build.hints_of(factory)
        unknown = static - set(self.__signature__.parameters)
        if unknown:
            raise ValueError(f"inject_hyperparams: {name} has no argument {', '.join(unknown)}")

    def __call__(self, *args: Any, **kwargs: Any) -> build.Transformation:
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        tx = self._make(bound)
        return tx._recorded_as(build.Call(self, bound))

    def filled(self, arguments: dict[str, Any], hyperparams: dict[str, Any]) -> Any:
        """Returns the transformation for given values of the injected numbers."""
        bound = inspect.BoundArguments(self.__signature__, dict(arguments))
        for name, value in hyperparams.items():
            base, bracket, place = name.rstrip("]").partition("[")
            if bracket:
                items = list(bound.arguments[base])
                items[int(place)] = value
                bound.arguments[base] = tuple(items)
            else:
                bound.arguments[base] = value
        return self._factory(*bound.args, **bound.kwargs)

    def _injected(self, name: str, value: Any) -> bool:
        if name in self._static or isinstance(value, bool | str) or value is None:
            return False
        kind, hint = self._kinds.get(name), self._hints.get(name)
        if kind is not None:
            return build.is_number(kind)
        if callable(value):
            return not isinstance(value, type) and build.admits_number(hint)
        if isinstance(value, int):
            return hint is not int and int not in get_args(hint)
        return _is_numeric(value)

    def _chosen(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the numbers to inject; those of a tuple as `betas[0]`, `betas[1]`."""
        chosen: dict[str, Any] = {}
        for name, value in arguments.items():
            if not self._injected(name, value):
                continue
            if isinstance(value, tuple):
                chosen |= {f"{name}[{k}]": item for k, item in enumerate(value)}
            else:
                chosen[name] = value
        return chosen

    def _make(self, bound: inspect.BoundArguments) -> build.Transformation:
        chosen = self._chosen(bound.arguments)
        stateful = {k: v for k, v in chosen.items() if _is_stateful(v)}
        plain = {k: v for k, v in chosen.items() if callable(v) and k not in stateful}
        fixed = {k: v for k, v in chosen.items() if k not in stateful and k not in plain}

        def array(value: Any) -> jax.Array:
            value = jnp.asarray(value)
            wide = build.at_least_float32(value.dtype) if _is_float(value) else jnp.float32
            return jnp.array(value, self._dtype or wide)

        def at(hyperparams: dict[str, Any]) -> Any:
            return self.filled(bound.arguments, hyperparams)

        def init(params: Params) -> InjectStatefulHyperparamsState:
            count = build.zero_count()
            values = {name: array(value) for name, value in fixed.items()}
            states: dict[str, Any] = {}
            for name, schedule in plain.items():
                values[name] = array(build.evaluate(schedule, count))
                states[name] = WrappedScheduleState(build.zero_count())
            for name, schedule in stateful.items():
                states[name] = schedule.init()
                values[name] = array(schedule(states[name]))
            ordered = {name: values[name] for name in chosen}
            inner_state = at(ordered).init(params)
            return InjectStatefulHyperparamsState(count, ordered, states, inner_state)

        def stages(
            flow: build.Flow,
            state: InjectStatefulHyperparamsState,
            params: Params = None,
            **extra_args: Any,
        ) -> Callable[[], InjectStatefulHyperparamsState]:
            values = {name: state.hyperparams[name] for name in chosen}
            states: dict[str, Any] = {}
            for name, schedule in plain.items():
                wrapped = state.hyperparams_states[name]
                values[name] = array(build.evaluate(schedule, wrapped.count)).astype(
                    values[name].dtype
                )
                states[name] = WrappedScheduleState(safe_increment(wrapped.count))
            for name, schedule in stateful.items():
                schedule_state = state.hyperparams_states[name]
                values[name] = array(schedule(schedule_state)).astype(values[name].dtype)
                states[name] = schedule.update(schedule_state, **extra_args)
            finish = flow.through(at(values), state.inner_state, params, **extra_args)
            count = safe_increment(state.count)
            return lambda: InjectStatefulHyperparamsState(count, values, states, finish())

        return staged(init, stages)


@build.recorded
def inject_hyperparams(
    inner_factory: Callable[..., Any],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: build.DType = None,
) -> _InjectedFactory:
    """Makes a factory of transformations keep its numbers in the state.

    They can be read from `state.hyperparams`, and changed there between steps without recompilation;
    schedules are evaluated at each step.

    Args:
      inner_factory: a function that makes a transformation, such as `optx_aliases.adam`.
      static_args: names of arguments that are not injected. Declared arguments (`ScalarOrSchedule`,
        `build.Rate`, ...) are classified by their declarations. Undeclared arguments are injected by
        value: floats, floating-point arrays, ints that are not annotated `int`, and callables passed for
        arguments whose annotation admits a float.
      hyperparam_dtype: the dtype of the injected numbers; by default at least float32, for parameters of
        any dtype.

    Returns:
      A function with the arguments of `inner_factory`. Its transformations have an
      `InjectStatefulHyperparamsState`.

    Raises:
      ValueError: if a static argument is not one of the function's.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import inject_hyperparams, trace
      >>> tx = inject_hyperparams(trace)(decay=0.5)
      >>> state = tx.init(jnp.ones(2))
      >>> state.hyperparams
      {'decay': Array(0.5, dtype=float32)}
      >>> state.hyperparams["decay"] = jnp.float32(0.9)
      >>> updates, state = tx.update(jnp.ones(2), state)
    """
    names = [static_args] if isinstance(static_args, str) else list(static_args)
    return _InjectedFactory(inner_factory, frozenset(names), hyperparam_dtype)


@build.recorded
def inject_stateful_hyperparams(
    inner_factory: Callable[..., Any],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: build.DType = None,
) -> _InjectedFactory:
    """Same as `inject_hyperparams`; optax has both names.

    A callable argument `schedule(state)` with `init()` and `update(state, **extra_args)` is a stateful
    schedule: its state is stored, and it receives the extra arguments of `update`.

    Args:
      inner_factory: a function that makes a transformation.
      static_args: names of arguments that are not injected.
      hyperparam_dtype: the dtype of the injected numbers; by default at least float32.

    Returns:
      A function with the arguments of `inner_factory`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import inject_stateful_hyperparams, trace
      >>> inject_stateful_hyperparams(trace)(0.5).init(jnp.ones(2)).hyperparams["decay"]
      Array(0.5, dtype=float32)
    """
    names = [static_args] if isinstance(static_args, str) else list(static_args)
    return _InjectedFactory(inner_factory, frozenset(names), hyperparam_dtype)


def is_injected(tx: Any) -> bool:
    """Returns whether a transformation has its numbers in its state, an `InjectStatefulHyperparamsState`."""
    call = build.call_of(tx)
    return call is not None and isinstance(call.function, _InjectedFactory)


def current_values(tx: Any, state: InjectStatefulHyperparamsState) -> dict[str, Any]:
    """Returns the injected numbers at the next update, with schedules evaluated."""
    arguments = tx._call.arguments
    values = dict(state.hyperparams)
    for name, value in state.hyperparams.items():
        schedule_state = state.hyperparams_states.get(name)
        base, bracket, place = name.rstrip("]").partition("[")
        schedule = arguments.get(base)
        if bracket and isinstance(schedule, tuple):
            schedule = schedule[int(place)]
        if callable(schedule) and isinstance(schedule_state, WrappedScheduleState):
            values[name] = build.evaluate(schedule, schedule_state.count)
        elif callable(schedule) and schedule_state is not None:
            values[name] = schedule(schedule_state)
        elif isinstance(value, jax.ShapeDtypeStruct):
            values[name] = schedule
    return values


def current(tx: Any, state: InjectStatefulHyperparamsState) -> Any:
    """Returns the transformation with the injected numbers of the next update."""
    return tx._call.function.filled(tx._call.arguments, current_values(tx, state))


def _is_stateful(value: Any) -> bool:
    return callable(value) and all(callable(getattr(value, n, None)) for n in ("init", "update"))


def _is_numeric(value: Any) -> bool:
    """Returns whether an undeclared value is a number; keys and integer arrays are not."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        integer = not build.is_inexact(value)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or (integer and np.ndim(value)):
            return False
    return isinstance(value, float | np.ndarray | np.generic | jax.Array)


def _is_float(value: jax.Array) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.inexact))
