"""The kernels of attention, which are one matrix each, and its biases, which are vectors.

Flax's attention has the kernels query, key and value (features, heads, head_dim) and out (heads, head_dim,
features), and the biases (heads, head_dim). By their shapes alone they would be taken for stacks of matrices,
and for matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp

from optx_aliases._matrix.explicit_mesh import explicit_sharding, laid, typed_spec
from optx_aliases._matrix.hidden_matrices import names_of
from optx_aliases._matrix.matrices import Axes, flatten_with_path, matrix_shape, shapes_of
from optx_core import OptState, Params, PyTree, build, tree

P = ParamSpec("P")
_ROLES = ("query", "key", "value", "out")
_HEADS_LAST, _HEADS_FIRST = Axes((), (0,), (1, 2)), Axes((), (0, 1), (2,))
_VECTOR = Axes((), (0, 1), ())


def attention_axes(params: PyTree) -> dict[int, Axes]:
    """Returns the matrix axes of the kernels of Flax's attention, by the place of the leaf.

    They are recognized by their names if the last axes of the query are the first ones of out, which those of
    a stack of layers are not. Where the query or out is not there, as in a part of the parameters, the sizes
    of each kernel decide. The kernel out of a single head is left out: it is a stack of one matrix.
    """
    axes: dict[int, Axes] = {}
    for kernels in _attentions(params, 3):
        whole = {"query", "out"} <= kernels.keys()
        if whole and kernels["query"][1][1:] != kernels["out"][1][:2]:
            continue
        for role, (place, shape) in kernels.items():
            if (whole or _is_of_heads(role, shape)) and not (role == "out" and shape[0] == 1):
                axes[place] = _HEADS_FIRST if role == "out" else _HEADS_LAST
    return axes


def attention_leaves(params: PyTree) -> dict[int, Axes]:
    """Returns the matrix axes of these kernels and of their biases of several heads, which are columns."""
    kernels, pairs = attention_axes(params), flatten_with_path(params)[0]
    shapes = {layer_of(pairs[place][0], "kernel"): pairs[place][1].shape[1:] for place in kernels}
    biases = {
        place: _VECTOR
        for place, (path, x) in enumerate(pairs)
        if (layer := layer_of(path, "bias"))
        and not tree.is_absent(x)
        and jnp.shape(x) == shapes.get(layer)
        and jnp.shape(x)[0] > 1  # no matrix anyway
    }
    return {**kernels, **biases}


def _attentions(params: PyTree, ndim: int) -> list[dict[str, tuple[int, tuple[int, ...]]]]:
    """Returns the kernels of so many axes of each attention: their places and shapes, by their names."""
    found: dict[tuple[str, ...], dict[str, tuple[int, tuple[int, ...]]]] = {}
    for place, (path, x) in enumerate(flatten_with_path(params)[0]):
        if tree.is_absent(x) or jnp.ndim(x) != ndim or not build.is_inexact(x):
            continue
        names = layer_of(path, "kernel")
        if names and names[-1] in _ROLES:
            found.setdefault(names[:-1], {})[names[-1]] = place, jnp.shape(x)
    return list(found.values())


def _refuse_stacks(where: str, params: PyTree) -> None:
    """Refuses the kernels of stacked attentions, which by their shapes would be taken for convolutions'."""
    for kernels in _attentions(params, 4):
        if {"query", "out"} <= kernels.keys():
            (place, query), (_, out) = kernels["query"], kernels["out"]
            if query[0] == out[0] and query[2:] == out[1:3]:
                path = jax.tree_util.keystr(flatten_with_path(params)[0][place][0])
                raise ValueError(
                    f"{where}: the parameter{path} of shape {query} belongs to a stack of attentions, which "
                    "cannot be told from a convolution by its shape. Take each layer by itself: "
                    "optx_core.per_slice(optimizer, slices)"
                )


