"""Layouts of matrices on a mesh: cutting them into parts, and assembling the parts.

A matrix is split over mesh axes along its rows and columns, its stack along the batch. `Layout` cuts the part
of an array that a device holds into what it sends to the owner of each matrix, puts whole matrices together
from what has arrived, and cuts them again. `job_of` describes all arrays of a leaf.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from optx_aliases._matrix.matrices import Axes

Spec: TypeAlias = tuple[tuple[str, ...], ...]
"""The mesh axes that split each dimension of an array."""


class Fresh(NamedTuple):
    """The axes of an array of which only the shape and the layout are wanted, for a result; nothing is sent.

    Attributes:
      axes: as for the other arrays.
    """

    axes: Axes


class Layout(NamedTuple):
    """The layout of the matrices of an array on the devices.

    Attributes:
      axes: the array's axes; None for an array that all matrices share.
      block: the shape of the part of each matrix on a device.
      split: the mesh axes of each of its dimensions.
      moved: the mesh axes over which matrices are shared out.
      at_owner: whether whole matrices are with their owners.
      is_fresh: whether the array is a result only.
      sizes: the sizes of the mesh axes in `split` and `moved`.
    """

    axes: Axes | None
    block: tuple[int, ...]
    split: Spec
    moved: tuple[str, ...]
    at_owner: bool
    is_fresh: bool
    sizes: tuple[tuple[str, int], ...]

    def lengths(self, names: Iterable[str]) -> list[int]:
        sizes = dict(self.sizes)
        return [sizes[name] for name in names]

    @property
    def used(self) -> list[str]:
        return [*itertools.chain(*self.split)]

    @property
    def is_sent(self) -> bool:
        """True if an owner needs parts that other owners hold."""
        return not self.is_fresh and any(name in self.moved for name in self.used)

    def blocks(self, x: Array) -> Array:
        """Reshapes a part of the array to parts of its matrices, (n, *block)."""
        if self.axes is None:
            return x[None]
        return x.transpose(self.axes.order).reshape(-1, *self.block)

    def array(self, blocks: Array, like: Array) -> Array:
        """Inverts `blocks`."""
        if self.axes is None:
            return blocks[0]
        order = self.axes.order
        x = blocks.reshape([like.shape[axis] for axis in order])
        return x.transpose([order.index(axis) for axis in range(x.ndim)])

    def pieces(self, blocks: Array) -> Array:
        """Returns what this device sends of each block, (n, size): where several hold it, each a piece."""
        flat = blocks.reshape(len(blocks), -1)
        copies = [name for name in self.moved if name not in self.used]
        if not copies:
            return flat
        parts = math.prod(self.lengths(copies))
        flat = jnp.pad(flat, [(0, 0), (0, -flat.shape[1] % parts)])
        flat = flat.reshape(len(flat), parts, -1)
        return lax.dynamic_index_in_dim(flat, index_of(copies), 1, keepdims=False)

    def assembled(self, pieces: Array, senders: Sequence[str]) -> Array:
        """Puts whole matrices (n, ...) together from the pieces (senders, n, size) of all devices."""
        used, n = self.used, pieces.shape[1]
        away = [name for name in used if name not in senders]
        names = [*away, *senders]
        x = gathered(pieces, away).reshape(*self.lengths(names), *pieces.shape[1:])
        # From (*names, n, size) to (*used, n, block), the pieces of the same block joined.
        order = [*map(names.index, used), len(names)]
        order += [k for k in range(x.ndim) if k not in order]
        lengths = self.lengths(used)
        x = x.transpose(order).reshape(*lengths, n, -1)[..., : math.prod(self.block)]
        x = x.reshape(*lengths, n, *self.block).transpose(self._order())
        return x.reshape(n, *self.unit())

    def for_devices(self, x: Array) -> Array:
        """Cuts whole matrices (n, ...) into the block of each device, (devices, n, size)."""
        used, n, order = self.used, len(x), self._order()
        shape = [n]
        for part, length in zip(self.split, self.block, strict=True):
            shape += [*self.lengths(part), length]
        x = x.reshape(shape).transpose([order.index(k) for k in range(len(order))])
        x = x.reshape(*self.lengths(used), n, math.prod(self.block))
        for name in [name for name in used if name not in self.moved]:
            x = lax.dynamic_index_in_dim(x, index_of([name]), used.index(name), keepdims=False)
            used.remove(name)
        across = [name for name in self.moved if name in used]
        x = x.transpose([*map(used.index, across), x.ndim - 2, x.ndim - 1])
        x = lax.expand_dims(x, [k for k, name in enumerate(self.moved) if name not in across])
        x = jnp.broadcast_to(x, (*self.lengths(self.moved), *x.shape[-2:]))
        return x.reshape(-1, *x.shape[-2:])

    def unit(self) -> tuple[int, ...]:
        """Returns the shape of a matrix."""
        pairs = zip(self.block, self.split, strict=True)
        dims = [length * math.prod(self.lengths(part)) for length, part in pairs]
        if self.axes is None:
            return tuple(dims)
        if not self.axes.columns:
            return (1, *dims)
        rows = len(self.axes.rows)
        return math.prod(dims[:rows]), math.prod(dims[rows:])

    def _order(self) -> list[int]:
        """The axes of (*used, n, *block) in the order n, then each dimension's mesh axes and block."""
        first, order, at = len(self.used), [len(self.used)], 0
        for k, part in enumerate(self.split):
            order += [*range(at, at + len(part)), first + 1 + k]
            at += len(part)
        return order


