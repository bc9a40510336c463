"""A function along a line, the subject of a line search.

φ(η) = f(p + η·u),    φ'(η) = Re Σ ∇f(p + η·u)·u

p are the parameters, u the direction (the updates that reach the search), and ∇f is the result of
`jax.grad`: for complex p the conjugate of the direction of steepest ascent, so that dφ = Re Σ ∇f·u dη.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import (
    OptState,
    Params,
    PyTree,
    TreeMismatchError,
    Updates,
    apply_updates,
    build,
    tree,
)


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
    present = [(u, x) for u, x in zip(leaves, partners, strict=True) if not tree.is_absent(u)]
    if any(tree.is_placeholder(x) for _, x in present):
        places = jax.tree_util.tree_flatten_with_path(updates, is_leaf=tree.is_placeholder)[0]
        path = next(
            jax.tree_util.keystr(path)
            for (path, u), x in zip(places, partners, strict=True)
            if not tree.is_absent(u) and tree.is_placeholder(x)
        )
        raise TreeMismatchError(
            f"{where}: updates{path} has a gradient but {name} has no array there: pass None as its "
            "gradient, or call init again"
        )
    return present


def compute(x: Any) -> Array:
    """The array in the dtype of computations, at least float32."""
    x = jnp.asarray(x)
    return x.astype(build.at_least_float32(x.dtype))


def inner(x: Any, y: Any, real: Any) -> Array:
    """Re Σ x·y of two arrays, without a conjugate, as a scalar of the dtype `real`."""
    x, y = compute(x), compute(y)
    with jax.numpy_dtype_promotion("standard"):
        return jnp.sum((x * y).real).astype(real)


def total(parts: list[Array], real: Any) -> Array:
    """The sum of scalars; 0 for none."""
    return jnp.sum(jnp.stack(parts)) if parts else jnp.zeros((), real)


def scaled(step: Array, updates: Updates) -> Updates:
    """η·u in u's dtypes; zero for η = 0, whatever u holds."""

    def leaf(u: Any) -> Any:
        if tree.is_absent(u):
            return u
        wide = compute(u)
        factor = step.astype(build.real_dtype(wide.dtype)).astype(wide.dtype)
        return jnp.where(step == 0, jnp.zeros_like(wide), factor * wide).astype(u.dtype)

    return jax.tree.map(leaf, updates, is_leaf=tree.is_placeholder)


def has_complex(x: PyTree) -> bool:
    """Whether a tree has a complex array."""
    return any(map(jnp.iscomplexobj, jax.tree.leaves(x)))


def search_states(state: OptState) -> list[Any]:
    """The states of line searches within a state: those with a learning rate, a value and a gradient."""

    def is_search(node: Any) -> bool:
        fields = getattr(node, "_fields", ())
        return {"learning_rate", "value", "grad"} <= set(fields)

    return [node for node in jax.tree.leaves(state, is_leaf=is_search) if is_search(node)]


def need_loss(where: str, params: Params, **needed: Any) -> None:
    """Checks the arguments of an update that searches along a line.

    Raises:
      ValueError: if one is missing; the message shows the call to write.
      TypeError: if `value_fn` is not a function.
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
    """The extra arguments of `update` that a loss names; all of them if it takes `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return extra_args
    names = {parameter.name for parameter in list(parameters)[1:]}
    return {name: x for name, x in extra_args.items() if name in names}


def scalar(where: str, value: Any, real: Any) -> Array:
    """A loss as a scalar of a dtype."""
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
      value_fn: f; takes the parameters, and the arguments among `extra_args` that it names.
      extra_args: the extra arguments of `update`.
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
        self.is_complex = has_complex(updates)

    def slope(self, grad: PyTree, name: str = "grad") -> Array:
        """φ' at a point with the gradient `grad`."""
        parts = [
            inner(g, u, self.real)
            for u, g in pairs(self.where, name, self.updates, grad)
            if not tree.is_absent(g)
        ]
        return total(parts, self.real)

    def start(self, grad: PyTree) -> tuple[Array, PyTree]:
        """φ'(0) and the gradient at the parameters as `jax.grad` returns it.

        Users pass the gradient of complex parameters as it is, or its conjugate, as optax's zoom search takes
        it; nothing tells which, so that it is evaluated.
        """
        if not self.is_complex:
            return self.slope(grad), grad
        _, slope, grad = self.value_slope_grad(jnp.zeros((), self.real))
        return slope, grad

    def value(self, step: Array) -> Array:
        """φ(η)."""
        return self._loss(apply_updates(self.params, scaled(step, self.updates)))

    def value_slope_grad(self, step: Array) -> tuple[Array, Array, PyTree]:
        """φ(η), φ'(η) and the gradient at that point."""
        point = apply_updates(self.params, scaled(step, self.updates))
        value, grad = jax.value_and_grad(self._loss, allow_int=True)(point)
        return value, self.slope(grad, "the gradient of value_fn"), grad

    def _loss(self, params: Params) -> Array:
        return scalar(self.where, self.value_fn(params, **self.kwargs), self.real)

    def keep(self, new: PyTree, old: OptState) -> OptState:
        """A gradient in the dtypes of the slots `old`; slots of absent leaves stay."""
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
