"""A training step compiled for its objects: model, optimizer, metrics, random streams.

`nnx.jit` walks the objects at every call, in Python. Here they are taken apart once, the step runs on
one flat list of arrays that is donated and handed on from call to call, and the objects get their
values back when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._paths import flatten, is_variable, leaves_with_paths, listed, structure_of


def compile_step(step_fn: Callable[..., Any], *objects: Any, donate: bool = True) -> CompiledStep:
    """Compiles a training step for the objects it changes.

    Args:
      step_fn: `step_fn(*objects, *args)`, which changes the objects in place, and returns any tree of
        arrays; an object of its own that it returns is handed out as it is.
      *objects: the model, the optimizer, metrics, `nnx.Rngs`, whatever the step reads and changes.
      donate: whether the step may reuse the memory of the objects' arrays.

    Returns:
      A `CompiledStep`: call it with `*args`. From the first call on it holds the objects' values;
      `sync()`, or the end of its `with` block, gives them back. Layouts on a mesh stay as they are.

    Raises:
      TypeError: if there are no objects.
      ValueError: from a call, if the step changed the structure of an object, a static attribute, or
        an array's shape or dtype; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import scale_by_learning_rate
      >>> from optx_flax import compile_step
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, scale_by_learning_rate(0.1), wrt=nnx.Param)
      >>> def train_step(model, optimizer, x):
      ...     loss, grads = nnx.value_and_grad(lambda m: jnp.mean(m(x) ** 2))(model)
      ...     optimizer.update(model, grads)
      ...     return loss
      >>> with compile_step(train_step, model, optimizer) as step:
      ...     losses = [float(step(jnp.ones((4, 2)))) for _ in range(3)]
      ...     more = step.scan(jnp.ones((20, 4, 2)))
      >>> losses[2] < losses[0], more.shape, int(optimizer.step[...])
      (True, (20,), 23)
    """
    if not objects:
        raise TypeError(
            "compile_step needs the objects that the step changes: compile_step(step, model, optimizer)"
        )
    return CompiledStep(step_fn, objects, donate)


class CompiledStep:
    """What `compile_step` makes."""

    def __init__(self, step_fn: Callable[..., Any], objects: tuple[Any, ...], donate: bool) -> None:
        self._step_fn = step_fn
        self._objects = objects
        self._donate = donate
        self._programs: dict[Any, _Program] = {}
        self._program: _Program | None = None
        self._leaves: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        """One step, on `args`."""
        program = self._program or self._take(args)
        self._leaves, out = program.once(self._leaves, *args)
        return _with_objects(out, self._objects) if program.returns_objects else out

    def scan(self, *stacked: Any) -> Any:
        """A step for each entry of a leading axis, in one call; returns the results stacked."""
        program = self._program or self._take(stacked)
        self._leaves, out = program.many(self._leaves, stacked)
        return _with_objects(out, self._objects) if program.returns_objects else out

    def sync(self) -> None:
        """Gives the objects their values back; the next call takes them up as they are then."""
        if self._program is not None:
            nnx.update(self._objects, self._program.structure.unflatten(self._leaves))
            self._program, self._leaves = None, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sync()

    def _take(self, args: tuple[Any, ...]) -> _Program:
        """Takes the objects' values; they hold a note to that effect instead."""
        for argument in args:
            if any(argument is held for held in self._objects):
                raise TypeError(
                    "compile_step: the objects are bound already; call the step with the other "
                    "arguments only: step(x, y)"
                )
        graphdef, state = nnx.split(self._objects)
        leaves, structure = flatten(state)
        leaves = _on_one_mesh([_strong(x) for x in leaves])
        leaves = _distinct(leaves) if self._donate else leaves
        layouts = tuple(map(_pinned, leaves))
        key = (graphdef, structure, layouts)
        if key not in self._programs:
            self._programs[key] = _Program(self._step_fn, graphdef, state, layouts, self._donate)
        self._program, self._leaves = self._programs[key], leaves
        nnx.update(self._objects, structure.unflatten([_HELD] * len(leaves)))
        return self._program


