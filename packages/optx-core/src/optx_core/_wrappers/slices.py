"""Arrays cut into slices: what `per_slice` passes to the transformation inside."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from optx_core import MaskedNode, PyTree, build, tree
from optx_core._engine.labels import spread
from optx_core._training.per_device import is_explicit, laid_out_as


@dataclasses.dataclass(frozen=True)
class Slices:
    """The slices of an array, for `per_slice`.

    Attributes:
      axes: the axes of the stack: each index along them is a slice, an array without these axes.
      sizes: the sizes of the blocks into which another axis is cut first; none by default.
      split_axis: the axis that is cut.

    Example:
      >>> from optx_core import Slices
      >>> heads = Slices((1,))  # of attention weights (features, heads, head_dim)
      >>> qkv = Slices((0,), sizes=(512, 128, 128))  # of layers of queries, keys and values
    """

    axes: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    split_axis: int = -1

    def __post_init__(self) -> None:
        for name in ("axes", "sizes"):
            numbers = getattr(self, name)
            if not (isinstance(numbers, Sequence) and all(type(n) is int for n in numbers)):
                raise TypeError(f"Slices: {name} must be a tuple of ints, not {numbers!r}")
            object.__setattr__(self, name, tuple(numbers))
        if any(size < 1 for size in self.sizes):
            raise ValueError(f"Slices: sizes must be positive, not {self.sizes}")


@dataclasses.dataclass(frozen=True)
class At:
    """The axes of a stack in an array; a leaf of trees."""

    axes: tuple[int, ...]


class Group(NamedTuple):
    """Arrays that are sliced together.

    Attributes:
      axes: the axes of their stack.
      shape: the sizes of these axes.
      layout: their sharding, on a mesh with Explicit axes; else None.
    """

    axes: tuple[int, ...]
    shape: tuple[int, ...]
    layout: NamedSharding | None

    def vmap(self, function: Callable[..., Any], given: Any, returned: Any) -> Callable[..., Any]:
        """Applies `jax.vmap` for each axis of the stack.

        Args:
          function: a function of slices.
          given: a tuple with an entry for each argument, a tree of `At`.
          returned: likewise for the results; None where they have no slices.
        """
        for level in reversed(range(len(self.axes))):

            def axes(places: Any, level: int = level) -> Any:
                return jax.tree.map(lambda at: at.axes[level] - level, places)

            function = jax.vmap(function, in_axes=axes(given), out_axes=axes(returned))
        return function

    def aligned(self, at: At, x: Any) -> Any:
        """Lays the axes of the stack in an array as they lie in the parameters."""
        if self.layout is None or tree.is_absent(x):
            return x
        own = dict(zip(at.axes, self.layout.spec, strict=True))
        taken = {name for part in self.layout.spec for name in _names(part)}
        parts = (*getattr(jax.typeof(x).sharding, "spec", ()), *(None,) * x.ndim)[: x.ndim]
        spec = [
            own[axis] if axis in own else None if taken & _names(part) else part
            for axis, part in enumerate(parts)
        ]
        return jax.sharding.reshard(x, NamedSharding(self.layout.mesh, PartitionSpec(*spec)))

    def restored(self, x: Any, like: Any) -> Any:
        """Lays an array out as one of its shape was before `aligned`."""
        return x if self.layout is None or tree.is_absent(x) else laid_out_as(like, x)

    def place_in(self, ndim: int) -> At:
        """The axes of the stack where slices of an array of the state have `ndim` axes.

        They are those of the parameter if there are as many, else the first ones.
        """
        first = tuple(range(len(self.axes)))
        return At(self.axes if self.axes[-1] < ndim + len(first) else first)

    def slice_of(self, x: Any) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a slice of a parameter."""
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in self.axes)
        return jax.ShapeDtypeStruct(shape, x.dtype)


