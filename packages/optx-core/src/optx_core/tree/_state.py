"""Access to optimizer state by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import tree_flatten_with_path

from optx_core._engine.labels import key_name
from optx_core._protocol.absent import is_placeholder, tree_flatten
from optx_core._protocol.dtypes import is_inexact
from optx_core._protocol.kinds import Slot, is_inner, kinds_of
from optx_core._protocol.types import PyTree

Path = tuple[Any, ...]
Filtering = Callable[[Path, Any], bool]


@dataclasses.dataclass(frozen=True)
class NamedTupleKey:
    """A path key for a field of a NamedTuple.

    Attributes:
      tuple_name: the name of the NamedTuple class.
      name: the field.
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


def get_all_with_path(
    tree: PyTree, key: str, filtering: Filtering | None = None
) -> list[tuple[Path, Any]]:
    """Returns all values of a tree that match a name, with their paths.

    Args:
      tree: a tree, usually an optimizer's state.
      key: a field of a NamedTuple, a key of a dict, the name of a NamedTuple class (which matches
        the tuple), or several of these from the outermost to the innermost, joined by "/", not
        necessarily adjacent: "ScaleByAdamState/count".
      filtering: `filtering(path, value)` returns whether to keep a match.

    Returns:
      A list of `(path, value)`; a path is a tuple of JAX's keys and of `NamedTupleKey`s.

    Example:
      >>> from optx_core import chain, ema, scale_by_schedule, tree
      >>> tx = chain(ema(0.9), scale_by_schedule(lambda count: 0.1))
      >>> [tree.show_path(path) for path, _ in tree.get_all_with_path(tx.init(1.0), "count")]
      ['0/EmaState.count', '1/ScaleByScheduleState.count']
    """
    wanted = key.split("/") if isinstance(key, str) else [key]
    return [
        (path, value)
        for path, names, value in _walk(tree, (), ())
        if _matches(wanted, names) and (filtering is None or filtering(path, value))
    ]


def get(tree: PyTree, key: str, default: Any = None, filtering: Filtering | None = None) -> Any:
    """Returns the value of a tree that matches a name.

    Args:
      tree: a tree, usually an optimizer's state.
      key: the name, as for `get_all_with_path`.
      default: the result if nothing matches.
      filtering: `filtering(path, value)` returns whether to keep a match.

    Returns:
      The value: an array, or a whole subtree.

    Raises:
      KeyError: if several values match; lists their paths, each of which is valid as `key`.

    Example:
      >>> from optx_core import ema, tree
      >>> tree.get(ema(0.9).init(1.0), "count")
      Array(0, dtype=int32)
    """
    match = _one("get", tree, key, filtering)
    return match[1] if match else default


def set(tree: PyTree, filtering: Filtering | None = None, /, **kwargs: Any) -> PyTree:
    """Returns a copy of a tree with some values replaced.

    Args:
      tree: a tree, usually an optimizer's state.
      filtering: `filtering(path, value)` returns whether to keep a match.
      **kwargs: the new values by name, as for `get_all_with_path`; write a name with a "/" as
        `**{"ScaleByAdamState/count": 0}`. If the old value is an array, the new one is cast to its
        dtype to avoid recompilation.

    Returns:
      The new tree.

    Raises:
      KeyError: if a name matches nothing, or several values; lists their paths.
      ValueError: if the shape or structure of a new value differs from that of the old one.

    Example:
      >>> from optx_core import ema, tree
      >>> tree.set(ema(0.9).init(1.0), count=7).count
      Array(7, dtype=int32)
    """
    for name, value in kwargs.items():
        match = _one("set", tree, name, filtering)
        if not match:
            known = sorted({str(n) for _, names, _ in _walk(tree, (), ()) for n in names[-1:][0]})
            raise KeyError(f"tree.set: nothing matches {name!r}; the names are {', '.join(known)}")
        path, old = match
        tree = _replace(tree, path, _fitted(name, old, value))
    return tree


def show_path(path: Path) -> str:
    """Formats a path as a string, which is also a valid name for `get` and `set`.

    Args:
      path: a path as returned by `get_all_with_path`.

    Returns:
      The keys, joined by "/".

    Example:
      >>> from optx_core import ema, tree
      >>> tree.show_path(tree.get_all_with_path(ema(0.9).init(1.0), "ema")[0][0])
      'EmaState.ema'
    """
    return "/".join(str(k) if isinstance(k, NamedTupleKey) else key_name(k) for k in path)


