"""The kinds of entries in the normal form z[g, t, j] = Σ_k x[g, t, k] · w[g, k, j].

Matrix products, convolutions, added biases, scales and embeddings; see `_entries`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_second_order._graph import Operation, Variable, is_literal
from optx_second_order._leaves import wide

Layout = Callable[[jax.Array], jax.Array]

RECASTING = frozenset({"convert_element_type", "copy_p", "optimization_barrier"})
"""Operations that keep the layout of a leaf."""


class Entry(NamedTuple):
    """The operation through which a leaf enters.

    Attributes:
      kind: "dot", "convolution", "bias", "scale" or "embedding".
      node: the variable z, the operation's result.
      other: the variable or literal x; None for a bias.
      groups: the range of g.
      positions: the range of t.
      fan_in: the range of k.
      fan_out: the range of j.
      inputs: x ↦ x[g, t, k].
      outputs: z ↦ z[g, t, j].
      leaf: w[g, k, j] ↦ the shape of the leaf.
      operation: the linear operation.
      weight: the operand of the operation that is a view of the leaf.
    """

    kind: str
    node: Variable
    other: Any
    groups: int
    positions: int
    fan_in: int
    fan_out: int
    inputs: Layout
    outputs: Layout
    leaf: Layout
    operation: Operation
    weight: Variable

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of z[g, t, j]."""
        return self.groups, self.positions, self.fan_out

    @property
    def probes(self) -> int:
        """The number of directions in z whose Hessian products determine the diagonal."""
        return self.groups * self.fan_out * min(self.positions, self.fan_in)

    def from_outputs(self, z: jax.Array) -> jax.Array:
        """z[g, t, j] ↦ z, the inverse of `outputs`."""
        example = jax.ShapeDtypeStruct(self.node.shape, z.dtype)
        return jax.linear_transpose(self.outputs, example)(z)[0]


def _viewed(views: Sequence[Operation], root: Variable) -> np.ndarray:
    """Returns the flat index in the leaf of each entry of the view."""
    with jax.ensure_compile_time_eval():
        index = jnp.arange(root.size, dtype=jnp.int32).reshape(root.shape)
        for view in views:
            if view.name not in RECASTING:
                index = view(index)[0]
        return np.asarray(index)


def _unviewed(views: Sequence[Operation], root: Variable) -> Layout:
    views = [view for view in views if view.name not in RECASTING]

    def forward(leaf: jax.Array) -> jax.Array:
        for view in views:
            leaf = view(leaf)[0]
        return leaf

    def back(viewed: jax.Array) -> jax.Array:
        example = jax.ShapeDtypeStruct(root.shape, viewed.dtype)
        return jax.linear_transpose(forward, example)(viewed)[0]

    return back


def _product(shape: Sequence[int], dims: Sequence[int]) -> int:
    return math.prod(shape[d] for d in dims)


def dot_entry(root: Variable, views: list[Operation], operation: Operation, position: int) -> Entry:
    """The entry of a matrix product."""
    (lhs_c, rhs_c), (lhs_b, rhs_b) = operation.params["dimension_numbers"]
    weight, other = operation.operands[position], operation.operands[1 - position]
    w_c, w_b, x_c, x_b = (
        (rhs_c, rhs_b, lhs_c, lhs_b) if position == 1 else (lhs_c, lhs_b, rhs_c, rhs_b)
    )
    w_shape, x_shape = weight.shape, tuple(other.aval.shape)
    w_free = [d for d in range(len(w_shape)) if d not in (*w_c, *w_b)]
    x_free = [d for d in range(len(x_shape)) if d not in (*x_c, *x_b)]
    groups, fan_in = _product(w_shape, w_b), _product(w_shape, w_c)
    fan_out, positions = _product(w_shape, w_free), _product(x_shape, x_free)
    order = (*w_b, *w_c, *w_free)
    unview = _unviewed(views, root)

    def inputs(x: jax.Array) -> jax.Array:
        return jnp.transpose(x, (*x_b, *x_free, *x_c)).reshape(groups, positions, fan_in)

    def outputs(z: jax.Array) -> jax.Array:
        if position == 1:
            return z.reshape(groups, positions, fan_out)
        return jnp.swapaxes(z.reshape(groups, fan_out, positions), 1, 2)

    def leaf(w: jax.Array) -> jax.Array:
        w = w.reshape([w_shape[d] for d in order])
        return unview(jnp.transpose(w, np.argsort(order).tolist()))

    return Entry(
        "dot", operation.results[0], other, groups, positions, fan_in, fan_out, inputs, outputs,
        leaf, operation, weight,
    )  # fmt: skip


