"""Updates on their way through transformations.

A leafwise transformation does not run when it is called: its `LeafStep` waits in the `Flow`. When
somebody needs the updates (the caller, a norm of the whole tree, a transformation of another kind)
all waiting steps run as one function of one leaf.
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
    """Updates on their way, and the leaf steps that wait to be run on them.

    Attributes:
      updates: the updates as they are now; reading them runs the steps that wait.
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
            there if active else here
            for here, there, active in zip(self._leaves, new, view.active, strict=True)
        ]

    @property
    def present(self) -> Updates:
        """The updates with None for every float0 leaf, for mathematics that knows only arrays."""
        return _present(self.updates)

    @property
    def examples(self) -> Updates:
        """The same, of gradients of single examples, which need not have the parameters' shapes."""
        self._run()
        return _present(self.skeleton)

    def restore(self, updates: Updates) -> Updates:
        """Updates computed from `present`, with the absent leaves as they were."""
        structure = self._view.structure
        new, old = structure.flatten_up_to(updates), structure.flatten_up_to(self.skeleton)
        return structure.unflatten(
            [there if is_absent(there) else here for here, there in zip(new, old, strict=True)]
        )

    @property
    def skeleton(self) -> Updates:
        """A tree with the structure, shapes and dtypes of the updates; runs nothing."""
        return self._view.select(self._leaves)

    def has_structure_of(self, tree: PyTree) -> bool:
        """Whether a tree has the structure of the updates."""
        return flatten(tree)[1] == self._view.structure

    def through(
        self, tx: Any, state: OptState, params: Params = None, **extra_args: Any
    ) -> Callable[[], OptState]:
        """Sends the updates through a transformation.

        Args:
          tx: the transformation.
          state: its state.
          params: the parameters, or None.
          **extra_args: passed on to the transformation.

        Returns:
          What gives the new state, to be called once everything has been sent through.
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
        """Lets a step wait for its turn; returns what gives its new state."""
        self._check_params()
        waiting = _Waiting(step, self.trail, self._view)
        self._waiting.append(waiting)

        def finish() -> OptState:
            self._run()
            assert waiting.renewed is not None  # noqa: S101 (a step that was pushed has run now)
            return step.close(*waiting.renewed)

        return finish

    @property
    def trail(self) -> str:
        """The calls that led here, for errors: `adamw: scale_by_adam`."""
        names = [name for name in self._names if name not in ("", "chain")]
        return ": ".join(dict.fromkeys(names)) or "update"

    @contextlib.contextmanager
    def only(self, mask: PyTree) -> Iterator[None]:
        """Restricts what follows to the leaves where `mask` is True.

        Args:
          mask: a tree of bools, a prefix of the updates; where it is False at a subtree, one masked
            node stands for all of it.
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
        shared: dict[int, int] = {}  # trees that several steps read travel once
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
        """Runs the steps on all leaves, and writes the results back into the columns."""
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
                    k for k in active if (seen := waiting[k].view.active) is None or seen[index]
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
            todo, call_on_rows(build, specs, rows, operands.values()), strict=True
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
        """Checks one step's arrays against the updates' shapes, leaf by leaf; None where absent."""
        for place, column in enumerate((*plan.renews, *plan.reads)):
            name = argument_name(item.step.leaf, 1 + place)
            same = place < len(item.step.slots) or name == "p"
            for index, (shape, x) in enumerate(zip(shapes, columns[column], strict=True)):
                if shape is None or ((seen := item.view.active) is not None and not seen[index]):
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
        """Compares shapes with the parameters', once, before anything reads the updates.

        Gradients of a lower precision than their parameters' are cast to it, so that updates are not
        rounded on their way to the parameters.
        """
        params, self._unchecked = self._unchecked, None
        if params is None:
            return
        theirs = flatten_like(
            self._whole.structure,
            params,
            where=self.trail,
            name="the parameters",
            like=lambda: self._whole.select(self._leaves),
        )
        for index, (g, p) in enumerate(zip(self._leaves, theirs, strict=True)):
            if is_absent(g) or is_placeholder(p):
                continue
            if _shape(g) != _shape(p):
                raise TreeMismatchError(_wrong_shape(self.trail, self._path(index), _shape(g), p))
            self._leaves[index] = cast_to_wider(g, p)

    def _path(self, index: int) -> str:
        return paths(self._whole.select(self._leaves))[index]


def _program(plans: list[Equations]) -> tuple[Program, list[int], list[int]]:
    """The steps that are active on a leaf, with their columns numbered as they stand in its row."""
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
    """np.shape, faster for what has a shape."""
    return x.shape if hasattr(x, "shape") else np.shape(x)


def _wrong_shape(trail: str, path: str, shape: tuple[int, ...], p: Any) -> str:
    return f"{trail}: updates{path} is {shape}, the parameter is {np.shape(p)}"
