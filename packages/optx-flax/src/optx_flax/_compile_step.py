"""A training step compiled for its objects: model, optimizer, metrics, random streams.

`nnx.jit` walks the objects in Python at every call. Here they are split once, and the step runs on one
flat list of arrays that is donated from call to call. The objects get their values back on request.

The arrays that the objects hold at first may be shared (a clone, a snapshot, another model), so they are
copied before they are donated. A program that calls back to Python may fail while it runs, so it is not
donated: the values from before the failing call stay.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._held import Held, Hold, LostError
from optx_flax._paths import Path, flatten, is_variable, leaves_with_paths, listed


def compile_step(step_fn: Callable[..., Any], *objects: Any, donate: bool = True) -> CompiledStep:
    """Compiles a training step for the objects it changes.

    Args:
      step_fn: `step_fn(*objects, *args)`, which changes the objects in place and returns a tree of
        arrays. Objects among its results are returned as they are.
      *objects: the model, the optimizer, metrics, `nnx.Rngs`: whatever the step reads and changes.
      donate: whether a call may reuse the memory of the objects' arrays. The arrays that the objects
        hold at the first call are copied, one at a time, so that clones, snapshots and arguments that
        share them stay valid. A step that calls back to Python (`io_callback`, `pure_callback`,
        `jax.debug.callback`, `apply_if_finite(when_exceeded="raise")`) is not donated. With False a
        step that fails for another reason, such as a lack of memory, keeps the values from before it too.

    Returns:
      A `CompiledStep`: call it with `*args`. From the first call on it holds the objects' values. They
      come back at `sync()`, at the end of its `with` block, and when it is deleted. Layouts on a mesh
      are kept.

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
    """A training step bound to its objects; the result of `compile_step`."""

    def __init__(self, step_fn: Callable[..., Any], objects: tuple[Any, ...], donate: bool) -> None:
        self._step_fn = step_fn
        self._objects = objects
        self._donate = donate
        self._programs: dict[Any, _Program] = {}
        self._hold: Hold | None = None
        self._finalizer: Any = None

    def __call__(self, *args: Any) -> Any:
        """Takes one step.

        Args:
          *args: the arguments of `step_fn` after its objects.

        Returns:
          The result of `step_fn`.
        """
        return self._run("once", args)

    def scan(self, *stacked: Any) -> Any:
        """Takes a step for each entry of a leading axis, in one call.

        Args:
          *stacked: the arguments of all steps, stacked along a new first axis.

        Returns:
          The results of `step_fn`, stacked likewise.
        """
        return self._run("many", stacked)

    def sync(self) -> None:
        """Gives the objects their values back; the next call takes them up as they are then.

        Raises:
          RuntimeError: if values were lost, as a donated step failed while it ran; names them.
        """
        hold, self._hold = self._hold, None
        if hold is not None:
            self._finalizer.detach()
            hold.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.sync()
        except LostError:
            if error is None:
                raise

    def _run(self, name: str, args: tuple[Any, ...]) -> Any:
        hold = self._hold or self._take(args)
        program = hold.program
        try:
            hold.run(getattr(program, name), args, wait=program.calls_back)
        except _CallsBackError:
            program.keep_inputs()
            hold.run(getattr(program, name), args, wait=True)
        out = hold.commit()
        return _with_objects(out, self._objects) if program.returns_objects else out

    def _take(self, args: tuple[Any, ...]) -> Hold:
        """Takes the objects' values; placeholders stand in for them."""
        for argument in args:
            if any(argument is held for held in self._objects):
                raise TypeError(
                    "compile_step: the objects are bound already; call the step with the other "
                    "arguments only: step(x, y)"
                )
        graphdef, state = nnx.split(self._objects)
        leaves, structure = flatten(state)
        paths = [path for path, _ in leaves_with_paths(nnx.as_pure(state))]
        del state  # it would keep the arrays alive while they are copied
        leaves = _on_one_mesh([_strong(x) for x in leaves])
        layouts = tuple(map(_pinned, leaves))
        # jax's checks for NaN raise after the inputs have been donated.
        checked = any(getattr(jax.config, f"jax_debug_{kind}") for kind in ("nans", "infs"))
        donate = self._donate and not checked
        key = (graphdef, structure, layouts, donate)
        if key not in self._programs:
            self._programs[key] = _Program(
                self._step_fn, graphdef, structure, paths, layouts, donate
            )
        program = self._programs[key]
        hold = Hold(self, program, self._objects, leaves)
        hold.take(copy=donate and not program.calls_back)
        self._hold = hold
        self._finalizer = weakref.finalize(self, hold.give_back)
        self._finalizer.atexit = False
        return hold


class _CallsBackError(Exception):
    """A program that was to be donated calls back to Python, and may fail while it runs."""