class CutTree:
    """The structure of a tree of parameters, cut into blocks, and the group of each array."""

    def __init__(self, slices: Any, params: PyTree) -> None:
        labels, self._outer = tree.flatten(spread(slices, params, "per_slice"))
        named, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_placeholder)
        self._cuts = [
            _checked(label, f"per_slice: the parameter{jax.tree_util.keystr(path)}", x)
            for label, (path, x) in zip(labels, named, strict=True)
        ]
        parts, self.structure = tree.flatten(self._blocks(params))
        cuts = itertools.chain.from_iterable([cut] * len(cut.sizes or (0,)) for cut in self._cuts)
        self.groups = tuple(_group(cut, x) for cut, x in zip(cuts, parts, strict=True))
        self.shapes = tuple(
            x if tree.is_placeholder(x) else jax.ShapeDtypeStruct(jnp.shape(x), build.dtype_of(x))
            for x in parts
        )

    def leaves(self, given: PyTree) -> list[Any]:
        """The arrays of a tree with the structure of the parameters, blocks by themselves."""
        return self.structure.flatten_up_to(self._blocks(given))

    def join(self, leaves: Iterable[Any]) -> PyTree:
        """Inverts `leaves`."""
        rest, joined = iter(leaves), []
        for cut in self._cuts:
            parts = [next(rest) for _ in cut.sizes or (0,)]
            one = not cut.sizes or tree.is_placeholder(parts[0])
            joined.append(parts[0] if one else jnp.concatenate(parts, cut.split_axis))
        return self._outer.unflatten(joined)

    def members(self, group: Group | None) -> list[int]:
        """The places of a group's arrays among the leaves; None: of the arrays without a stack."""
        return [k for k, other in enumerate(self.groups) if other == group]

    def with_only(self, places: Sequence[int], values: Sequence[Any]) -> list[Any]:
        """Leaves with these values at these places, and masked nodes at all others."""
        leaves: list[Any] = [MaskedNode()] * len(self.groups)
        for place, value in zip(places, values, strict=True):
            leaves[place] = value
        return leaves

    def _blocks(self, given: PyTree) -> PyTree:
        leaves = self._outer.flatten_up_to(given)
        return self._outer.unflatten(
            [_split(x, cut) if cut.sizes else x for x, cut in zip(leaves, self._cuts, strict=True)]
        )


def _split(x: Any, cut: Slices) -> tuple[Any, ...]:
    if tree.is_absent(x):
        return (x,) * len(cut.sizes)
    ends = list(itertools.accumulate(cut.sizes))
    return tuple(jnp.split(jnp.asarray(x), ends[:-1], cut.split_axis))


def _group(cut: Slices, x: Any) -> Group | None:
    if not cut.axes or tree.is_absent(x) or not build.is_inexact(x):
        return None
    shape = tuple(jnp.shape(x)[axis] for axis in cut.axes)
    traced = not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer)
    sharding: Any = getattr(jax.typeof(x) if traced else x, "sharding", None)
    if not is_explicit(sharding):
        return Group(cut.axes, shape, None)
    spec = (*sharding.spec, *(None,) * x.ndim)
    stack = PartitionSpec(*(spec[axis] for axis in cut.axes))
    return Group(cut.axes, shape, NamedSharding(sharding.mesh, stack))


def _names(part: Any) -> set[Any]:
    """The mesh axes in one part of a PartitionSpec."""
    return set() if part is None else {part} if isinstance(part, str) else set(part)