def layer_of(path: tuple[Any, ...], name: str) -> tuple[str, ...]:
    """Returns the names of the layer whose leaf of a name, such as "kernel", is at a path; else none."""
    names = names_of(path)
    names = names[:-1] if names[-2:] == (name, "value") else names  # of a Flax Variable
    return names[:-1] if names[-1:] == (name,) else ()


def _is_of_heads(role: str, shape: tuple[int, ...]) -> bool:
    """Returns whether a kernel is one of heads, not of a stack of layers, by its own sizes.

    A layer has more features than heads, but not fewer than a model has layers. Its heads together are about
    as wide as its features; a stack of kernels out is about as wide as each is high.
    """
    if role == "out":
        return shape[2] ** 2 > shape[0] * shape[1] ** 2
    return shape[0] > shape[1]


def attention_as_matrices(
    make: Callable[P, build.Transformation],
) -> Callable[P, build.Transformation]:
    """Presents the kernels of attention to a transformation as matrices, its biases as columns.

    Its state keeps the parameters' shapes. A decorator. `init` raises ValueError for stacked attentions.
    """

    @functools.wraps(make)
    def make_for_attention(*args: P.args, **kwargs: P.kwargs) -> build.Transformation:
        tx = make(*args, **kwargs)
        call = build.call_of(tx)

        def init(params: Params) -> OptState:
            _refuse_stacks(call.name if call else "init", params)
            axes = attention_leaves(params)
            return _restored(tx.init(_as_matrices(params, params, axes)), params, axes)

        def stages(
            flow: build.Flow, state: OptState, params: Params = None, **extra_args: Any
        ) -> Callable[[], OptState]:
            like = shapes_of(flow, params)
            axes = attention_leaves(like)
            if not axes:
                return flow.through(tx, state, params, **extra_args)
            given = (_as_matrices(x, like, axes) for x in (flow.updates, state, params))
            updates, new_state = tx.update(*given, **extra_args)
            flow.updates = _restored(updates, like, axes)
            return lambda: _restored(new_state, like, axes)

        return build.staged(init, stages)

    return build.recorded(make_for_attention)


def _as_matrices(given: PyTree, params: PyTree, axes: dict[int, Axes]) -> PyTree:
    """Reshapes what has the shapes of kernels in a tree, or in the fields of a state."""

    def merged(x: Any, p: Any, own: Axes) -> Any:
        if jnp.shape(x) != jnp.shape(p):
            return x
        sharding = explicit_sharding(x)
        if sharding is not None:  # of merged axes, only the first may be split
            later = own.rows[1:] + own.columns[1:]
            spec = [None if axis in later else part for axis, part in enumerate(typed_spec(x))]
            layout = jax.sharding.PartitionSpec(*spec)
            x = jax.sharding.reshard(x, jax.sharding.NamedSharding(sharding.mesh, layout))
        return jnp.reshape(x, matrix_shape(x.shape, own))

    return _mapped(merged, given, params, axes)


def _restored(given: PyTree, params: PyTree, axes: dict[int, Axes]) -> PyTree:
    """Inverts `_as_matrices`."""

    def split(x: Any, p: Any, own: Axes) -> Any:
        return laid(jnp.reshape(x, p.shape), p) if jnp.shape(x) == matrix_shape(p.shape, own) else x

    return _mapped(split, given, params, axes)


def _mapped(
    function: Callable[[Any, Any, Axes], Any], given: PyTree, params: PyTree, axes: dict[int, Axes]
) -> PyTree:
    """Applies `function(x, p, axes)` to what belongs to each kernel and bias."""
    if not axes:
        return given
    leaves, structure = tree.flatten(params)
    xs, own_structure = tree.flatten(given)
    if own_structure == structure:
        for place, own in axes.items():
            if not tree.is_absent(xs[place]):
                xs[place] = function(xs[place], leaves[place], own)
        return structure.unflatten(xs)
    if hasattr(given, "_fields"):
        return type(given)(*(_mapped(function, field, params, axes) for field in given))
    return given
