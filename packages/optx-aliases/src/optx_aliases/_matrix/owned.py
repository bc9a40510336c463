"""Rules whose matrices have owners on a mesh."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
import numpy as np
from jax import Array

from optx_aliases._matrix.matrices import Axes, default_axes, flatten_with_path, side_lengths
from optx_aliases._matrix.owners import OwnerAxes, mesh_of, on_owners
from optx_core import OptState, Params, TreeMismatchError, build, tree

P = ParamSpec("P")


def owned(make: Callable[P, build.Transformation]) -> Callable[P, build.Transformation]:
    """Lets the owners of matrices run a rule, on a mesh of several devices.

    Args:
      make: a `build.rule` around `stacked`, whose equations treat each matrix of a stack by itself, with an
        argument `owner_axes`. A decorator.

    Returns:
      A function of the same signature. Without a mesh, and inside `jax.shard_map`, its transformations are
      those of the rule.
    """

    @functools.wraps(make)
    def owned_make(*args: P.args, **kwargs: P.kwargs) -> build.Transformation:
        tx = make(*args, **kwargs)
        call = build.call_of(tx)
        assert call is not None  # noqa: S101 (every rule records its call)
        where, owner_axes = call.name, call.arguments["owner_axes"]

        def step(
            flow: build.Flow, state: OptState, params: Params = None, **_: Any
        ) -> build.LeafStep:
            captured = _Captured(flow)
            finish = captured.through(tx, state, params)
            inner = captured.step

            def close(*renewed: Any) -> OptState:
                captured.renewed = renewed
                return finish()

            mesh = mesh_of(x for x in jax.tree.leaves(flow.skeleton) if not tree.is_absent(x))
            if mesh is None:
                return dataclasses.replace(inner, close=close)
            flow.updates, renewed = _updated(where, inner, flow.updates, mesh, owner_axes)
            return build.LeafStep(_unchanged, close=lambda: close(*renewed))

        return build.leafwise(step, tx.init)

    return build.recorded(owned_make)


class _Captured(build.Flow):
    """A flow that holds the step of a transformation instead of running it."""

    step: build.LeafStep
    renewed: tuple[Any, ...]

    def __init__(self, flow: build.Flow) -> None:
        super().__init__(flow.skeleton, name=flow.trail)
        self._trail = flow.trail

    @property
    def trail(self) -> str:
        return self._trail

    def push(self, step: build.LeafStep) -> Callable[[], OptState]:
        self.step = step
        return lambda: step.close(*self.renewed)


def _unchanged(g: Array) -> Array:
    return g


class _Equations(NamedTuple):
    """The static part of a step.

    Attributes:
      where: the name of the function.
      leaf: the equations for one array.
      counts: the numbers of slots, reduced slots and arrays that are only read.
      structure: that of the operands.
      fixed: the operands that are part of the program, None in place of the others.
    """

    where: str
    leaf: Callable[..., Any]
    counts: tuple[int, int, int]
    structure: Any
    fixed: tuple[Any, ...]

    @property
    def renewed(self) -> int:
        return 1 + sum(self.counts[:2])

    def __call__(self, arrays: Any, numbers: list[Array]) -> tuple[Any, ...]:
        """Applies the equations to the update and the arrays that belong to it, or to trees of these."""
        left = iter(numbers)
        values = [next(left) if x is _NUMBER else x for x in self.fixed]
        g, *rest = arrays
        slots, reduced, _ = self.counts
        return tree.map_leaves(
            self.leaf,
            g,
            *rest[:slots],
            reduced=tuple(rest[slots : slots + reduced]),
            reads=tuple(rest[slots + reduced :]),
            name=self.where,
            **self.structure.unflatten(values),
        )


_NUMBER = "a number"


def _updated(
    where: str, step: build.LeafStep, updates: Any, mesh: Any, owner_axes: OwnerAxes
) -> tuple[Any, list[Any]]:
    """Runs a step, its matrices on their owners; returns the updates and the renewed slots."""
    leaves, structure = tree.flatten(updates)
    given = (*step.slots, *step.reduced, *step.reads)
    columns = [leaves, *(_column(where, structure, x) for x in given)]
    values, operand_structure = jax.tree_util.tree_flatten(step.operands)
    is_number = [isinstance(x, float | np.floating | jax.Array | np.ndarray) for x in values]
    equations = _Equations(
        where,
        step.leaf,
        (len(step.slots), len(step.reduced), len(step.reads)),
        operand_structure,
        tuple(_NUMBER if one else x for x, one in zip(values, is_number, strict=True)),
    )
    numbers = [
        np.asarray(x, np.float64) if isinstance(x, float) else x
        for x, one in zip(values, is_number, strict=True)
        if one
    ]
    present = [k for k, g in enumerate(leaves) if not tree.is_absent(g)]
    for k in present:
        _check_row(where, updates, k, [x[k] for x in columns], len(step.slots))
    rows = [tuple(x[k] for x in columns) for k in present]
    results = _run(rows, numbers, equations=equations, mesh=mesh, owner_axes=owner_axes)
    for k, row in zip(present, results, strict=True):
        for column, x in zip(columns, row, strict=False):
            column[k] = x
    done = [structure.unflatten(x) for x in columns[: equations.renewed]]
    return done[0], done[1:]


def _column(where: str, structure: Any, x: Any) -> list[Any]:
    try:
        return list(structure.flatten_up_to(x))
    except (ValueError, TypeError) as error:
        raise TreeMismatchError(
            f"{where}: updates and the state have different structures: {error}"
        ) from None


@functools.partial(jax.jit, static_argnames=("equations", "mesh", "owner_axes"))
def _run(
    rows: list[tuple[Array, ...]],
    numbers: list[Array],
    *,
    equations: _Equations,
    mesh: Any,
    owner_axes: OwnerAxes,
) -> list[tuple[Array, ...]]:
    """Runs the equations: on the owners for rows with matrices, as they lie for others."""

    def of_matrices(arrays: tuple[Array, ...], numbers: list[Array]) -> Any:
        return jax.vmap(lambda *arrays: equations(arrays, numbers))(*arrays)

    results: list[Any] = [None] * len(rows)
    slots, reduced, _ = equations.counts
    of_sides = slice(1 + slots, 1 + slots + reduced)
    matrices = [k for k, row in enumerate(rows) if _has_matrices(row[0].shape, row[of_sides])]
    others = [k for k in range(len(rows)) if k not in matrices]
    done = on_owners(
        of_matrices,
        [rows[k] for k in matrices],
        [_axes_of_row(rows[k]) for k in matrices],
        where=equations.where,
        renewed=equations.renewed,
        shared=numbers,
        owner_axes=owner_axes,
        mesh=mesh,
    )
    for k, row in zip(matrices, done, strict=True):
        results[k] = row
    if others:
        columns = equations(
            [list(x) for x in zip(*(rows[k] for k in others), strict=True)], numbers
        )
        for k, row in zip(others, zip(*columns, strict=True), strict=True):
            results[k] = row
    return results


def _has_matrices(shape: tuple[int, ...], slots: tuple[Array, ...]) -> bool:
    """Returns whether a leaf is one of matrices, with a slot for its sides."""
    return any(side_lengths(shape)) and any(
        x.ndim == 3 or (x.ndim > 1 and x.shape != shape) for x in slots
    )


def _axes_of_row(row: tuple[Array, ...]) -> tuple[Axes | None, ...]:
    shape, own = row[0].shape, default_axes(row[0].ndim)
    slots = (Axes((0,), tuple(range(1, x.ndim)), ()) if x.ndim > 1 else None for x in row)
    return tuple(own if x.shape == shape else slot for x, slot in zip(row, slots, strict=True))


def _check_row(where: str, updates: Any, k: int, row: list[Any], slots: int) -> None:
    """Rejects a leaf whose state is missing, or of another shape."""
    g, *rest = row
    for place, x in enumerate(rest):
        missing = tree.is_placeholder(x)
        if not missing and (place >= slots or np.shape(x) == np.shape(g)):
            continue
        path = jax.tree_util.keystr(flatten_with_path(updates)[0][k][0])
        what = "has no state" if missing else f"has state of shape {np.shape(x)}"
        raise TreeMismatchError(
            f"{where}: updates{path} of shape {np.shape(g)} {what}; call init again for these parameters"
        )
