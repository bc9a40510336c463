"""Optimizers that measure the whole tree: equations of one array that also return sums over all arrays.

    @equations(DoGState, sums=2)
    def _measure(g, p, s):
        return g, s, (sum_of_squares(g), sum_of_squares(p - s.init_params))

    s, (squares, moved) = _measure.over(flow, s, p)

As in `build.rule`, g is the update, p the parameter and s the state of one array, with the numbers of the
state as they are. Sums of finite arrays are finite: results are limited, not g, since XLA:CPU would
write out an array that several sums read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import Params, PyTree, build, tree

OwnRate: TypeAlias = Annotated[Any, build.Number(own_count=True)]
"""A factor of the learning rate, any number; its schedules are evaluated at the state's own count."""
FirstValue: TypeAlias = Annotated[Any, build.Number(above=0, schedule=False)]
"""The first value of a number of the state, greater than 0."""


def inner_product(x: Array, y: Array) -> Array:
    """Re Σ conj(x)·y of two arrays; 0 if it overflows, as it then says nothing of the direction."""
    products = x.real * y.real + x.imag * y.imag if jnp.iscomplexobj(x) else x * y
    total = jnp.sum(products)
    return jnp.where(jnp.isfinite(total), total, 0)


def sum_of_squares(x: Array) -> Array:
    """Σ |x|² of an array, at most the largest square of a `squarable` entry."""
    return build.finite_sum(jnp.sum(build.abs_squared(x)))


def whole_tree(
    state: Any, step: Callable[..., build.LeafStep], **first_values: Any
) -> build.Transformation:
    """A transformation whose numbers belong to all arrays together; `update` needs the parameters.

    Args:
      state: the class of the state. Slots and counts start as declared, numbers at 0.
      step: `step(flow, state, params, **extra_args)` returns the `LeafStep` of this update.
      **first_values: other initial values of numbers (scalars or arrays) by field, or functions of the
        parameters that return them; for the state of an inner transformation its `init`.
    """
    kinds = build.kinds_of(state)

    def first(name: str, params: Params) -> PyTree:
        kind, value = kinds.get(name), first_values.get(name, 0)
        if isinstance(kind, build.Slot) and kind.fill == "params":
            return build.copy_of(params)
        if isinstance(kind, build.Slot):
            return tree.slots_like(params, real=kind.nonnegative)
        if build.is_count(kind):
            return build.zero_count()
        value = value(params) if callable(value) else value
        if build.is_inner(kind):
            return value
        dtype = jnp.bool_ if isinstance(value, bool) else scalar_dtype(params)
        return jnp.zeros((), dtype) + jnp.asarray(value).astype(dtype)

    def init(params: Params) -> Any:
        return state(**{name: first(name, params) for name in state._fields})

    def checked(flow: build.Flow, s: Any, p: Params = None, **extra_args: Any) -> build.LeafStep:
        return step(flow, s, build.need_params(flow.trail, p), **extra_args)

    return build.leafwise(checked, init)


class Equations:
    """Equations `u, s, parts = leaf(g, p, s, *others, **operands)` of one array.

    Args:
      leaf: the equations. `parts` are the numbers that this array adds to the sums.
      state: the class of s. The equations see None for the state of an inner transformation.
      sums: the number of sums.
    """

    def __init__(self, leaf: Callable[..., Any], state: Any, sums: int) -> None:
        kinds = build.kinds_of(state)
        slots = {name: kind for name, kind in kinds.items() if isinstance(kind, build.Slot)}
        self.sums = sums
        self.renews = [name for name, kind in slots.items() if not kind.constant]
        self.reads = [name for name, kind in slots.items() if kind.constant]
        inner = [name for name, kind in kinds.items() if build.is_inner(kind)]
        self.numbers = [n for n in state._fields if n not in slots and n not in inner]
        others = leaf.__code__.co_varnames[3 : leaf.__code__.co_argcount]
        names = [*self.renews, "sums", *self.reads, "p", *others]

        def lifted(g: Array, *arrays: Array, **operands: Any) -> tuple[Array, ...]:
            given = dict(zip(names, arrays, strict=True))
            fields = dict.fromkeys(inner) | {n: operands.pop(n) for n in self.numbers}
            fields |= {n: given[n] for n in slots}
            seen = [given[name] for name in others]
            u, s, parts = leaf(g, given["p"], state(**fields), *seen, **operands)
            return (u, *(getattr(s, name) for name in self.renews), jnp.stack(parts))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in ("g", *names)]
        lifted.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        lifted.__module__ = leaf.__module__
        self.leaf = lifted

    def step(
        self,
        close: Callable[[Any, Array], Any],
        flow: build.Flow,
        s: Any,
        p: Params,
        *others: PyTree,
        **operands: Any,
    ) -> build.LeafStep:
        """These equations for all arrays.

        Args:
          close: makes the new state of s with renewed slots, and the sums.
          flow: the updates.
          s: the state.
          p: the parameters.
          *others: further trees that the equations read.
          **operands: the equations' keyword arguments.
        """
        dtype = scalar_dtype(p)

        def closing(*renewed: PyTree) -> Any:
            *slots, sums = renewed
            new = s._replace(**dict(zip(self.renews, slots, strict=True)))
            return close(new, add_up(sums, self.sums, dtype))

        return build.LeafStep(
            self.leaf,
            slots=tuple(getattr(s, name) for name in self.renews),
            reduced=(zero_sums(flow, self.sums, dtype),),
            reads=(*(getattr(s, name) for name in self.reads), p, *others),
            close=closing,
            operands={name: getattr(s, name) for name in self.numbers} | operands,
        )

    def over(self, flow: build.Flow, *trees: PyTree, **operands: Any) -> tuple[Any, Array]:
        """The state with renewed slots and the sums, before the updates move on; arguments as for `step`."""
        return flow.push(self.step(lambda s, sums: (s, sums), flow, *trees, **operands))()


def equations(state: Any, sums: int) -> Callable[[Callable[..., Any]], Equations]:
    """A decorator that makes `Equations`."""
    return lambda leaf: Equations(leaf, state, sums)


def zero_sums(flow: build.Flow, number: int, dtype: Any) -> PyTree:
    """`number` zeros for each array."""
    return jax.tree.map(lambda _: jnp.zeros(number, dtype), flow.skeleton)


def add_up(sums: PyTree, number: int, dtype: Any) -> Array:
    """The sums over all arrays, of shape `(number,)`, limited so that sums of a few are finite."""
    parts = jax.tree.leaves(sums)
    total = jnp.sum(jnp.stack(parts), axis=0) if parts else jnp.zeros(number, dtype)
    limit = float(jnp.finfo(dtype).max) / 256
    return jnp.clip(total, -limit, limit)


def where_masked(mask: build.Mask, params: Params, number: Array, where: str) -> PyTree:
    """The number for each array that a mask selects, 0 for the others; without a mask for all."""
    flags = tree.mask_like(True if mask is None else mask, params, where)
    zero = jnp.zeros_like(number)
    return jax.tree.map(
        lambda p, flag: p if tree.is_placeholder(p) else number if flag else zero,
        params,
        flags,
        is_leaf=tree.is_placeholder,
    )