class _Program:
    """A step compiled for objects of one structure and layout."""

    def __init__(
        self,
        step_fn: Callable[..., Any],
        graphdef: Any,
        state: Any,
        layouts: tuple[Any, ...],
        donate: bool,
    ) -> None:
        self.structure = structure_of(state)
        self.returns_objects = False
        paths = leaves_with_paths(nnx.as_pure(state))

        def one(leaves: list[Any], *args: Any) -> tuple[list[Any], Any]:
            inner = nnx.merge(graphdef, self.structure.unflatten(leaves))
            out = self._mark(step_fn(*inner, *args), inner)
            new_graphdef, new_state = nnx.split(inner)
            new = jax.tree.leaves(new_state)
            _check_structure(paths, new_state)
            if new_graphdef != graphdef:
                raise ValueError(
                    "compile_step: the step changed a static attribute of its objects (train() or "
                    "eval(), say), which the compiled step cannot keep: set it before, or use "
                    "nnx.view(model, ...) inside"
                )
            return _same_types(leaves, new, [path for path, _ in paths]), out

        def many(leaves: list[Any], stacked: tuple[Any, ...]) -> tuple[list[Any], Any]:
            return jax.lax.scan(lambda carry, args: one(carry, *args), leaves, stacked)

        donated = (0,) if donate else ()
        pinned = list(layouts) if any(s is not None for s in layouts) else None
        options: dict[str, Any] = {} if pinned is None else {"out_shardings": (pinned, None)}
        self.once = jax.jit(one, donate_argnums=donated, **options)
        self.many = jax.jit(many, donate_argnums=donated, **options)

    def _mark(self, out: Any, inner: tuple[Any, ...]) -> Any:
        """Notes in the place of the step's own objects among what it returns."""

        def leaf(x: Any) -> Any:
            for k, one in enumerate(inner):
                if x is one:
                    self.returns_objects = True
                    return _Returned(k)
            if isinstance(x, nnx.Pytree) and not is_variable(x):
                raise ValueError(
                    f"compile_step: the step returns a {type(x).__name__} that is none of its "
                    "objects; return its arrays, nnx.state(...)"
                )
            return x

        return jax.tree.map(leaf, out, is_leaf=lambda x: isinstance(x, nnx.Pytree))


@jax.tree_util.register_static
class _Returned:
    """The place of a bound object among the results."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Returned) and other.index == self.index

    def __hash__(self) -> int:
        return hash(self.index)


def _with_objects(out: Any, objects: tuple[Any, ...]) -> Any:
    def is_note(x: Any) -> bool:
        return isinstance(x, _Returned)

    return jax.tree.map(lambda x: objects[x.index] if is_note(x) else x, out, is_leaf=is_note)


class _HeldError(RuntimeError, AttributeError):
    """A read of a value that a compiled step holds; an AttributeError too, as hasattr() asks for."""


class _Held:
    """Stands in an object for a value that a compiled step holds."""

    def __repr__(self) -> str:
        return "<held by compile_step until sync()>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise _HeldError(
            "this value is held by a compiled step: call its sync(), or read it after the end of its "
            "`with` block"
        )

    __getattr__ = __getitem__ = __call__ = __array__ = __jax_array__ = _refuse
    __float__ = __int__ = __index__ = __bool__ = __len__ = __iter__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = __pow__ = __lt__ = __gt__ = _refuse


_HELD = _Held()


def _strong(x: Any) -> Any:
    """A leaf as an array whose type a step reproduces."""
    if isinstance(x, _Held):
        x._refuse()
    return _typed(x if isinstance(x, jax.Array) else jnp.asarray(x))


def _typed(x: Any) -> Any:
    """An array whose dtype is not weak; random keys have none that could be."""
    return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x


def _on_one_mesh(leaves: list[Any]) -> list[Any]:
    """Counts and the like that were made off the mesh, put on it: the step's results will lie there."""
    meshes = {x.sharding.mesh for x in leaves if isinstance(x.sharding, NamedSharding)}
    if len(meshes) != 1:
        return leaves
    everywhere = NamedSharding(meshes.pop(), PartitionSpec())

    def leaf(x: Any) -> Any:
        free = not isinstance(x.sharding, NamedSharding) and not getattr(x, "committed", False)
        return jax.device_put(x, everywhere) if free else x

    return [leaf(x) for x in leaves]


def _distinct(leaves: list[Any]) -> list[Any]:
    """A copy for each array that stands in two places: a buffer is donated once."""
    seen: set[int] = set()
    made = []
    for x in leaves:
        made.append(jnp.copy(x) if id(x) in seen else x)
        seen.add(id(x))
    return made


def _pinned(x: Any) -> NamedSharding | None:
    """The layout to return an array in, where the compiler would be free to choose."""
    sharding = x.sharding
    if not isinstance(sharding, NamedSharding):
        return None
    return sharding if AxisType.Explicit not in sharding.mesh.axis_types else None


def _check_structure(paths: list[Any], new_state: Any) -> None:
    before = ["/".join(path) for path, _ in paths]
    after = ["/".join(path) for path, _ in leaves_with_paths(nnx.as_pure(new_state))]
    if before != after:
        added = [path for path in after if path not in set(before)]
        gone = [path for path in before if path not in set(after)]
        told = [f"{listed(added)} appeared"] if added else []
        told += [f"{listed(gone)} went away"] if gone else []
        raise ValueError(
            f"compile_step: the step changed the structure of its objects: {'; '.join(told)}. Make "
            "all Variables before; take intermediates out within the step: "
            "nnx.pop(model, nnx.Intermediate)"
        )


def _same_types(old: list[Any], new: list[Any], paths: list[Any]) -> list[Any]:
    made = []
    for before, after, path in zip(old, new, paths, strict=True):
        x = jnp.asarray(after)
        if x.shape != before.shape or x.dtype != before.dtype:
            raise ValueError(
                f"compile_step: the step changed {'/'.join(path)} from {before.dtype}"
                f"{list(before.shape)} to {x.dtype}{list(x.shape)}"
            )
        made.append(_typed(x))
    return made
