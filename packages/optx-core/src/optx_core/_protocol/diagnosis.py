"""Diagnosis of errors: parameters that are not arrays, the state of another transformation.

A call is examined only after it has raised an error, so successful calls have no overhead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from optx_core._protocol.absent import TreeMismatchError

Failures = (AttributeError, TypeError, KeyError, IndexError)
"""The errors raised by a call whose invalid arguments were not checked."""


def why_init_failed(name: str, params: Any) -> Exception | None:
    """Returns an error that names the first parameter that is not an array, or has no values; else None.

    Args:
      name: the function to name.
      params: the argument of `init`.

    Returns:
      A TypeError, or None.
    """
    pairs, _ = jax.tree_util.tree_flatten_with_path(params)
    for path, leaf in pairs:
        if not _is_array(leaf):
            return TypeError(
                f"{name}: params{jax.tree_util.keystr(path)} is {short_repr(leaf)}, which is not an array. "
                "Initialize with the arrays of the model alone: of an Equinox module "
                "eqx.filter(model, eqx.is_inexact_array), of an NNX module nnx.state(model, nnx.Param)"
            )
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return TypeError(
                f"{name}: params{jax.tree_util.keystr(path)} is a ShapeDtypeStruct, without values; call "
                "jax.eval_shape(tx.init, params) for the shapes of the state"
            )
    return None


def why_update_failed(
    name: str, init: Callable[[Any], Any], state: Any, params: Any
) -> Exception | None:
    """Returns an error that names the first difference between a state and those of `init`, or None.

    Args:
      name: the function to name.
      init: the `init` of the transformation.
      state: the state that `update` was called with.
      params: the parameters, or the updates where there are none.

    Returns:
      A `TreeMismatchError`, or None.
    """
    try:
        expected = jax.eval_shape(init, params)
    except (*Failures, ValueError):  # the parameters themselves may be invalid
        return None
    why = difference(expected, state, "state")
    if not why:
        return None
    return TreeMismatchError(of_another(f"{name}: {why}"))


def of_another(found: str) -> str:
    """Returns the message about a state that another transformation made."""
    return f"{found}: the state was made by the init of another transformation"


def check_state(where: str, expected: Any, state: Any) -> None:
    """Checks that a state is of a class: one with other fields, or other meanings, would be lost silently.

    Args:
      where: the function to name.
      expected: the class, a NamedTuple. Another class of this name with these fields, such as optax's, is
        accepted; in place of a class without fields, anything without arrays.
      state: the state that `update` was called with.

    Raises:
      TypeError: if it is another.

    Example:
      >>> from optx_core import EmptyState
      >>> from optx_core.build import check_state
      >>> check_state("mine", EmptyState, EmptyState())
    """
    fields, name = getattr(state, "_fields", ()), type(state).__name__
    same = name == expected.__name__ if fields else not jax.tree.leaves(state)
    if fields != expected._fields or not same:
        shown = ", ".join(fields) or "none"
        wanted = ", ".join(expected._fields) or "none"
        raise TypeError(
            of_another(
                f"{where}: the state, a {name}, has the fields {shown}; {expected.__name__} has {wanted}"
            )
        )


def _is_array(leaf: Any) -> bool:
    number = isinstance(leaf, bool | int | float | complex | np.generic)
    return number or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))


def short_repr(value: Any) -> str:
    """Returns the `repr` of a value on one line, cut at 80 characters: a model's has hundreds of lines.

    Args:
      value: any object.

    Returns:
      A string.

    Example:
      >>> from optx_core.build import short_repr
      >>> short_repr({"a": 1})
      "{'a': 1}"
    """
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def difference(expected: Any, given: Any, path: str) -> str:
    """Describes the first difference between the containers of two states; "" if there is none."""
    fields = getattr(expected, "_fields", None) if isinstance(expected, tuple) else None
    if fields is not None:
        if type(given).__name__ != type(expected).__name__:
            return f"{path} is {_kind(given)}, not {_kind(expected)}"
        children = [(f".{n}", getattr(expected, n), getattr(given, n, None)) for n in fields]
    elif isinstance(expected, tuple | list):
        if not isinstance(given, tuple | list) or len(given) != len(expected):
            return f"{path} is {_kind(given)}, not {_kind(expected)}"
        pairs = zip(expected, given, strict=True)
        children = [(f"[{k}]", one, other) for k, (one, other) in enumerate(pairs)]
    elif isinstance(expected, dict):
        if not hasattr(given, "keys"):
            return f"{path} is {_kind(given)}, not {_kind(expected)}"
        if set(given.keys()) != set(expected):
            shown = ", ".join(map(repr, given.keys()))
            return f"{path} has the keys {shown}, not {', '.join(map(repr, expected))}"
        children = [(f"[{key!r}]", one, given[key]) for key, one in expected.items()]
    else:
        return ""
    return next(filter(None, (difference(b, c, path + a) for a, b, c in children)), "")


def _kind(node: Any) -> str:
    if isinstance(node, tuple | list) and not hasattr(node, "_fields"):
        return f"a {type(node).__name__} of {len(node)}"
    name = "None" if node is None else type(node).__name__
    return name if name[:1].isupper() else f"a {name}"
