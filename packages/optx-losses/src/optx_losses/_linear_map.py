"""A linear map with an explicit transpose.

y = A·x forward,   x̄ = Aᵀ·ȳ backward

Reverse mode runs `back` and does not transpose `forward`. Forward mode, `vmap` and compiled programs
see only `forward`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def linear_map(
    forward: Callable[[Any, Any], jax.Array],
    back: Callable[[Any, jax.Array], Any],
    given: Any,
    x: Any,
    like: jax.Array,
) -> jax.Array:
    """A(given)·x.

    Args:
      forward: a function `forward(given, x)`, linear in `x`, whose result has the shape and dtype of
        `like`.
      back: a function `back(given, y)` whose result has the structure of `x`. Neither function may
        close over arrays.
      given: the arrays that define the map, a tree.
      x: a tree of arrays.
      like: an array.
    """
    leaves, tree = jax.tree.flatten((given, x))
    (y,) = _primitive.bind(like, *leaves, forward=forward, back=back, tree=tree)
    return y


def _run(like: Any, *leaves: Any, forward: Any, back: Any, tree: Any) -> list[Any]:
    del like, back
    return [forward(*jax.tree.unflatten(tree, leaves))]


def _transpose(y: Any, like: Any, *leaves: Any, forward: Any, back: Any, tree: Any) -> list[Any]:
    del like, forward
    if isinstance(y[0], ad.Zero):
        return [None] * (1 + len(leaves))
    blank = [None if ad.is_undefined_primal(leaf) else leaf for leaf in leaves]
    given, _ = jax.tree.unflatten(tree, blank)
    of_x = jax.tree.leaves(back(given, y[0]))
    return [None] * (1 + len(leaves) - len(of_x)) + of_x


def _jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    tangents = [ad.instantiate_zeros(t) for t in tangents]
    return jax.jvp(functools.partial(_run, **params), primals, tangents)


def _batch(args: Any, dims: Any, **params: Any) -> Any:
    return jax.vmap(functools.partial(_run, **params), in_axes=dims)(*args), [0]


_primitive = Primitive("optx_linear_map")
_primitive.multiple_results = True
_primitive.def_impl(_run)
_primitive.def_abstract_eval(lambda like, *_, **__: [like])
ad.primitive_jvps[_primitive] = _jvp
ad.primitive_transposes[_primitive] = _transpose
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, mlir.lower_fun(_run, multiple_results=True))
