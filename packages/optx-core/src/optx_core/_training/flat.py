"""Trees as vectors: one buffer per dtype, and views of it as the tree.

With thousands of small leaves most of the time of a step is the overhead of passing arrays. `ravel_params`
keeps parameters, gradients and state as a few long vectors across steps; the model sees the tree as views
created inside the differentiated function, whose derivative is one concatenation.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_core import PyTree, TreeMismatchError, build, tree
from optx_core._protocol.absent import paths


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The location of a leaf: `size` entries of the buffer of its dtype, beginning at `start`."""

    dtype: str
    start: int
    shape: tuple[int, ...]
    layout: NamedSharding | None  # the sharding in its type on an Explicit mesh, else None

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The layout of a tree in buffers."""

    structure: Any
    leaves: tuple[Leaf | None, ...]  # None for leaves that are not packed
    rest: tuple[Any, ...]  # the leaves that are not packed

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the buffers, sorted."""
        return sorted({leaf.dtype for leaf in self.leaves if leaf is not None})


def plan_of(arrays: PyTree) -> Plan:
    """Plans the layout of a tree: floating-point leaves in buffers by dtype, the rest separately."""
    leaves, structure = tree.flatten(arrays)
    ends: dict[str, int] = {}
    placed: list[Leaf | None] = []
    for x in leaves:
        if tree.is_absent(x) or not build.is_inexact(x):
            placed.append(None)
            continue
        dtype = str(jnp.dtype(build.dtype_of(x)))
        start = ends.get(dtype, 0)
        placed.append(Leaf(dtype, start, np.shape(x), _layout(x)))
        ends[dtype] = start + math.prod(np.shape(x))
    rest = tuple(x if leaf is None else None for x, leaf in zip(leaves, placed, strict=True))
    return Plan(structure, tuple(placed), rest)


def pack(arrays: PyTree, plan: Plan) -> PyTree:
    """Packs a tree into buffers: one vector, or a dict of vectors by dtype if there are several."""
    leaves = plan.structure.flatten_up_to(arrays)
    parts: dict[str, list[jax.Array]] = {dtype: [] for dtype in plan.dtypes}
    for leaf, x in zip(plan.leaves, leaves, strict=True):
        if leaf is None:
            continue
        array = jnp.zeros(leaf.shape, leaf.dtype) if tree.is_absent(x) else jnp.asarray(x)
        if leaf.layout is not None:
            whole = NamedSharding(leaf.layout.mesh, PartitionSpec(*(None,) * array.ndim))
            array = jax.sharding.reshard(array, whole)
        parts[leaf.dtype].append(array.reshape(-1))
    buffers = {
        dtype: part[0] if len(part) == 1 else jnp.concatenate(part) for dtype, part in parts.items()
    }
    return next(iter(buffers.values())) if len(buffers) == 1 else buffers


def unpack(flat: PyTree, plan: Plan) -> PyTree:
    """Unpacks buffers to the tree."""
    buffers: dict[str, Any] = flat if isinstance(flat, dict) else {}
    if not buffers:
        buffers = dict.fromkeys(plan.dtypes, flat)

    def view(leaf: Leaf | None, rest: Any) -> Any:
        if leaf is None:
            return rest
        x = jax.lax.slice_in_dim(buffers[leaf.dtype], leaf.start, leaf.start + leaf.size)
        x = x.reshape(leaf.shape)
        return x if leaf.layout is None else jax.sharding.reshard(x, leaf.layout)

    return plan.structure.unflatten(
        [view(*pair) for pair in zip(plan.leaves, plan.rest, strict=True)]
    )


def ravel_params(params: PyTree) -> tuple[PyTree, Unravel]:
    """Flattens parameters to one vector per dtype, and returns the function that restores the tree.

    Ravel once and keep the vectors: differentiate with respect to them, pass them to the optimizer, and add
    its updates to them. Use it for models with thousands of small arrays and elementwise optimizers (a
    global norm is unchanged too).

    Args:
      params: a tree of arrays. Integer leaves and None are stored in the function.

    Returns:
      The vectors (one array, or a dict of arrays by dtype if there are several), and a function
      from vectors of these shapes to a tree of the structure of `params`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import apply_updates, ravel_params, scale
      >>> flat, unravel = ravel_params({"w": jnp.ones((2, 2)), "b": jnp.zeros(2)})
      >>> loss = lambda flat: jnp.sum(unravel(flat)["w"] ** 2)
      >>> tx = scale(-0.5)
      >>> updates, _ = tx.update(jax.grad(loss)(flat), tx.init(flat), flat)
      >>> unravel(apply_updates(flat, updates))["w"]
      Array([[0., 0.],
             [0., 0.]], dtype=float32)
    """
    plan = plan_of(params)
    if any(leaf is not None and leaf.layout is not None for leaf in plan.leaves):
        raise ValueError(
            "ravel_params: the parameters are laid out on an Explicit mesh, which one vector cannot "
            "follow; keep them as a tree"
        )
    flat = pack(params, plan)
    # A vector of a single leaf must not share the parameter's buffer.
    return jax.tree.map(jnp.copy, flat), Unravel(plan)


class Unravel:
    """The function from vectors to the tree that `ravel_params` returns."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

        @jax.custom_vjp
        def view(flat: PyTree) -> PyTree:
            return unpack(flat, plan)

        def forward(flat: PyTree) -> tuple[PyTree, None]:
            return unpack(flat, plan), None

        def backward(_: None, cotangents: PyTree) -> tuple[PyTree]:
            return (pack(cotangents, plan),)

        view.defvjp(forward, backward)
        self._view = view

    def __call__(self, flat: PyTree) -> PyTree:
        """Returns the tree of views."""
        return self._view(flat)

    def ravel(self, arrays: PyTree) -> PyTree:
        """Returns the vectors of another tree of the same structure and shapes, such as a mask."""
        leaves = self._plan.structure.flatten_up_to(arrays)
        for k, (leaf, x) in enumerate(zip(self._plan.leaves, leaves, strict=True)):
            if leaf is not None and np.shape(x) != leaf.shape:
                raise TreeMismatchError(
                    f"unravel.ravel: {paths(arrays)[k]} is {np.shape(x)}, the parameter is {leaf.shape}"
                )
        return pack(arrays, self._plan)


def _layout(x: Any) -> NamedSharding | None:
    sharding = getattr(jax.typeof(x), "sharding", None) if isinstance(x, jax.Array) else None
    if sharding is None or sharding.mesh.empty:
        return None
    explicit = any(kind == AxisType.Explicit for kind in sharding.mesh.axis_types)
    return sharding if explicit else None
