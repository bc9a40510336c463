"""Transformations of each array separately, written as the equations for one array.

    def leaf(g, mu, nu, *, b1, b2, count): ...      # jnp operations, the paper's symbols
        return update, mu, nu

`leafwise` lifts such equations to trees. A `LeafStep` lists, for one call of update, the trees that the
leaf reads and renews, and its operands. Steps are deferred: they are queued in a `Flow`, and run
as *one* function of one leaf when the updates are needed. A chain of AdamW's three parts is thus a
single pass over each array, and clipping by the global norm passes a scalar on to the next steps
instead of a clipped copy of the gradients.

The engine also guarantees, for every transformation:

- None, masked nodes and float0 are absent leaves: they pass through, and their state is unchanged.
- Structures and shapes are checked once, before any computation; errors name the path.
- The equations receive arrays of at least float32 (float64 if one of them is float64); the update is
  cast back to the gradient's dtype, and each slot to its own.
- Python floats are operands, not constants: a new learning rate does not compile a new program. They
  are kept in double precision until the leaf's dtype is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_core._protocol.dtypes import cast_to_compute, common_real_dtype, dtype_of
from optx_core._protocol.types import EmptyState, OptState, PyTree


@dataclasses.dataclass(frozen=True)
class LeafStep:
    """One call of a leafwise transformation: its equations, and the trees they apply to.

    Attributes:
      leaf: `leaf(g, *slots, *reduced, *reads, **operands)`, which returns the update, or a tuple of
        the update, the renewed slots and the renewed reduced slots. Arrays in, arrays out. Write it
        at the top level of a module: compiled programs are cached by the function.
      slots: trees of arrays of the parameters' shapes that the leaf renews (`mu`, `nu`).
      reduced: trees of arrays of other shapes that the leaf renews (row sums, one norm per array, memories).
      reads: trees of arrays that the leaf only reads, of the parameters' structure; a leaf's
        argument named `p` must also have the parameter's shape.
      close: returns the new state, given the renewed slots and the renewed reduced slots.
      operands: the leaf's keyword arguments: numbers, arrays, tuples of them. Floats and arrays are
        operands of the compiled program; bool, int, str, None and functions are part of it.
    """

    leaf: Callable[..., Any]
    slots: tuple[PyTree, ...] = ()
    reduced: tuple[PyTree, ...] = ()
    reads: tuple[PyTree, ...] = ()
    close: Callable[..., OptState] = EmptyState
    operands: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Equations(NamedTuple):
    """The static part of a step; with a row of arrays and the operands it can be run."""

    leaf: Callable[..., Any]
    operands: tuple[tuple[str, Any, tuple[tuple[str, Hashable], ...]], ...]
    renews: tuple[int, ...]  # indices into the row
    reads: tuple[int, ...]


class Operands:
    """The operands shared by all leaves: a vector of numbers, and a list of arrays."""

    def __init__(self) -> None:
        self._numbers: list[float] = []
        self._arrays: list[Any] = []

    def add(self, operands: Mapping[str, Any]) -> tuple[Any, ...]:
        """Adds a step's operands; returns their places, by which a program looks them up."""
        return tuple(
            (name, structure, tuple(map(self._place, leaves)))
            for name, value in operands.items()
            for leaves, structure in [jax.tree_util.tree_flatten(value)]
        )

    def _place(self, value: Any) -> tuple[str, Hashable]:
        if isinstance(value, float | np.floating) and not isinstance(value, np.ndarray):
            self._numbers.append(float(value))
            return "number", len(self._numbers) - 1
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            self._arrays.append(value)
            return "array", len(self._arrays) - 1
        return "static", value

    def values(self) -> tuple[np.ndarray, list[Any]]:
        """The arguments of the program."""
        return np.asarray(self._numbers, np.float64), self._arrays


class Program:
    """Equations to run in sequence on a row of arrays `(g, *columns)`; the hash is cached."""

    __slots__ = ("_hash", "equations")

    def __init__(self, equations: tuple[Equations, ...]) -> None:
        self.equations = equations
        self._hash = hash(equations)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Program) and self.equations == other.equations)

    def __hash__(self) -> int:
        return self._hash


def build(program: Program) -> Callable[..., Any]:
    """Returns the function of one row: `(row, numbers, arrays) -> (update, renewed slots)`."""

    def run(row: tuple[Any, ...], numbers: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
        real = common_real_dtype(*map(dtype_of, row))
        row = tuple(map(jnp.asarray, row))
        values = [cast_to_compute(x, real) for x in row]
        numbers = [x.astype(real) for x in numbers]
        arrays = [cast_to_compute(jnp.asarray(x), real) for x in arrays]
        update = values[0]
        is_complex = any(map(jnp.iscomplexobj, values))
        for leaf, named, renews, reads in program.equations:
            kwargs = {name: _find(tree, places, numbers, arrays) for name, tree, places in named}
            # All arrays have one precision here, so promotion can only be from real to complex.
            with jax.numpy_dtype_promotion("standard") if is_complex else contextlib.nullcontext():
                results = leaf(update, *(values[place] for place in (*renews, *reads)), **kwargs)
            results = results if type(results) is tuple else (results,)
            _check_results(leaf, results, [update, *(values[place] for place in renews)])
            update = cast_to_compute(jnp.asarray(results[0]), real)
            for place, value in zip(renews, results[1:], strict=True):
                values[place] = value
        renewed = [place for equations in program.equations for place in equations.renews]
        return _cast_back(update, row[0]), [_cast_back(values[k], row[k]) for k in renewed]

    modules = (leaf.__module__ or "equations" for leaf, *_ in program.equations)  # None in `exec`
    names = dict.fromkeys(module.rpartition(".")[2] for module in modules)
    run.__name__ = run.__qualname__ = "_".join(names)
    return run


@functools.lru_cache(maxsize=4096)
def argument_name(leaf: Callable[..., Any], place: int) -> str:
    """Returns the name of a leaf's argument number `place`, for error messages."""
    return list(inspect.signature(leaf).parameters)[place]


def _find(
    structure: Any, places: tuple[tuple[str, Any], ...], numbers: list[Any], arrays: list[Any]
) -> Any:
    source = {"number": numbers.__getitem__, "array": arrays.__getitem__, "static": lambda x: x}
    return structure.unflatten([source[kind](place) for kind, place in places])


def _cast_back(x: jax.Array, like: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(like):
        raise TypeError(f"a complex value was computed for a leaf of {like.dtype}")
    return x.astype(like.dtype)


def _check_results(leaf: Callable[..., Any], results: tuple[Any, ...], given: list[Any]) -> None:
    name = f"{leaf.__module__}.{leaf.__qualname__}"
    if len(results) != len(given):
        raise TypeError(
            f"{name} returned {len(results)} arrays, not the update and {len(given) - 1}"
        )
    for place, (new, old) in enumerate(zip(results, given, strict=True)):
        if jnp.shape(new) != old.shape:
            raise TypeError(
                f"{name} turned {argument_name(leaf, place)} of shape {old.shape} into "
                f"{jnp.shape(new)}: a leaf must preserve shapes"
            )
