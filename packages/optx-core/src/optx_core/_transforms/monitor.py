"""Measurements of the updates, stored in the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, PyTree, Scalar, Updates, build, with_extra_args_support
from optx_core._engine.staged import staged
from optx_core._transforms.ema import ema

Measure = Callable[[Updates], PyTree]


class SnapshotState(NamedTuple):
    """State of `snapshot`.

    Attributes:
      measurement: the last measurement, by name.
    """

    measurement: build.Measured


class MonitorState(NamedTuple):
    """State of `monitor`.

    Attributes:
      measurements: the last measurements by name.
      measure_states: the states of the measurements that have one.
    """

    measurements: build.Measured
    measure_states: build.InnerState


@build.recorded
def snapshot(measure_name: str, measure: Measure) -> build.Transformation:
    """Passes updates on unchanged, and stores a measurement of them in the state.

    Args:
      measure_name: the name of the measurement, for `tree.get(state, name)`.
      measure: `f(updates)` returns an array or a tree of arrays.

    Returns:
      A transformation with a `SnapshotState`; zeros before the first update.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import global_norm, snapshot, tree
      >>> tx = snapshot("norm", global_norm)
      >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
      >>> tree.get(state, "norm")
      Array(5., dtype=float32)
    """

    def init(params: Params) -> SnapshotState:
        return SnapshotState({measure_name: _zeros_of(measure, params)})

    def stages(
        flow: build.Flow, state: SnapshotState, params: Params = None, **extra_args: Any
    ) -> Callable[[], SnapshotState]:
        del params, extra_args
        value = _like(measure(flow.present), state.measurement[measure_name])
        return lambda: SnapshotState({measure_name: value})

    return staged(init, stages)


@build.recorded
def measure_with_ema(
    measure: Measure, decay: Scalar, debias: bool = True, accumulator_dtype: build.DType = None
) -> build.Transformation:
    """Averages a measurement over the steps, for use in `monitor`.

    Args:
      measure: `f(updates)` returns an array or a tree of arrays (booleans count as 0 and 1).
      decay: the weight of the past, in [0, 1).
      debias: whether to correct for the initial value of zero.
      accumulator_dtype: dtype of the average; by default at least float32.

    Returns:
      A transformation that turns updates into the averaged measurement.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import global_norm, measure_with_ema, monitor, tree
      >>> tx = monitor({"norm": measure_with_ema(global_norm, 0.9)})
      >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
      >>> round(float(tree.get(state, "norm")), 4)
      5.0
    """
    average = ema(decay, debias, accumulator_dtype)

    def measured(updates: Updates) -> PyTree:
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), measure(updates))

    def init(params: Params) -> OptState:
        return (), average.init(_zeros_of(measured, params))

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[PyTree, OptState]:
        del params, extra_args
        value, inner = average.update(measured(updates), state[1])
        return value, ((), inner)

    return build.Transformation(init, update)


@build.recorded
def monitor(measures: dict[str, Measure | Any]) -> build.Transformation:
    """Passes updates on unchanged, and stores measurements of them in the state.

    Args:
      measures: a dict by name of functions of the updates, or of transformations from updates to a
        measurement, such as `measure_with_ema`.

    Returns:
      A transformation with a `MonitorState`; zeros before the first update. Read a measurement with
      `tree.get(state, name)`, or all of them with `metrics(state)`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import chain, clip_by_global_norm, global_norm, metrics, monitor
      >>> tx = chain(monitor({"norm": global_norm}), clip_by_global_norm(1.0))
      >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
      >>> metrics(state)
      {'norm': Array(5., dtype=float32)}
    """
    measures = dict(measures)
    stateful = {
        name: with_extra_args_support(m) for name, m in measures.items() if hasattr(m, "update")
    }

    def init(params: Params) -> MonitorState:
        states = {name: tx.init(params) for name, tx in stateful.items()}
        zeros = {
            name: _zeros_of(_measurement(stateful[name], states[name]), params)
            if name in stateful
            else _zeros_of(measure, params)
            for name, measure in measures.items()
        }
        return MonitorState(zeros, tuple(states.get(name, ()) for name in measures))

    def stages(
        flow: build.Flow, state: MonitorState, params: Params = None, **extra_args: Any
    ) -> Callable[[], MonitorState]:
        values, states = {}, []
        for (name, measure), measure_state in zip(
            measures.items(), state.measure_states, strict=True
        ):
            if name in stateful:
                value, new_state = stateful[name].update(
                    flow.present, measure_state, params, **extra_args
                )
            else:
                value, new_state = measure(flow.present), measure_state
            values[name] = _like(value, state.measurements[name])
            states.append(new_state)
        return lambda: MonitorState(values, tuple(states))

    return staged(init, stages)


def _measurement(tx: Any, state: OptState) -> Measure:
    return lambda updates: tx.update(updates, state)[0]


def _zeros_of(measure: Measure, params: Params) -> PyTree:
    shapes = jax.eval_shape(lambda: measure(build.widened(params)))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _like(value: PyTree, stored: PyTree) -> PyTree:
    return jax.tree.map(lambda x, old: jnp.asarray(x).astype(old.dtype), value, stored)