class _Program:
    """A step compiled for objects of one structure and layout."""

    def __init__(
        self,
        step_fn: Callable[..., Any],
        graphdef: Any,
        structure: Any,
        paths: list[Path],
        layouts: tuple[Any, ...],
        donate: bool,
    ) -> None:
        self.structure = structure
        self.paths = paths
        self.returns_objects = False
        self.calls_back = False
        self._donate = donate

        def step(leaves: list[Any], *args: Any) -> tuple[list[Any], Any]:
            inner = nnx.merge(graphdef, structure.unflatten(leaves))
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
            return _same_types(leaves, new, paths), out

        traced_step = jax.jit(step)

        def once(leaves: list[Any], *args: Any) -> tuple[list[Any], Any]:
            if self._donate and _calls_back(traced_step.trace(leaves, *args).jaxpr, set()):
                raise _CallsBackError
            return traced_step(leaves, *args)

        def many(leaves: list[Any], *stacked: Any) -> tuple[list[Any], Any]:
            return jax.lax.scan(lambda carry, args: once(carry, *args), leaves, stacked)

        self._functions = once, many
        pinned = list(layouts) if any(s is not None for s in layouts) else None
        self._options: dict[str, Any] = {} if pinned is None else {"out_shardings": (pinned, None)}
        self._compile()

    def keep_inputs(self) -> None:
        """Compiles without donation from here on."""
        self._donate, self.calls_back = False, True
        self._compile()

    def _compile(self) -> None:
        donated = (0,) if self._donate else ()
        self.once, self.many = (
            jax.jit(f, donate_argnums=donated, **self._options) for f in self._functions
        )

    def _mark(self, out: Any, inner: tuple[Any, ...]) -> Any:
        """Replaces the step's own objects among its results by placeholders."""

        def leaf(x: Any) -> Any:
            for k, one in enumerate(inner):
                if x is one:
                    self.returns_objects = True
                    return _Returned(k)
            if isinstance(x, nnx.Pytree) and not is_variable(x):
                raise ValueError(
                    f"compile_step: the step returns a {type(x).__name__} that is not one of its "
                    "objects; return its arrays, nnx.state(...)"
                )
            return x

        return jax.tree.map(leaf, out, is_leaf=lambda x: isinstance(x, nnx.Pytree))


@jax.tree_util.register_static
class _Returned:
    """A placeholder for a bound object among the results."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Returned) and other.index == self.index

    def __hash__(self) -> int:
        return hash(self.index)


def _with_objects(out: Any, objects: tuple[Any, ...]) -> Any:
    def is_placeholder(x: Any) -> bool:
        return isinstance(x, _Returned)

    return jax.tree.map(
        lambda x: objects[x.index] if is_placeholder(x) else x, out, is_leaf=is_placeholder
    )


def _strong(x: Any) -> Any:
    """A leaf as an array of a dtype that is not weak, which a step reproduces."""
    if isinstance(x, Held):
        x.refuse()
    return _typed(x if isinstance(x, jax.Array) else jnp.asarray(x))


def _typed(x: Any) -> Any:
    """An array whose dtype is not weak; random keys have none that could be."""
    return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x


def _on_one_mesh(leaves: list[Any]) -> list[Any]:
    """Moves counts and the like that were created off the mesh onto it, where the step returns them."""
    meshes = {x.sharding.mesh for x in leaves if isinstance(x.sharding, NamedSharding)}
    if len(meshes) != 1:
        return leaves
    everywhere = NamedSharding(meshes.pop(), PartitionSpec())

    def leaf(x: Any) -> Any:
        free = not isinstance(x.sharding, NamedSharding) and not getattr(x, "committed", False)
        return jax.device_put(x, everywhere) if free else x

    return [leaf(x) for x in leaves]


def _calls_back(jaxpr: Any, seen: set[int]) -> bool:
    """Returns whether a program has callbacks to Python other than prints, and so can fail at run time."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    if id(inner) in seen:
        return False
    seen.add(id(inner))
    for equation in inner.eqns:
        if "callback" in equation.primitive.name:
            return True
        for value in equation.params.values():
            parts = value if isinstance(value, tuple | list) else (value,)
            for part in parts:
                if hasattr(getattr(part, "jaxpr", part), "eqns") and _calls_back(part, seen):
                    return True
    return False


def _pinned(x: Any) -> NamedSharding | None:
    """The layout of an output that the compiler could choose otherwise."""
    sharding = x.sharding
    if not isinstance(sharding, NamedSharding):
        return None
    return sharding if AxisType.Explicit not in sharding.mesh.axis_types else None


def _check_structure(paths: list[Path], new_state: Any) -> None:
    before = ["/".join(path) for path in paths]
    after = ["/".join(path) for path, _ in leaves_with_paths(nnx.as_pure(new_state))]
    if before != after:
        added = [path for path in after if path not in set(before)]
        gone = [path for path in before if path not in set(after)]
        told = [f"{listed(added)} appeared"] if added else []
        told += [f"{listed(gone)} went away"] if gone else []
        raise ValueError(
            f"compile_step: the step changed the structure of its objects: {'; '.join(told)}. Create "
            "all Variables before; remove intermediates within the step: "
            "nnx.pop(model, nnx.Intermediate)"
        )


def _same_types(old: list[Any], new: list[Any], paths: list[Path]) -> list[Any]:
    typed = []
    for before, after, path in zip(old, new, paths, strict=True):
        x = jnp.asarray(after)
        if x.shape != before.shape or x.dtype != before.dtype:
            raise ValueError(
                f"compile_step: the step changed {'/'.join(path)} from {before.dtype}"
                f"{list(before.shape)} to {x.dtype}{list(x.shape)}"
            )
        typed.append(_typed(x))
    return typed
