"""Updates that pass through transformations, and the leaf steps pending on them.

A leafwise transformation does not run when it is called: its `LeafStep` is queued in the `Flow`. When
the updates are needed (by the caller, a norm of the whole tree, a transformation of another kind),
all pending steps run as one function of one leaf.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from optx_core._engine.batched import call_on_rows
from optx_core._engine.leafwise import Equations, LeafStep, Operands, Program, argument_name, build
from optx_core._engine.view import View
from optx_core._protocol.absent import (
    TreeMismatchError,
    flatten,
    flatten_like,
    is_absent,
    is_placeholder,
    paths,
)
from optx_core._protocol.dtypes import cast_to_wider, dtype_of, is_inexact
from optx_core._protocol.recorded import call_of
from optx_core._protocol.types import MaskedNode, OptState, Params, PyTree, Updates


@dataclasses.dataclass
class _Waiting:
    step: LeafStep
    trail: str
    view: View
    renewed: list[PyTree] | None = None


class Flow:
    """Updates, and the leaf steps pending on them.

    Attributes:
      updates: the current updates; reading them runs the pending steps.
    """

    def __init__(self, updates: Updates, params: Params = None, name: str = "") -> None:
        self._leaves, structure = flatten(updates)
        self._whole = self._view = View(structure, range(len(self._leaves)))
        self._waiting: list[_Waiting] = []
        self._names = [name]
        self._unchecked = params
        self._check_gradients()

    @property
    def updates(self) -> Updates:
        self._check_params()
        self._run()
        return self.skeleton

    @updates.setter
    def updates(self, updates: Updates) -> None:
        self._run()
        view = self._view
        if view.active is None:
            self._leaves, structure = flatten(updates)
            self._whole = self._view = View(structure, range(len(self._leaves)))
            return
        new = view.spread(view.structure.flatten_up_to(updates), self._leaves)
        self._leaves = [
            replacement if active else leaf
            for leaf, replacement, active in zip(self._leaves, new, view.active, strict=True)
        ]

    @property
    def present(self) -> Updates:
        """The updates with None for every float0 leaf, for functions that handle only arrays."""
        return _present(self.updates)

    @property
    def examples(self) -> Updates:
        """Per-example gradients, with None for every float0 leaf; the parameters' shapes are not checked."""
        self._run()
        return _present(self.skeleton)

    def restore(self, updates: Updates) -> Updates:
        """Restores the absent leaves in updates computed from `present`."""
        structure = self._view.structure
        new, old = structure.flatten_up_to(updates), structure.flatten_up_to(self.skeleton)
        return structure.unflatten(
            [before if is_absent(before) else x for x, before in zip(new, old, strict=True)]
        )

    @property
    def skeleton(self) -> Updates:
        """A tree with the structure, shapes and dtypes of the updates; does not run pending steps."""
        return self._view.select(self._leaves)

    def has_structure_of(self, tree: PyTree) -> bool:
        """Returns whether a tree has the structure of the updates."""
        return flatten(tree)[1] == self._view.structure

    def through(
        self, tx: Any, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        """Passes the updates through a transformation.

        Args:
          tx: the transformation.
          state: its state.
          params: the parameters, or None.
          **extra_args: passed on to the transformation.

        Returns:
          A function that returns the new state, to be called after all transformations have been passed.
        """
        call = call_of(tx)
        self._names.append(call.name if call else "")
        try:
            stages = getattr(tx, "_stages", None)
            if stages is not None:
                return stages(self, state, params, **extra_args)
            self.updates, new_state = tx.update(self.updates, state, params, **extra_args)
            return lambda: new_state
        finally:
            self._names.pop()

    def push(self, step: LeafStep) -> Callable[[], OptState]:
        """Queues a step; returns a function that returns its new state."""
        self._check_params()
        waiting = _Waiting(step, self.trail, self._view)
        self._waiting.append(waiting)

        def finish() -> OptState:
            self._run()
            assert waiting.renewed is not None  # noqa: S101 (`_run` has run every queued step)
            return step.close(*waiting.renewed)

        return finish

    @property
    def trail(self) -> str:
        """The enclosing calls, for error messages: `adamw: scale_by_adam`."""
        names = [name for name in self._names if name not in ("", "chain")]
        return ": ".join(dict.fromkeys(names)) or "update"

    @contextlib.contextmanager
    def only(self, mask: PyTree) -> Iterator[None]:
        """Restricts the steps in the `with` block to the leaves where `mask` is True.

        Args:
          mask: a tree of bools, a prefix of the updates; a subtree where it is False is replaced by one
            masked node.
        """
        outer, self._view = self._view, self._view.under(mask)
        try:
            yield
        finally:
            self._view = outer

    def _run(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        operands = Operands()
        columns: list[list[Any]] = [self._leaves]
        shared: dict[int, int] = {}  # a tree that several steps read is passed once
        plans: list[Equations] = []
        for item in waiting:
            step = item.step
            renews: list[int] = []
            reads: list[int] = []
            for tree in (*step.slots, *step.reduced):
                columns.append(self._column(item, tree, 1 + len(renews)))
                renews.append(len(columns) - 1)
            for tree in step.reads:
                if id(tree) not in shared:
                    columns.append(self._column(item, tree, 1 + len(renews) + len(reads)))
                    shared[id(tree)] = len(columns) - 1
                reads.append(shared[id(tree)])
            plans.append(
                Equations(step.leaf, operands.add(step.operands), tuple(renews), tuple(reads))
            )
        self._apply(waiting, plans, columns, operands)
        for item, plan in zip(waiting, plans, strict=True):
            item.renewed = [item.view.unflatten(columns[place]) for place in plan.renews]

    def _apply(
        self,
        waiting: list[_Waiting],
        plans: list[Equations],
        columns: list[list[Any]],
        operands: Operands,
    ) -> None:
        """Runs the steps on all leaves, and stores the results in the columns."""
        programs: dict[tuple[int, ...], tuple[Program, list[int], list[int]]] = {}
        everything = tuple(range(len(waiting)))
        masked = any(item.view.active is not None for item in waiting)
        shapes = [None if is_absent(g) else _shape(g) for g in self._leaves]
        for item, plan in zip(waiting, plans, strict=True):
            self._check_rows(item, plan, columns, shapes)
        todo, specs, rows = [], [], []
        for index, g in enumerate(self._leaves):
            if is_absent(g):
                continue
            active = everything
            if masked:
                active = tuple(
                    k for k in active if (mask := waiting[k].view.active) is None or mask[index]
                )
            if not active:
                continue
            if active not in programs:
                programs[active] = _program([plans[k] for k in active])
            program, places, renewed = programs[active]
            todo.append((index, renewed))
            specs.append(program)
            rows.append(tuple(columns[place][index] for place in places))
        for (index, renewed), (update, values) in zip(
            todo, call_on_rows(build, specs, rows, *operands.values()), strict=True
        ):
            columns[0][index] = update
            for place, value in zip(renewed, values, strict=True):
                columns[place][index] = value

    def _column(self, item: _Waiting, tree: PyTree, place: int) -> list[Any]:
        name = argument_name(item.step.leaf, place)
        leaves = flatten_like(
            item.view.structure,
            tree,
            where=item.trail,
            name="the parameters" if name == "p" else f"the state's {name}",
            like=lambda: item.view.select(self._leaves),
        )
        if item.view.active is None:
            return leaves
        return item.view.spread(leaves, [MaskedNode()] * len(self._leaves))

    def _check_gradients(self) -> None:
        for index, g in enumerate(self._leaves):
            if not is_absent(g) and not is_inexact(g):
                raise TreeMismatchError(
                    f"{self.trail}: updates{self._path(index)} is {dtype_of(g)}: an integer or boolean "
                    "parameter has no gradient. Pass None (or jax's float0) for it, or leave it "
                    "out with optx_core.masked."
                )

    def _check_rows(
        self,
        item: _Waiting,
        plan: Equations,
        columns: list[list[Any]],
        shapes: list[tuple[int, ...] | None],
    ) -> None:
        """Checks one step's arrays against the updates' shapes (None for an absent leaf)."""
        for place, column in enumerate((*plan.renews, *plan.reads)):
            name = argument_name(item.step.leaf, 1 + place)
            same = place < len(item.step.slots) or name == "p"
            for index, (shape, x) in enumerate(zip(shapes, columns[column], strict=True)):
                if shape is None or ((mask := item.view.active) is not None and not mask[index]):
                    continue
                if is_placeholder(x):
                    raise TreeMismatchError(
                        f"{item.trail}: updates{self._path(index)} has a gradient of shape {shape} "
                        f"but no {name}: when init was called the parameter there was None, masked "
                        "out or of an integer dtype. Pass None as its gradient, or call init again."
                    )
                if same and _shape(x) != shape:
                    raise TreeMismatchError(_wrong_shape(item.trail, self._path(index), shape, x))

    def _check_params(self) -> None:
        """Checks the updates' shapes against the parameters', once, before the updates are read.

        Casts gradients of lower precision than their parameters to the parameters' precision, so that
        updates are not rounded before they are applied.
        """
        params, self._unchecked = self._unchecked, None
        if params is None:
            return
        leaves = flatten_like(
            self._whole.structure,
            params,
            where=self.trail,
            name="the parameters",
            like=lambda: self._whole.select(self._leaves),
        )
        for index, (g, p) in enumerate(zip(self._leaves, leaves, strict=True)):
            if is_absent(g) or is_placeholder(p):
                continue
            if _shape(g) != _shape(p):
                raise TreeMismatchError(_wrong_shape(self.trail, self._path(index), _shape(g), p))
            if getattr(g, "dtype", None) != getattr(p, "dtype", None):
                self._leaves[index] = cast_to_wider(g, p)

    def _path(self, index: int) -> str:
        return paths(self._whole.select(self._leaves))[index]


def _program(plans: list[Equations]) -> tuple[Program, list[int], list[int]]:
    """The program of the steps active on a leaf, with columns renumbered by their places in its row."""
    used = sorted({place for plan in plans for place in (*plan.renews, *plan.reads)})
    rank = {place: position + 1 for position, place in enumerate(used)}
    program = Program(
        tuple(
            plan._replace(
                renews=tuple(rank[place] for place in plan.renews),
                reads=tuple(rank[place] for place in plan.reads),
            )
            for plan in plans
        )
    )
    return program, [0, *used], [place for plan in plans for place in plan.renews]


def _present(updates: Updates) -> Updates:
    return jax.tree.map(
        lambda g: None if is_absent(g) and not is_placeholder(g) else g,
        updates,
        is_leaf=is_placeholder,
    )


def _shape(x: Any) -> tuple[int, ...]:
    """`np.shape`, faster for arrays."""
    return x.shape if hasattr(x, "shape") else np.shape(x)


def _wrong_shape(trail: str, path: str, shape: tuple[int, ...], p: Any) -> str:
    return f"{trail}: updates{path} is {shape}, the parameter is {np.shape(p)}"
