"""A function along a line, which is what a line search looks at.

φ(η) = f(p + η·u),    φ'(η) = Re Σ ∇f(p + η·u)·u

p are the parameters, u the direction (the updates that reach the search), and ∇f is what `jax.grad`
returns: for complex p the conjugate of the direction of steepest ascent, so that dφ = Re Σ ∇f·u dη.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, PyTree, TreeMismatchError, Updates, apply_updates, tree
from optx_core.build import at_least_float32, real_dtype


def pairs(where: str, name: str, updates: Updates, partner: PyTree) -> list[tuple[Any, Any]]:
    """The arrays of `updates`, each with its partner in a tree of the same structure."""
    leaves, structure = tree.flatten(updates)
    try:
        partners = structure.flatten_up_to(partner)
    except (ValueError, TypeError):
        theirs = tree.flatten(partner)[1]
        raise TreeMismatchError(
            f"{where}: {name} has another structure than the updates: {theirs}, not {structure}"
        ) from None
    found = [(u, x) for u, x in zip(leaves, partners, strict=True) if not tree.is_absent(u)]
    if any(tree.is_placeholder(x) for _, x in found):
        places = jax.tree_util.tree_flatten_with_path(updates, is_leaf=tree.is_placeholder)[0]
        path = next(
            jax.tree_util.keystr(path)
            for (path, u), x in zip(places, partners, strict=True)
            if not tree.is_absent(u) and tree.is_placeholder(x)
        )
        raise TreeMismatchError(
            f"{where}: updates{path} has a gradient but {name} has nothing there: pass None as its "
            "gradient, or call init again"
        )
    return found


def compute(x: Any) -> jax.Array:
    """An array in the dtype to compute with: at least float32."""
    x = jnp.asarray(x)
    return x.astype(at_least_float32(x.dtype))


def inner(x: Any, y: Any, real: Any) -> jax.Array:
    """Re Σ x·y of two arrays, a scalar of the dtype `real`; nothing is conjugated."""
    x, y = compute(x), compute(y)
    with jax.numpy_dtype_promotion("standard"):
        return jnp.sum((x * y).real).astype(real)


def total(parts: list[jax.Array], real: Any) -> jax.Array:
    """The sum of scalars; 0 for none."""
    return jnp.sum(jnp.stack(parts)) if parts else jnp.zeros((), real)


def scaled(step: jax.Array, updates: Updates) -> Updates:
    """η·u in u's dtypes; zero for η = 0, whatever u holds."""

    def leaf(u: Any) -> Any:
        if tree.is_absent(u):
            return u
        wide = compute(u)
        factor = step.astype(real_dtype(wide.dtype)).astype(wide.dtype)
        return jnp.where(step == 0, jnp.zeros_like(wide), factor * wide).astype(u.dtype)

    return jax.tree.map(leaf, updates, is_leaf=tree.is_placeholder)


def need_loss(where: str, params: Params, **needed: Any) -> None:
    """Refuses an update that lacks what a search along a line needs, and says how to pass it.

    Raises:
      ValueError: naming the call to write.
    """
    missing = [name for name, x in {"params": params, **needed}.items() if x is None]
    if missing:
        call = ", ".join(["grads", "state", "params", *(f"{name}=..." for name in needed)])
        meaning = {
            "params": "the parameters",
            "value": "value, the loss at the parameters",
            "grad": "grad, its gradient there as jax.grad gives it",
            "value_fn": "value_fn, the function of the parameters that is minimized",
        }
        raise ValueError(
            f"{where} needs {'; '.join(meaning[name] for name in missing)}: call update({call})"
        )
    if "value_fn" in needed and not callable(needed["value_fn"]):
        raise TypeError(f"{where}: value_fn must be a function, not {needed['value_fn']!r}")


def arguments_for(function: Callable[..., Any], extra_args: dict[str, Any]) -> dict[str, Any]:
    """Those of update's extra arguments that a loss names; all of them where it takes `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return extra_args
    names = {parameter.name for parameter in list(parameters)[1:]}
    return {name: x for name, x in extra_args.items() if name in names}


def scalar(where: str, value: Any, real: Any) -> jax.Array:
    """A loss as a scalar of the dtype of the search."""
    value = jnp.asarray(value)
    if value.size != 1 or jnp.iscomplexobj(value):
        raise ValueError(
            f"{where}: the loss must be one real number, not {value.dtype} of shape {value.shape}"
        )
    return value.reshape(()).astype(real)


class Line:
    """The loss along p + η·u.

    Args:
      where: the function to name in errors.
      params: p, a tree of arrays.
      updates: u, a tree of arrays of the same structure; absent leaves do not move.
      value_fn: f; takes the parameters, and those of `extra_args` that it names.
      extra_args: update's extra arguments.
      real: dtype of η, φ and φ'.
    """

    def __init__(
        self,
        where: str,
        params: Params,
        updates: Updates,
        value_fn: Callable[..., Any],
        extra_args: dict[str, Any],
        real: Any,
    ) -> None:
        self.where = where
        self.params = params
        self.updates = updates
        self.value_fn = value_fn
        self.kwargs = arguments_for(value_fn, extra_args)
        self.real = real

    def slope(self, grad: PyTree, name: str = "grad") -> jax.Array:
        """φ' where the gradient is `grad`."""
        parts = [
            inner(g, u, self.real)
            for u, g in pairs(self.where, name, self.updates, grad)
            if not tree.is_absent(g)
        ]
        return total(parts, self.real)

    def value(self, step: jax.Array) -> jax.Array:
        """φ(η)."""
        return self._loss(apply_updates(self.params, scaled(step, self.updates)))

    def value_slope_grad(self, step: jax.Array) -> tuple[jax.Array, jax.Array, PyTree]:
        """φ(η), φ'(η) and the whole gradient there."""
        there = apply_updates(self.params, scaled(step, self.updates))
        value, grad = jax.value_and_grad(self._loss, allow_int=True)(there)
        return value, self.slope(grad, "the gradient of value_fn"), grad

    def _loss(self, params: Params) -> jax.Array:
        return scalar(self.where, self.value_fn(params, **self.kwargs), self.real)

    def keep(self, new: PyTree, old: OptState) -> OptState:
        """A gradient in the dtypes of the slots `old`; slots of absent leaves as they were."""
        olds, structure = tree.flatten(old)
        us = structure.flatten_up_to(self.updates)
        news = structure.flatten_up_to(new)
        return structure.unflatten(
            [
                slot
                if tree.is_absent(u) or tree.is_placeholder(slot) or tree.is_absent(g)
                else jnp.asarray(g).astype(slot.dtype)
                for slot, u, g in zip(olds, us, news, strict=True)
            ]
        )
