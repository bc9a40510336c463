"""Slices of an array as arrays of their own: the layers of a stack, experts, heads, parts of a fused weight.

A model that scans over its layers holds the weights of all layers in one array (layers, rows, columns), which
an optimizer takes for one array: one norm, one trust ratio, one factored moment. `per_slice` applies it with
`jax.vmap` to the arrays of each layer, (rows, columns). Blocks of a fused weight are cut apart first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import (
    OptState,
    Params,
    PyTree,
    Updates,
    build,
    tree,
    with_extra_args_support,
)
from optx_core._engine.seen import seeing
from optx_core._protocol.diagnosis import difference, of_another
from optx_core._wrappers.slices import At, CutTree, Group, Layout, Part, layout_of, named

_OF_PARAMS = ("value_fn", "grad_fn", "obj_fn")


@build.keeps_inner_state
@build.recorded
def per_slice(inner: Any, slices: PyTree | Callable[[Params], PyTree]) -> build.Transformation:
    """Applies a transformation to the slices of arrays: each layer of a stack, expert, head or block.

    For models that scan over their layers: `per_slice(lamb(1e-3), {"blocks": 1, "head": 0})` takes norms,
    trust ratios, factored moments and matrices for each layer by itself, and biases of shape
    (layers, features) for vectors. The updates equal those of the same model with an array for each layer.

    Args:
      inner: the transformation. It must treat arrays separately: what measures all parameters, such as
        `clip_by_global_norm`, or a line search, belongs outside.
      slices: for each array the number of its leading axes that are a stack (0: the array is one piece), or
        `Slices` for other axes, such as heads, and for blocks of a fused weight. A tree of these with the
        structure of the parameters, a prefix of it, or a function from the parameters to one of these.

    Returns:
      A transformation whose state is that of `inner`. Arrays of the parameter's shape have its shape; where
      `inner` keeps other shapes, the stack's axes come first: one number for each array becomes one for
      each slice. Of an array that is cut into blocks the state holds a tuple, one entry for each block.
      Counts and keys are shared; random numbers differ between slices.

    Raises:
      TypeError: if `inner` is not a transformation, or an entry of `slices` is neither an int nor `Slices`;
        from `update`, if `inner` measures more than one array.
      ValueError: from `init` and `update`, if an array does not have such axes or sizes; names its path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import clip_by_block_rms, per_slice
      >>> params = {"blocks": jnp.ones((2, 3)), "head": jnp.ones(2)}   # two layers
      >>> tx = per_slice(clip_by_block_rms(1.0), {"blocks": 1, "head": 0})
      >>> grads = {"blocks": jnp.array([[4.0, 4, 4], [1, 1, 1]]), "head": jnp.ones(2)}
      >>> tx.update(grads, tx.init(params))[0]["blocks"]
      Array([[1., 1., 1.],
             [1., 1., 1.]], dtype=float32)
    """
    build.check_transformation_like("per_slice", inner)
    inner = with_extra_args_support(inner)

    @functools.lru_cache(maxsize=16)
    def cached(structure: Any, groups: Any, shapes: Any) -> Layout:
        return layout_of(inner.init, structure, groups, shapes)

    def init(params: Params) -> OptState:
        cut = CutTree(slices, params)
        leaves = cut.leaves(params)
        state: dict[str, Any] = {}
        with seeing("slices"):
            layout = cached(cut.structure, cut.groups, cut.shapes)
            for group, part in layout.parts.items():
                own = cut.members(group)

                def run(xs: list[Any], own: Any = own, part: Part = part) -> dict[str, Any]:
                    given = cut.structure.unflatten(cut.with_only(own, xs))
                    return part.arrays(inner.init(given))

                def of_slices(xs: list[Any], run: Any = run, part: Part = part) -> dict[str, Any]:
                    new = run(xs)
                    return {name: new[name] for name in part.own}

                if group is not None:
                    run = group.vmap(of_slices, ([At(group.axes)] * len(own),), part.own)
                state |= run([leaves[k] for k in own])
        return layout.whole.of(state)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        cut = CutTree(slices, updates if params is None else params)
        trees = {"updates": updates} | ({} if params is None else {"params": params})
        trees |= {name: x for name, x in extra_args.items() if _has_shapes_of(updates, x)}
        others = {
            name: _refused(name) if name in _OF_PARAMS and callable(x) else x
            for name, x in extra_args.items()
            if name not in trees
        }
        columns = [cut.leaves(x) for x in trees.values()]
        old, names, structure = named(state)

        def run(
            part: Part, own: list[int], columns: list[list[Any]], state: dict[str, Any]
        ) -> tuple[list[Any], dict[str, Any]]:
            given = {
                name: cut.structure.unflatten(cut.with_only(own, column))
                for name, column in zip(trees, columns, strict=True)
            }
            updates, params = given.pop("updates"), given.pop("params", None)
            new = inner.update(updates, part.of({**old, **state}), params, **given, **others)
            done = tree.flatten(new[0])[0]
            return [done[k] for k in own], part.arrays(new[1])

        def run_sliced(
            group: Group,
            part: Part,
            own: list[int],
            columns: list[list[Any]],
            state: dict[str, Any],
        ) -> tuple[list[Any], dict[str, Any]]:
            def of_slices(index: Any, columns: Any, state: dict[str, Any]) -> tuple[Any, Any, Any]:
                keys = {name: jax.random.fold_in(old[name], index) for name in layout.keys}
                updates, new = run(part, own, columns, state | keys)
                shared = [new[name] for name in layout.numbers]
                return updates, {name: new[name] for name in state}, shared

            first, at = At(tuple(range(len(group.shape)))), [At(group.axes)] * len(own)
            index = jnp.arange(math.prod(group.shape)).reshape(group.shape)
            arguments = (index, columns, state)
            places = (first, [at] * len(columns), part.own)
            shared = [None] * len(layout.numbers)
            lifted = group.vmap(of_slices, places, (at, part.own, shared))
            try:
                done, new, _ = lifted(*jax.tree.map(group.aligned, places, arguments))
            except ValueError as error:
                if "out_axes" not in str(error):
                    _note_whole(error, others)
                    raise
                raise TypeError(
                    "per_slice: a number in the state of the transformation inside measures the "
                    "parameters, so that each slice would have its own. What measures all parameters "
                    "belongs outside of per_slice"
                ) from error
            done = [group.restored(x, like) for x, like in zip(done, columns[0], strict=True)]
            return done, {name: group.restored(x, state[name]) for name, x in new.items()}

        done, new_state = list(columns[0]), dict(old)
        with seeing("slices"):
            layout = cached(cut.structure, cut.groups, cut.shapes)
            if params is not None:
                expected = layout.whole.structure.unflatten(layout.whole.names)
                if why := difference(expected, state, "state"):
                    raise TypeError(of_another(f"per_slice: {why}"))
            for group, part in layout.parts.items():
                own = cut.members(group)
                given = [[column[k] for k in own] for column in columns]
                arrays = {name: old[name] for name in part.own}
                if group is None:
                    some, new = run(part, own, given, arrays)
                else:
                    some, new = run_sliced(group, part, own, given, arrays)
                new_state |= new
                for k, x in zip(own, some, strict=True):
                    done[k] = x
        return cut.join(done), Part(structure, names, {}).of(new_state)

    return build.wrapping(init, update)


def _has_shapes_of(updates: Updates, value: Any) -> bool:
    leaves, structure = tree.flatten(updates)
    others, other = tree.flatten(value)
    return structure == other and all(
        tree.is_absent(x) or tree.is_absent(y) or jnp.shape(x) == jnp.shape(y)
        for x, y in zip(leaves, others, strict=True)
    )


def _note_whole(error: Exception, others: dict[str, Any]) -> None:
    """Notes on an error that the transformation inside gets some arguments uncut."""
    names = [k for k, x in others.items() if any(jnp.ndim(leaf) for leaf in _arrays_in(x))]
    if names:
        error.add_note(
            f"per_slice: {', '.join(names)} is given whole to the transformation inside, which gets slices "
            "of the parameters. What reads it belongs outside, where it takes stacked arrays: "
            "chain(per_slice(...), qk_clip(...))"
        )


def _arrays_in(value: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(value) if isinstance(x, jax.Array | np.ndarray)]


def _refused(name: str) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise TypeError(
            f"per_slice: the transformation inside calls {name}, the loss of all parameters, with a slice "
            "of them. A line search belongs outside of per_slice"
        )

    return function
