"""Transformations as stages of a flow, and equations lifted to trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._protocol.diagnosis import check_state
from optx_core._protocol.recorded import Call
from optx_core._protocol.types import (
    EmptyState,
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    TransformInitFn,
    Updates,
)


class _StagedUpdate:
    """The `update` of a transformation written as stages of a flow."""

    def __init__(self, stages: Callable[..., Callable[[], OptState]], name: str = "") -> None:
        self.stages = stages
        self.name = name

    def __call__(
        self, updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        flow = Flow(updates, params, self.name)
        finish = self.stages(flow, state, params, **extra_args)
        return flow.updates, finish()


class StagedTransformation(GradientTransformationExtraArgs):
    """A transformation written as stages of a flow, whose leaf steps are fused with their neighbours'."""

    _stages: Callable[..., Callable[[], OptState]]

    def _with_call(self, call: Call) -> StagedTransformation:
        copy = staged(self.init, self._stages, call.name)
        copy._call = call
        return copy


def staged(
    init: TransformInitFn, stages: Callable[..., Callable[[], OptState]], name: str = ""
) -> StagedTransformation:
    """Makes a transformation that passes a flow through others, whose leaf steps stay pending.

    For wrappers that decide where updates go, such as `masked`. A wrapper that changes updates before or
    after the transformation inside uses `wrapping`.

    Args:
      init: creates the state.
      stages: `stages(flow, state, params, **extra_args)` passes the updates of the flow on; it returns a
        function that returns the new state.
      name: the name in error messages, until the call is recorded.

    Returns:
      A transformation that performs the checks of the protocol.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale
      >>> from optx_core.build import recorded, staged
      >>> @recorded
      ... def only_large(inner, at_least):  # small trees of parameters get plain gradients
      ...     def stages(flow, state, params=None, **extra_args):
      ...         if flow.skeleton.size < at_least:
      ...             return lambda: state
      ...         return flow.through(inner, state, params, **extra_args)
      ...     return staged(inner.init, stages)
      >>> tx = only_large(scale(2.0), at_least=2)
      >>> tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0]
      Array([2., 2.], dtype=float32)
    """
    tx = StagedTransformation(init, _StagedUpdate(stages, name))
    tx._stages = stages
    return tx


def wrapping(
    init: TransformInitFn,
    update: Callable[..., tuple[Updates, OptState]],
    *,
    per_example: bool = False,
) -> GradientTransformationExtraArgs:
    """Makes a transformation that needs the whole tree of updates, such as a wrapper of another.

    Args:
      init: creates the state.
      update: `update(updates, state, params, **extra_args)`; receives None in place of float0.
      per_example: whether its updates are per-example gradients, with an axis that the parameters do not
        have; its results have the parameters' shapes. Such a transformation comes first in a chain.

    Returns:
      A transformation that performs the checks of the protocol.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import EmptyState, tree
      >>> from optx_core.build import recorded, wrapping
      >>> @recorded
      ... def unit_length():
      ...     def update(updates, state, params=None, **_):
      ...         return tree.scale(1 / tree.norm(updates), updates), state
      ...     return wrapping(lambda params: EmptyState(), update)
      >>> unit_length().update(jnp.array([3.0, 4.0]), EmptyState())[0]
      Array([0.6, 0.8], dtype=float32)
    """

    def stages(
        flow: Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        given = flow.examples if per_example else flow.present
        updates, new_state = update(given, state, params, **extra_args)
        flow.updates = flow.restore(updates)
        return lambda: new_state

    return staged(init, stages)


def no_state(params: Params) -> EmptyState:
    """The `init` of a stateless transformation."""
    del params
    return EmptyState()


def leafwise(
    step: Callable[..., LeafStep], init: TransformInitFn = no_state
) -> GradientTransformationExtraArgs:
    """Makes a transformation from the equations for one array.

    Args:
      step: `step(flow, state, params, **extra_args)` returns the `LeafStep` of this call.
        `flow.updates` is the whole tree of updates, for a norm, for example.
      init: `init(params)` creates the state; by default an `EmptyState`.

    Returns:
      A transformation that satisfies the protocol and shares one pass over each array with its leafwise
      neighbours in a chain.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import LeafStep, leafwise, recorded
      >>> def leaf(g, *, power):
      ...     return jnp.sign(g) * jnp.abs(g) ** power
      >>> @recorded
      ... def compress(power):
      ...     return leafwise(lambda flow, state, params, **_: LeafStep(leaf, operands={"power": power}))
      >>> tx = compress(0.5)
      >>> updates, _ = tx.update({"w": jnp.array([4.0, -9.0])}, tx.init(None))
      >>> updates["w"]
      Array([ 2., -3.], dtype=float32)
    """

    def stages(
        flow: Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        return flow.push(step(flow, state, params, **extra_args))

    return without_state(stages) if init is no_state else staged(init, stages)


def without_state(
    stages: Callable[..., Callable[[], OptState]],
) -> GradientTransformationExtraArgs:
    """Makes a transformation with an `EmptyState` from stages."""

    def checked(
        flow: Flow, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        check_state(flow.trail, EmptyState, state)
        return stages(flow, state, params, **extra_args)

    return staged(no_state, checked)


def map_leaves(
    leaf: Callable[..., Any],
    updates: Updates,
    *slots: PyTree,
    reduced: tuple[PyTree, ...] = (),
    reads: tuple[PyTree, ...] = (),
    name: str = "map_leaves",
    **operands: Any,
) -> Any:
    """Applies the equations for one array to trees, with the checks of the protocol.

    Args:
      leaf: `leaf(g, *slots, *reduced, *reads, **operands)`, as in `LeafStep`.
      updates: the tree that determines the structure. Leaves that are None are skipped.
      *slots: trees that the leaf renews, of the updates' shapes.
      reduced: trees that the leaf renews, of other shapes.
      reads: trees that the leaf reads.
      name: the function to name in errors.
      **operands: the leaf's keyword arguments.

    Returns:
      The new updates; with slots, a tuple of the updates and the renewed trees.

    Raises:
      TreeMismatchError: if structures or shapes differ; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import tree
      >>> def leaf(g, m, *, decay):
      ...     m = decay * m + g
      ...     return m, m
      >>> update, m = tree.map_leaves(leaf, {"w": jnp.ones(2)}, {"w": jnp.ones(2)}, decay=0.5)
      >>> update["w"]
      Array([1.5, 1.5], dtype=float32)
    """
    flow = Flow(updates, name=name)
    finish = flow.push(
        LeafStep(leaf, slots, reduced, reads, close=lambda *renewed: renewed, operands=operands)
    )
    renewed = finish()
    return (flow.updates, *renewed) if renewed else flow.updates