def convolution_entry(
    root: Variable, views: list[Operation], operation: Operation, position: int
) -> Entry | str:
    """The entry of a convolution's kernel."""
    p = operation.params
    if position != 1:
        return "it is the input of a convolution, not the kernel"
    if p["batch_group_count"] != 1:
        return "its convolution has batch groups"
    spec = p["dimension_numbers"]
    weight, other, node = operation.operands[1], operation.operands[0], operation.results[0]
    groups = p["feature_group_count"]
    o_shape = [node.shape[d] for d in spec.out_spec]
    w_shape = [weight.shape[d] for d in spec.rhs_spec]
    window = tuple(w_shape[2:])
    area, fan_in, fan_out = math.prod(o_shape[2:]), math.prod(w_shape[1:]), w_shape[0] // groups
    positions = o_shape[0] * area
    unview = _unviewed(views, root)

    def inputs(x: jax.Array) -> jax.Array:
        patches = jax.lax.conv_general_dilated_patches(
            jnp.transpose(x, spec.lhs_spec),
            window,
            p["window_strides"],
            p["padding"],
            lhs_dilation=p["lhs_dilation"],
            rhs_dilation=p["rhs_dilation"],
            precision=jax.lax.Precision.HIGHEST,
        )
        patches = patches.reshape(o_shape[0], groups, fan_in, area)
        return jnp.transpose(patches, (1, 0, 3, 2)).reshape(groups, positions, fan_in)

    def outputs(z: jax.Array) -> jax.Array:
        z = jnp.transpose(z, spec.out_spec).reshape(o_shape[0], groups, fan_out, area)
        return jnp.transpose(z, (1, 0, 3, 2)).reshape(groups, positions, fan_out)

    def leaf(w: jax.Array) -> jax.Array:
        w = jnp.swapaxes(w, 1, 2).reshape(w_shape)
        return unview(jnp.transpose(w, np.argsort(spec.rhs_spec).tolist()))

    return Entry(
        "convolution", node, other, groups, positions, fan_in, fan_out, inputs, outputs, leaf,
        operation, weight,
    )  # fmt: skip


def elementwise_entry(
    kind: str, root: Variable, views: list[Operation], operation: Operation, position: int
) -> Entry | str:
    """The entry of a bias or a scale."""
    node, other = operation.results[0], operation.operands[1 - position]
    weight = operation.operands[position]
    if root.size == 0:
        return "it is empty"
    index = np.broadcast_to(_viewed(views, root), node.shape).reshape(-1)
    size, positions = root.size, node.size // root.size
    if np.min(np.bincount(index, minlength=size)) != positions:
        return "its entries are not repeated equally often"
    tiled = bool(np.array_equal(index, np.tile(np.arange(size), positions)))
    repeated = bool(np.array_equal(index, np.repeat(np.arange(size), positions)))
    order = np.argsort(index, kind="stable")

    def by_entry(z: jax.Array) -> jax.Array:  # (size, positions)
        z = z.reshape(-1)
        if tiled:
            return z.reshape(positions, size).T
        return (z if repeated else z[order]).reshape(size, positions)

    def leaf(w: jax.Array) -> jax.Array:
        return w.reshape(root.shape)

    if kind == "bias":
        ones = np.ones((1, positions, 1))
        return Entry(
            kind, node, None, 1, positions, 1, size,
            lambda x: jnp.asarray(ones, x.dtype), lambda z: by_entry(z).T[None], leaf,
            operation, weight,
        )  # fmt: skip

    def inputs(x: jax.Array) -> jax.Array:
        return by_entry(jnp.broadcast_to(x, node.shape))[:, :, None]

    return Entry(
        kind, node, other, size, positions, 1, 1, inputs, lambda z: by_entry(z)[:, :, None], leaf,
        operation, weight,
    )  # fmt: skip


def embedding_entry(root: Variable, operation: Operation) -> Entry | str:
    """The entry of a table whose rows are looked up by index."""
    p, node, indices = operation.params, operation.results[0], operation.operands[1]
    dims = p["dimension_numbers"]
    rows, width = root.shape[0], math.prod(root.shape[1:])
    trailing = tuple(range(len(node.shape) - len(root.shape) + 1, len(node.shape)))
    if (
        dims.start_index_map != (0,)
        or dims.collapsed_slice_dims != (0,)
        or tuple(dims.offset_dims) != trailing
        or tuple(p["slice_sizes"]) != (1, *root.shape[1:])
        or is_literal(indices)
    ):
        return "it is indexed other than by rows"
    positions = node.size // width if width else 0
    clips = "clip" in str(p["mode"]).lower()

    def inputs(index: jax.Array) -> jax.Array:
        index = index.reshape(positions)
        index = jnp.clip(index, 0, rows - 1) if clips else index
        return jax.nn.one_hot(index, rows, dtype=jnp.float32)[None]

    return Entry(
        "embedding", node, indices, 1, positions, rows, width, inputs,
        lambda z: z.reshape(1, positions, width), lambda w: w.reshape(root.shape),
        operation, root,
    )  # fmt: skip


def wide_inputs(entry: Entry, x: jax.Array | None, dtype: Any) -> jax.Array:
    """Returns x[g, t, k] of one example, in at least float32 and at least `dtype`."""
    base = jnp.zeros((), dtype) if x is None else x
    x = entry.inputs(base)
    return x.astype(wide(x.dtype, dtype))
