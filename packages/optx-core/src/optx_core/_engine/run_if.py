"""Conditional execution of a function, without copies.

On accelerators `lax.cond` copies the operands that its branches share; a loop of zero or one iterations
works in place. The loop has no reverse mode, so its derivative is that of `lax.cond`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core._engine.jaxprs import evaluate_jaxpr
from optx_core._protocol.absent import tree_flatten
from optx_core._protocol.types import PyTree


def run_if(condition: jax.Array, run: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """Returns `run(carry)` if a condition holds, else `carry`.

    Args:
      condition: a boolean scalar.
      run: a pure function that preserves structure, shapes and dtypes. It may close over any values.
      carry: a tree of arrays.

    Returns:
      A tree like `carry`. If the condition does not hold, `run` is not executed and no array
      is copied; forward and reverse derivatives are those of `lax.cond`. Outside of `jax.jit` the
      condition is read on the host, and nothing is compiled.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import run_if
      >>> float(run_if(jnp.array(True), lambda x: x + 1.0, jnp.array(1.0)))
      2.0
    """
    if not isinstance(condition, jax.core.Tracer):
        return run(carry) if condition else carry
    carry = loop_carry(
        lambda kept: jax.tree.map(lambda a, b: jnp.where(condition, a, b), run(kept), kept), carry
    )
    closed = jax.make_jaxpr(run)(carry)
    leaves, structure = tree_flatten(carry)
    results = _loop(_Body(closed.jaxpr), condition, list(closed.consts), leaves)
    return structure.unflatten(results)


def loop_carry(body: Callable[[PyTree], PyTree], first: PyTree) -> PyTree:
    """Casts the initial carry of a loop to the type that the body returns.

    Inside `jax.shard_map` the type of an array names the mesh axes over which it varies. A loop that starts
    from constants and reads varying arrays needs this.

    Args:
      body: the body of a `lax.while_loop`, as a function of the carry.
      first: the initial carry, a tree of arrays.

    Returns:
      The same arrays. Outside of `jax.shard_map` the body is not traced.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import loop_carry
      >>> float(loop_carry(lambda x: x + 1.0, jnp.array(1.0)))
      1.0
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return first
    while True:
        results = jax.eval_shape(body, first)
        missing = jax.tree.map(lambda x, y: varying_axes(y) - varying_axes(x), first, results)
        if not any(jax.tree.leaves(missing)):
            return first
        first = jax.tree.map(as_varying, first, missing)


def varying_axes(x: Any) -> frozenset[str]:
    """Returns the manual mesh axes over which an array, or its `ShapeDtypeStruct`, varies."""
    kind: Any = x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x)
    return getattr(kind.manual_axis_type, "varying", frozenset())  # None without check_vma


def as_varying(x: Any, axes: Iterable[str]) -> Any:
    """Returns an array whose type says that it varies over more mesh axes as well."""
    names = tuple(sorted(axes))
    return lax.pcast(x, names, to="varying") if names else x


class _Body:
    """A jaxpr without its constants, compared by identity."""

    def __init__(self, jaxpr: Any) -> None:
        self.jaxpr = jaxpr

    def __call__(self, consts: list[Any], leaves: list[Any]) -> list[Any]:
        return evaluate_jaxpr(self.jaxpr, consts, *leaves)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loop(body: _Body, condition: Any, consts: list[Any], leaves: list[Any]) -> list[Any]:
    times = jnp.asarray(condition, jnp.int32)

    def trip(state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        # XLA would hoist what reads constants alone out of the loop, and run it always: let them depend on
        # the count. What goes through one barrier must vary over the same axes (jax 0.10).
        count, leaves = state
        inside = list(consts)
        for axes in dict.fromkeys(map(varying_axes, consts)):
            at = [k for k, x in enumerate(consts) if varying_axes(x) == axes]
            behind = lax.optimization_barrier([count, *(consts[k] for k in at)])[1:]
            for k, x in zip(at, behind, strict=True):
                inside[k] = x
        return count + 1, body(inside, leaves)

    first = jnp.zeros((), jnp.int32), leaves
    return lax.while_loop(lambda state: state[0] < times, trip, first)[1]


@_loop.defjvp
def _loop_jvp(body: _Body, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    condition, consts, leaves = primals

    def run(consts: list[Any], leaves: list[Any]) -> list[Any]:
        # Under `jax.vmap` the condition may hold for some elements only.
        own = jax.tree.map(
            lambda x: lax.select(condition, x, lax.stop_gradient(x)), (consts, leaves)
        )
        return [lax.select(condition, new, x) for new, x in zip(body(*own), leaves, strict=True)]

    def choose(consts: list[Any], leaves: list[Any]) -> list[Any]:
        return lax.cond(_any(condition), run, lambda _, kept: kept, consts, leaves)

    return jax.jvp(choose, (consts, leaves), tuple(tangents[1:]))


@jax.custom_batching.custom_vmap
def _any(condition: jax.Array) -> jax.Array:
    """Returns a condition; under `jax.vmap` whether it holds for any element.

    The batching rule of `lax.cond` for a batch of conditions has no transpose inside of a derivative's rule.
    """
    return condition


@_any.def_vmap
def _any_of_batch(size: int, batched: list[bool], condition: jax.Array) -> tuple[jax.Array, bool]:
    del size, batched
    return _any(jnp.any(condition, axis=0)), False
