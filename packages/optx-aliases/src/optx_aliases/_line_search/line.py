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

from optx_core import OptState, Params, PyTree, TreeMismatchError, apply_updates, build, tree


def partners(where: str, name: str, updates: PyTree, partner: PyTree) -> list[Any]:
    """The arrays of a tree at the places where the updates have arrays."""
    leaves: list[tuple[Any, Any]]
    structure: Any
    leaves, structure = jax.tree_util.tree_flatten_with_path(updates, is_leaf=tree.is_placeholder)
    try:
        theirs = structure.flatten_up_to(partner)
    except (ValueError, TypeError):
        raise TreeMismatchError(
            f"{where}: {name} has another structure than the updates: {tree.flatten(partner)[1]}, not "
            f"{structure}"
        ) from None
    present = [(k, x) for (k, u), x in zip(leaves, theirs, strict=True) if not tree.is_absent(u)]
    for path, x in present:
        if tree.is_absent(x):
            raise TreeMismatchError(
                f"{where}: updates{jax.tree_util.keystr(path)} has a gradient but {name} has no array "
                "there: pass None as its gradient, or call init again"
            )
    return [x for _, x in present]


def compute(x: Any) -> Array:
    """The array in the dtype of computations, at least float32."""
    x = jnp.asarray(x)
    return x.astype(build.at_least_float32(x.dtype))


def inner(xs: list[Any], ys: list[Any], real: Any) -> Array:
    """Re Σ x·y of two lists of arrays, without a conjugate, as a scalar of the dtype `real`."""
    with jax.numpy_dtype_promotion("standard"):
        products = [(compute(x) * compute(y)).real for x, y in zip(xs, ys, strict=True)]
    parts = [jnp.sum(product).astype(real) for product in products]
    return jnp.sum(jnp.stack(parts)) if parts else jnp.zeros((), real)


def times(factor: Array, x: Array) -> Array:
    """A real scalar times an array, in the array's dtype."""
    return factor.astype(build.real_dtype(x.dtype)).astype(x.dtype) * x


def scaled(step: Array, updates: PyTree) -> PyTree:
    """η·u in u's dtypes; zero for η = 0, whatever u holds."""

    def leaf(u: Array) -> Array:
        wide = compute(u)
        return jnp.where(step == 0, jnp.zeros_like(wide), times(step, wide)).astype(u.dtype)

    return jax.tree.map(leaf, updates)


def inverse_curvature(sy: Array, ss: Array, yy: Array) -> Array:
    """ρ = 1 / ⟨s, y⟩ of a quasi-Newton pair; 0 if it is not positive beyond rounding, or not finite.

    Args:
      sy: ⟨s, y⟩, of a step s and the change y of the gradient, scalar.
      ss: ⟨s, s⟩.
      yy: ⟨y, y⟩.
    """
    limits = jnp.finfo(sy.dtype)
    # ⟨s, y⟩ is accurate to about eps·‖s‖·‖y‖.
    floor = jnp.maximum(limits.eps * jnp.sqrt(ss) * jnp.sqrt(yy), limits.tiny)
    useful = (sy > floor) & jnp.isfinite(sy) & jnp.isfinite(ss + yy)
    return jnp.where(useful, 1 / jnp.where(useful, sy, 1), 0)


def has_complex(x: PyTree) -> bool:
    """Returns whether any array of a tree is complex."""
    return any(map(jnp.iscomplexobj, jax.tree.leaves(x)))


def search_states(state: OptState) -> list[Any]:
    """The states of line searches within a state: those with a learning rate, a value and a gradient."""

    def is_search(node: Any) -> bool:
        fields = getattr(node, "_fields", ())
        return {"learning_rate", "value", "grad"} <= set(fields)

    return [node for node in jax.tree.leaves(state, is_leaf=is_search) if is_search(node)]


def need_loss(where: str, **given: Any) -> None:
    """Checks the arguments of an update that searches along a line.

    Raises:
      ValueError: if one is missing; the message shows the call to write.
      TypeError: if `value_fn` is not a function.
    """
    meaning = {
        "params": "the parameters",
        "value": "value, the loss at the parameters",
        "grad": "grad, its gradient there as jax.grad gives it",
        "value_fn": "value_fn, the function of the parameters that is minimized",
    }
    missing = [text for name, text in meaning.items() if given[name] is None]
    if missing:
        raise ValueError(
            f"{where} needs {'; '.join(missing)}: call update(grads, state, params, value=..., "
            "grad=..., value_fn=...)"
        )
    if not callable(given["value_fn"]):
        raise TypeError(f"{where}: value_fn must be a function, not {given['value_fn']!r}")


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
        updates: PyTree,
        value_fn: Callable[..., Any],
        extra_args: dict[str, Any],
        real: Any,
    ) -> None:
        kwargs = arguments_for(value_fn, extra_args)
        self.where, self.params, self.updates, self.real = where, params, updates, real
        self.loss = lambda p: scalar(where, value_fn(p, **kwargs), real)

    def slope(self, grad: PyTree, name: str = "grad") -> Array:
        """φ' at a point with the gradient `grad`."""
        gs = partners(self.where, name, self.updates, grad)
        return inner(gs, jax.tree.leaves(self.updates), self.real)

    def start(self, grad: PyTree) -> tuple[Array, PyTree]:
        """φ'(0) and the gradient at the parameters as `jax.grad` returns it.

        Users pass the gradient of complex parameters as it is, or its conjugate, as optax's zoom search takes
        it; nothing tells which, so that it is evaluated.
        """
        if has_complex(self.updates):
            return self.value_slope_grad(jnp.zeros((), self.real))[1:]
        return self.slope(grad), grad

    def point(self, step: Array) -> Params:
        """p + η·u."""
        return apply_updates(self.params, scaled(step, self.updates))

    def value_slope_grad(self, step: Array) -> tuple[Array, Array, PyTree]:
        """φ(η), φ'(η) and the gradient at that point."""
        value, grad = jax.value_and_grad(self.loss, allow_int=True)(self.point(step))
        return value, self.slope(grad, "the gradient of value_fn"), grad

    def keep(self, new: PyTree, old: OptState) -> OptState:
        """A gradient in the dtypes of the slots `old`; slots of absent leaves stay."""

        def leaf(u: Any, slot: Any, g: Any) -> Any:
            absent = tree.is_absent(u) or tree.is_placeholder(slot) or tree.is_absent(g)
            return slot if absent else jnp.asarray(g).astype(slot.dtype)

        return jax.tree.map(leaf, self.updates, old, new, is_leaf=tree.is_placeholder)