def map_params(
    initable: Any,
    f: Callable[..., Any],
    state: PyTree,
    /,
    *rest: PyTree,
    transform_non_params: Callable[[Any], Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> PyTree:
    """Applies a function to all parts of a state that have the parameters' structure.

    Args:
      initable: a transformation, or its `init`.
      f: `f(slot, *others)`, called on each leaf of each such part with the leaves of `rest`.
      state: the state.
      *rest: trees of the parameters' structure.
      transform_non_params: a function to apply to all other leaves; by default they are unchanged.
      is_leaf: as for `jax.tree.map`, within the parts. None and masked nodes stay as they are, unless
        this is true of them.

    Returns:
      A tree of the state's structure.

    Example:
      >>> from optx_core import ema, tree
      >>> tx = ema(0.9)
      >>> tree.map_params(tx, lambda slot, spec: spec, tx.init({"w": 1.0}), {"w": "rows"}).ema
      {'w': 'rows'}
    """

    def part(slots: PyTree) -> PyTree:
        def chosen(x: Any) -> bool:
            return is_leaf is not None and is_leaf(x)

        def leaf(slot: Any, *others: Any) -> Any:
            return slot if is_placeholder(slot) and not chosen(slot) else f(slot, *others)

        def stop(x: Any) -> bool:
            return is_placeholder(x) or chosen(x)

        return jax.tree.map(leaf, slots, *rest, is_leaf=stop)

    def other(sub: PyTree) -> PyTree:
        return sub if transform_non_params is None else jax.tree.map(transform_non_params, sub)

    def walk(node: Any) -> Any:
        if hasattr(node, "_fields"):
            kinds = kinds_of(type(node))
            values = {name: getattr(node, name) for name in node._fields}
            return type(node)(
                **{
                    name: part(value) if isinstance(kinds.get(name), Slot) else walk(value)
                    for name, value in values.items()
                }
            )
        children, structure = tree_flatten(node, is_leaf=lambda x: x is not node)
        if len(children) == 1 and children[0] is node:
            return other(node)
        return structure.unflatten([walk(child) for child in children])

    if _is_declared(state):
        return walk(state)
    return jax.tree.map(
        lambda mark, sub: part(sub) if isinstance(mark, _Placeholder) else other(sub),
        _marked(getattr(initable, "init", initable), state),
        state,
        is_leaf=lambda x: isinstance(x, _Placeholder),
    )


def _marked(init: Callable[[Any], Any], state: PyTree) -> PyTree:
    """Returns the state of a placeholder, which shows the parts that are like the parameters."""
    marked = init(_Placeholder())
    prefix: Any = jax.tree.structure(marked, is_leaf=lambda x: isinstance(x, _Placeholder))
    try:
        prefix.flatten_up_to(state)
    except ValueError:  # `lookahead` has another state for pairs
        return init(_Pair(_Placeholder(), _Placeholder()))
    return marked


class _Pair(NamedTuple):
    """Parameters as `LookaheadParams` holds them."""

    fast: Any
    slow: Any


def _is_declared(node: Any) -> bool:
    """Returns whether all leaves of a state are in NamedTuples that declare their fields."""
    if hasattr(node, "_fields"):
        kinds = kinds_of(type(node))
        return bool(kinds or not node._fields) and all(
            _is_declared(getattr(node, n)) for n in node._fields if is_inner(kinds.get(n))
        )
    children = jax.tree_util.tree_leaves(node, is_leaf=lambda x: x is not node)
    return all(child is not node and _is_declared(child) for child in children)


@jax.tree_util.register_pytree_node_class
class _Placeholder:
    """A placeholder for the whole tree of parameters: a node without leaves."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[()]) -> _Placeholder:
        del aux, children
        return cls()


def _children(node: Any) -> list[tuple[Any, Any]]:
    pairs, _ = tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if len(pairs) == 1 and pairs[0][0] == ():
        return []
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        name = type(node).__name__
        return [
            (NamedTupleKey(name, field), child)
            for field, child in zip(node._fields, node, strict=True)
        ]
    return [(path[0], child) for path, child in pairs]


def _walk(
    node: Any, path: Path, names: tuple[tuple[str, ...], ...]
) -> Iterator[tuple[Path, tuple[tuple[str, ...], ...], Any]]:
    """Yields all nodes with their paths, and the names of each key of the path."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        own = type(node).__name__
        names = (*names[:-1], (*names[-1], own)) if names else ((own,),)
        yield path, names, node
    elif path:
        yield path, names, node
    for key, child in _children(node):
        step = (key.name, str(key)) if isinstance(key, NamedTupleKey) else (key_name(key),)
        yield from _walk(child, (*path, key), (*names, step))


def _matches(wanted: list[str], names: tuple[tuple[str, ...], ...]) -> bool:
    if not names or wanted[-1] not in names[-1]:
        return False
    rest = iter(names[:-1])
    return all(any(part in step for step in rest) for part in wanted[:-1])


def _one(
    where: str, tree: PyTree, key: str, filtering: Filtering | None
) -> tuple[Path, Any] | None:
    """Returns the match of a name; among several, the one whose full path is the name."""
    matches = get_all_with_path(tree, key, filtering)
    if len(matches) > 1:
        exact = [(path, value) for path, value in matches if show_path(path) == key]
        if len(exact) != 1:
            listed = ", ".join(repr(show_path(path)) for path, _ in matches)
            raise KeyError(
                f"tree.{where}: {key!r} is ambiguous: it matches {listed}; give one of these, or filtering="
            )
        matches = exact
    return matches[0] if matches else None


def _fitted(name: str, old: Any, new: Any) -> Any:
    if not isinstance(old, jax.Array):
        a: Any = jax.tree.structure(old)
        b: Any = jax.tree.structure(new)
        if a != b:
            raise ValueError(f"tree.set: {name!r} has the structure {a}, not {b}")
        return new
    if jnp.shape(new) != old.shape:
        raise ValueError(f"tree.set: {name!r} has the shape {old.shape}, not {jnp.shape(new)}")
    if is_inexact(new) and not is_inexact(old):
        raise ValueError(f"tree.set: {name!r} is of {old.dtype}, {new!r} is not")
    return jnp.asarray(new, old.dtype)


def _replace(node: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    step, *rest = path
    if isinstance(step, NamedTupleKey):
        return node._replace(**{step.name: _replace(getattr(node, step.name), tuple(rest), value)})
    pairs, structure = tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return jax.tree_util.tree_unflatten(
        structure,
        [_replace(child, tuple(rest), value) if key[0] == step else child for key, child in pairs],
    )