def _checked(label: Any, name: str, x: Any) -> Slices:
    """Returns the slices of a parameter, with nonnegative axes in ascending order."""
    if label is None or tree.is_absent(x):
        cut = label if isinstance(label, Slices) else Slices()
        return dataclasses.replace(cut, axes=())
    if type(label) is int and label >= 0:
        label = Slices(tuple(range(label)))
    if not isinstance(label, Slices):
        raise TypeError(
            f"{name}: slices must be the number of its leading axes that are a stack, or Slices, "
            f"not {label!r}"
        )
    shape = jnp.shape(x)
    for axis in (*label.axes, *((label.split_axis,) if label.sizes else ())):
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"{name} of shape {shape} has no axis {axis}, as in {label}")
    axes = sorted(axis % len(shape) for axis in label.axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: {label} names an axis of {shape} twice")
    if not label.sizes:
        return Slices(tuple(axes))
    split = label.split_axis % len(shape)
    if split in axes:
        raise ValueError(f"{name}: {label} cuts an axis of the stack")
    if sum(label.sizes) != shape[split]:
        raise ValueError(
            f"{name} of shape {shape}: the sizes {label.sizes} add up to {sum(label.sizes)}, axis "
            f"{split} has {shape[split]}"
        )
    return Slices(tuple(axes), label.sizes, split)


class Part(NamedTuple):
    """The state of the transformation inside for some of the parameters.

    Attributes:
      structure: its structure, which has masked nodes for all other parameters.
      names: the path of each of its arrays; in the place of a placeholder that itself.
      own: the arrays that belong to these parameters, by path, and the axes of their stacks.
    """

    structure: Any
    names: list[Any]
    own: dict[str, At]

    def of(self, arrays: Mapping[str, Any]) -> PyTree:
        """This part of a state, given by its arrays."""
        return self.structure.unflatten(
            [arrays[name] if isinstance(name, str) else name for name in self.names]
        )

    def arrays(self, state: PyTree) -> dict[str, Any]:
        """The arrays in this part of a state."""
        pairs = zip(self.names, tree.flatten(state)[0], strict=True)
        return {name: x for name, x in pairs if isinstance(name, str)}


class Layout(NamedTuple):
    """Where the state of the transformation inside holds what.

    Attributes:
      whole: the whole state.
      parts: the part of each group; None: of the arrays without a stack.
      numbers: the paths of what belongs to no array, such as counts, except keys.
      keys: the paths of keys of `jax.random`.
    """

    whole: Part
    parts: dict[Group | None, Part]
    numbers: list[str]
    keys: list[str]


def layout_of(
    init: Callable[[PyTree], PyTree],
    structure: Any,
    groups: tuple[Group | None, ...],
    shapes: tuple[Any, ...],
) -> Layout:
    """Finds out where the state holds which arrays, from `init` on some of the parameters at a time."""

    def state(keep: Callable[[Group | None], bool]) -> tuple[dict[str, Any], list[Any], Any]:
        slices = [
            MaskedNode() if not keep(group) else group.slice_of(shape) if group else shape
            for group, shape in zip(groups, shapes, strict=True)
        ]
        return named(jax.eval_shape(init, structure.unflatten(slices)))

    whole, whole_names, whole_structure = state(lambda group: True)
    shared, _, _ = state(lambda group: False)
    covered = dict(shared)

    def part(group: Group | None) -> Part:
        arrays, names, own_structure = state(lambda other: other == group)
        own = [name for name in arrays if name not in shared]
        covered.update(arrays)
        for name, x in arrays.items():
            if name not in whole or whole[name].shape != x.shape:
                raise _cannot_be_sliced(name)
        places = {
            name: At(()) if group is None else group.place_in(len(arrays[name].shape))
            for name in own
        }
        return Part(own_structure, names, places)

    parts = {group: part(group) for group in dict.fromkeys((None, *groups))}
    for name, x in whole.items():
        if name not in covered or (name in shared and shared[name].shape != x.shape):
            raise _cannot_be_sliced(name)
    own = {name: at for part in parts.values() for name, at in part.own.items()}
    keys = [name for name, x in shared.items() if _is_key(x)]
    numbers = [name for name in shared if name not in keys]
    return Layout(Part(whole_structure, whole_names, own), parts, numbers, keys)


def named(state: PyTree) -> tuple[dict[str, Any], list[Any], Any]:
    """The arrays of a state by their paths; these paths and placeholders in order; the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state, is_leaf=tree.is_placeholder)
    names = [x if tree.is_placeholder(x) else jax.tree_util.keystr(path) for path, x in leaves]
    arrays = {name: x for name, (_, x) in zip(names, leaves, strict=True) if isinstance(name, str)}
    return arrays, names, structure


def _cannot_be_sliced(name: str) -> TypeError:
    return TypeError(
        f"per_slice: state{name} of the transformation inside belongs to several parameters, so that it "
        "cannot be sliced. What works on all parameters together belongs outside of per_slice"
    )


def _is_key(x: Any) -> bool:
    """Returns whether an array of the state is a key of `jax.random`, typed or raw."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return True
    return x.dtype == jnp.uint32 and x.shape in ((2,), (4,))