class Job(NamedTuple):
    """The arrays of a leaf, as they lie on each device.

    Attributes:
      layouts: of each array.
      main: the place of the matrices themselves.
      home: the mesh axes that split the batch.
      moved: the mesh axes over which the matrices are shared out.
      size: the number of matrices in each part of the stack.
      is_stack: whether the leaf has several matrices.
    """

    layouts: tuple[Layout, ...]
    main: int
    home: tuple[str, ...]
    moved: tuple[str, ...]
    size: int
    is_stack: bool

    @property
    def devices(self) -> int:
        return math.prod(self.layouts[0].lengths(self.moved))

    @property
    def cost(self) -> int:
        """An estimate of the operations for one matrix: products, and iterations with its square arrays."""
        rows, columns = self.layouts[self.main].unit()
        others = [x.unit() for x in self.layouts if x.axes is not None and not x.axes.columns]
        squares = [n[1] ** 3 for n in others if len(n) == 3 and n[1] == n[2]]
        return rows * columns * (rows + columns if squares else min(rows, columns)) + 8 * sum(
            squares
        )


def job_of(
    shapes: Sequence[tuple[int, ...]],
    specs: Sequence[Spec],
    kinds: Sequence[Axes | Fresh | None],
    main: int,
    sizes: dict[str, int],
    owners: tuple[str, ...],
) -> tuple[Job, list[Spec]]:
    """Returns the job of a leaf, and the layouts that it asks for: its own, if they can be used."""

    def divisible(shape: tuple[int, ...], spec: Spec) -> Spec:
        pairs = zip(shape, spec, strict=True)
        return tuple(p if n % math.prod(sizes[a] for a in p) == 0 else () for n, p in pairs)

    specs = [divisible(shape, spec) for shape, spec in zip(shapes, specs, strict=True)]
    given = [kind.axes if isinstance(kind, Fresh) else kind for kind in kinds]
    fresh = [isinstance(kind, Fresh) for kind in kinds]
    first, own = given[main], specs[main]
    assert first is not None  # noqa: S101 (the matrices themselves)
    home = tuple(itertools.chain(*(own[axis] for axis in first.batch)))
    moved = tuple(name for name in owners if name not in home)
    batch = math.prod(shapes[main][axis] for axis in first.batch)
    count = batch // math.prod(sizes[name] for name in home)
    layouts, wanted = [], []
    for shape, old, kind, is_fresh in zip(shapes, specs, given, fresh, strict=True):
        spec, at_owner = old, False
        whole = ((),) * (len(shape) - 1)  # without the batch
        if kind is None:
            spec = ((),) * len(shape)
        elif kind.batch and kind == first:
            spec = old if all(old[axis] == own[axis] for axis in kind.batch) else own
        elif kind.batch:
            at_owner = old[0] == (*home, *moved) and count % math.prod(sizes[n] for n in moved) == 0
            if at_owner:
                spec = (old[0], *whole)
            elif old[0] != home or set(home) & {*itertools.chain(*old[1:])}:
                spec = (home, *whole)
        order = range(len(shape)) if kind is None else (*kind.rows, *kind.columns)
        split = tuple(tuple(n for n in spec[axis] if sizes[n] > 1) for axis in order)
        block = tuple(
            shape[axis] // math.prod(sizes[n] for n in part)
            for axis, part in zip(order, split, strict=True)
        )
        named = {*moved, *itertools.chain(*split)}
        used_sizes = tuple((name, n) for name, n in sizes.items() if name in named)
        layouts.append(Layout(kind, block, split, moved, at_owner, is_fresh, used_sizes))
        wanted.append(spec)
    return Job(tuple(layouts), main, home, moved, count, batch > 1), wanted


def is_unused(layout: Layout, x: Array) -> bool:
    """Returns whether an array is an unused slot, of shape (1,)."""
    return layout.axes is None and x.shape == (1,)


def index_of(names: Sequence[str]) -> Any:
    return lax.axis_index(tuple(names)) if names else 0


def gathered(x: Array, names: Sequence[str]) -> Array:
    return lax.all_gather(x, tuple(names)) if names else x[None]


def spec_of(x: Array) -> Spec:
    """Returns the layout in an array's type."""
    return spec_in(jax.typeof(x).sharding, x.ndim)


def spec_in(sharding: Any, ndim: int) -> Spec:
    spec = sharding.spec if isinstance(sharding, NamedSharding) else ()
    parts = [(part,) if isinstance(part, str) else tuple(part or ()) for part in spec]
    return (*parts, *((),) * (ndim - len(parts)))


def partition_spec(spec: Iterable[tuple[str, ...]]) -> PartitionSpec:
    parts: list[Any] = [part if len(part) > 1 else part[0] if part else None for part in spec]
    while parts and parts[-1] is None:
        parts.pop()
    return PartitionSpec(*parts)
