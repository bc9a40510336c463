"""Batches of examples, microbatches, and checks of arguments.

The loss of a batch is L(θ) = (1/B) Σ_b ℓ(θ, example_b) with reduction "mean", and the sum with
"sum". "none" keeps one result per example, stacked along a leading axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import PyTree
from optx_second_order._leaves import as_wide, described

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def check_reduction(where: str, reduction: str) -> None:
    """Checks that a reduction is "mean", "sum" or "none"."""
    check_choice(where, "reduction", reduction, ("mean", "sum", "none"))


def check_choice(where: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Checks that an argument is one of its choices."""
    if value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{where}: {name} must be one of {listed}, not {value!r}")


def check_functions(where: str, **functions: Any) -> None:
    """Checks that arguments are functions."""
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{where}: {name} must be a function, not {described(function)}")


def check_count(where: str, name: str, value: Any) -> None:
    """Checks that a count is a positive integer, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{where}: {name} must be an integer at least 1, not {value!r}")


class Batch:
    """Trees of arrays with the examples along their leading axis.

    Attributes:
      data: the trees.
      size: B, the number of examples.
      example: the shapes and dtypes of one example.
    """

    def __init__(self, where: str, data: tuple[PyTree, ...]) -> None:
        self.where = where
        self.data = jax.tree.map(_array, data)
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.data)
        if not leaves:
            raise ValueError(
                f"{where}: the batch contains no arrays; pass the examples stacked along a leading axis"
            )
        sizes = {}
        for path, leaf in leaves:
            if not leaf.shape:
                raise ValueError(
                    f"{where}: batch{jax.tree_util.keystr(path)} is a scalar; every array of the "
                    "batch must have the examples along its leading axis"
                )
            sizes[jax.tree_util.keystr(path)] = leaf.shape[0]
        if len(set(sizes.values())) > 1:
            raise ValueError(f"{where}: the arrays of the batch differ in length: {sizes}")
        self.size = int(next(iter(sizes.values())))
        if self.size == 0:
            raise ValueError(f"{where}: the batch is empty")
        self.example = jax.eval_shape(lambda t: jax.tree.map(lambda a: a[0], t), self.data)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def sum_over_microbatches(
    function: Callable[[PyTree], Any], data: PyTree, size: int, microbatch: int | None
) -> Any:
    """Sums function(part) over strided parts of the batch with `microbatch` examples each.

    Part i holds the examples i, i + s, i + 2s, ..., so that a batch sharded over devices is not moved.
    If `microbatch` does not divide the batch, the remainder is one smaller part.
    """
    if microbatch is None or microbatch >= size:
        return function(data)
    steps, rest = divmod(size, microbatch)
    body = jax.tree.map(lambda a: a[: steps * microbatch], data) if rest else data
    parts = jax.tree.map(
        lambda a: jnp.swapaxes(a.reshape((microbatch, steps, *a.shape[1:])), 0, 1), body
    )
    shapes = jax.eval_shape(function, jax.tree.map(lambda a: a[0], parts))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total: Any, part: PyTree) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    total, _ = jax.lax.scan(add, zero, parts)
    if rest:
        tail = jax.tree.map(lambda a: a[steps * microbatch :], data)
        total = jax.tree.map(jnp.add, total, function(tail))
    return total


def scalar_loss(
    where: str, loss_fn: Callable[..., Any], *, has_aux: bool
) -> Callable[..., jax.Array]:
    """Wraps `loss_fn`: checks that its value is a real scalar, and drops its auxiliary output."""
    check_functions(where, loss_fn=loss_fn)

    def loss(params: PyTree, *example: Any) -> jax.Array:
        value = loss_fn(params, *example)
        if has_aux:
            if not isinstance(value, tuple) or len(value) != 2:
                raise TypeError(f"{where}: with has_aux=True the loss must return (loss, aux)")
            value = value[0]
        elif isinstance(value, tuple):
            raise TypeError(
                f"{where}: the loss returned a tuple of {len(value)}; if it is (loss, aux), pass "
                "has_aux=True"
            )
        if not hasattr(value, "dtype") and not isinstance(value, int | float):
            raise TypeError(
                f"{where}: the loss must return a real scalar, not {type(value).__name__}"
            )
        value = jnp.asarray(value)
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"{where}: the loss must return a real scalar, not {value.dtype}"
                f"{list(value.shape)}. It is called with single examples, "
                "loss_fn(params, *example), and its values are averaged over the batch"
            )
        return value

    return loss


def batch_loss(
    loss: Callable[..., jax.Array], reduction: Reduction
) -> Callable[[PyTree, PyTree], jax.Array]:
    """Returns (params, data) ↦ the mean or sum of the examples' losses, in at least float32."""

    def total(params: PyTree, data: PyTree) -> jax.Array:
        losses = as_wide(jax.vmap(lambda example: loss(params, *example))(data))
        return jnp.sum(losses) if reduction == "sum" else jnp.mean(losses)

    return total
