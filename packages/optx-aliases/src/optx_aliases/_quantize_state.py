"""Moments in 8 bits: an optimizer's state at a quarter of its size.

An array is cut into blocks of at most 256 neighbours. A block keeps its largest size s = max|x| in
float32, and of each entry 8 bits, c:

root4:  x = s·(c/255)⁴            c in 0..255       for x ≥ 0, second moments
root2:  x = s·sign(c)·(c/127)²    c in −127..127    for averages of signed values
linear: x = s·c/127

A second moment spans many orders of magnitude inside one block. Linear, or as a square root, its
small entries would become 0, and dividing by their root would blow up; the fourth root keeps what is
down to 1e-10 of the largest. Of the two codes around an entry one is drawn, with the chance that makes
the mean right: rounded to the nearest, an average that moves by a thousandth a step would never move.

Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
2022 (the blocks; their table of values is replaced by roots).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from optx_aliases._matrices import explicit_sharding, typed_spec
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Updates,
    at_least_float32,
    check_transformation_like,
    recorded,
    with_extra_args_support,
    wrapping,
)

BLOCK = 256


class Root4Blocks(NamedTuple):
    """An array without negative entries, in 8 bits.

    Attributes:
      codes: uint8, of the array's shape.
      scale: the largest entry of each block, in at least float32.
    """

    codes: jax.Array
    scale: jax.Array


class Root2Blocks(NamedTuple):
    """An array in 8 bits, finer near zero.

    Attributes:
      codes: int8, of the array's shape.
      scale: the largest size in each block, in at least float32.
    """

    codes: jax.Array
    scale: jax.Array


class LinearBlocks(NamedTuple):
    """An array in 8 bits, evenly spaced.

    Attributes:
      codes: int8, of the array's shape.
      scale: the largest size in each block, in at least float32.
    """

    codes: jax.Array
    scale: jax.Array


class QuantizeState(NamedTuple):
    """State of `quantize_state`.

    Attributes:
      inner_state: the inner transformation's state, blocks in place of its large arrays.
    """

    inner_state: OptState


_KINDS: dict[str, Any] = {"root4": Root4Blocks, "root2": Root2Blocks, "linear": LinearBlocks}

# How the fields of known states are kept; those with None as they are.
_SECOND = ("nu", "nu_max", "sum_of_squares", "e_g", "e_x", "v", "n", "exp_avg_sq")
_FIRST = (
    "mu",
    "trace",
    "ema",
    "m",
    "m1",
    "m2",
    "mu_hat",
    "momentum",
    "exp_avg",
    "m_slow",
    "m_fast",
)
_KEPT = ("master", "params", "slow", "z", "x0", "init_params", "prev_updates", "step_sizes")
FIELDS: dict[str, str | None] = {
    **dict.fromkeys(_SECOND, "root4"),
    **dict.fromkeys(_FIRST, "root2"),
    **dict.fromkeys(_KEPT, None),
}


@recorded
def quantize_state(
    inner: Any, min_size: int = 4096, fields: Mapping[str, str | None] | None = None
) -> GradientTransformationExtraArgs:
    """Keeps the moments of an optimizer in 8 bits, with a float32 scale for each block of 256.

    About 1.02 bytes for each entry of a moment, so 2.03 for each parameter of AdamW instead of 8. At
    each step the moments are widened, the optimizer runs on them in float32, and the new ones are
    narrowed; the updates come from the new ones before they are narrowed.

    Which arrays: those of the state that are real, of floating point, of a parameter's shape and of
    at least `min_size` entries; the rest stays as it is. How each is kept follows from the name of
    its field in the state: second moments ("nu", ...) as "root4", averages of signed values ("mu",
    "trace", ...) as "root2"; copies of parameters stay as they are.

    The 8 bits of an array have its shape and are laid out over devices as it is. Blocks run over
    its last axes, and the scales are split as the array is wherever a mesh axis divides their number.

    Args:
      inner: any transformation that keeps moments.
      min_size: the least number of entries of an array worth the trouble.
      fields: how the fields of the state are kept by name: "root4" (no negative entries), "root2",
        "linear" or None (as they are). A name may have the names around it in front, up to the leaf:
        "mu/dense/kernel". Adds to, and overrides, what is known.

    Returns:
      A transformation with a `QuantizeState`.

    Raises:
      ValueError: from `init`, if it is not known how an array is to be kept, or negative entries
        would be kept as "root4".

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import adamw, quantize_state
      >>> params = {"w": jnp.zeros((256, 256)), "b": jnp.zeros(256)}
      >>> state = quantize_state(adamw(1e-3)).init(params)
      >>> round(sum(x.nbytes for x in jax.tree.leaves(state)) / (256 * 257), 2)
      2.05
    """
    check_transformation_like("quantize_state", inner)
    inner = with_extra_args_support(inner)
    if not isinstance(min_size, int) or min_size < 1:
        raise ValueError(f"quantize_state: min_size must be a positive int, not {min_size!r}")
    rules = {**FIELDS, **(fields or {})}
    for name, kind in rules.items():
        if kind is not None and kind not in _KINDS:
            raise ValueError(
                f"quantize_state: fields[{name!r}] must be one of "
                f"{', '.join(map(repr, _KINDS))} or None, not {kind!r}"
            )

    def init(params: Params) -> QuantizeState:
        shapes = {jnp.shape(p) for p in jax.tree.leaves(params)}

        def leaf(path: tuple[Any, ...], x: Any) -> Any:
            kind = _kind_of(path, x, shapes, min_size, rules)
            if kind is None:
                return x
            _check_sign(path, x, kind)
            return _KINDS[kind](*_encode(x, kind))

        return QuantizeState(jax.tree_util.tree_map_with_path(leaf, inner.init(params)))

    def update(
        updates: Updates, state: QuantizeState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, QuantizeState]:
        kept, structure = _flatten_blocks(state.inner_state)
        wide = [_decode(*x, _kind_name(x)) if _is_blocks(x) else x for x in kept]
        updates, after = inner.update(updates, structure.unflatten(wide), params, **extra_args)
        new = structure.flatten_up_to(after)
        narrow = [
            type(old)(*_encode(x, _kind_name(old))) if _is_blocks(old) else x
            for old, x in zip(kept, new, strict=True)
        ]
        return updates, QuantizeState(structure.unflatten(narrow))

    return wrapping(init, update)


def _is_blocks(x: Any) -> bool:
    return isinstance(x, Root4Blocks | Root2Blocks | LinearBlocks)


def _kind_name(x: Any) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(x, kind))


def _flatten_blocks(state: OptState) -> tuple[list[Any], Any]:
    return jax.tree_util.tree_flatten(state, is_leaf=_is_blocks)


def _kind_of(
    path: tuple[Any, ...], x: Any, shapes: set[Any], min_size: int, rules: Mapping[str, Any]
) -> str | None:
    """How an array of the state is kept."""
    real = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize <= 8
    names = [
        str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", "")))) for key in path
    ]
    # The longest rule that fits a run of names wins; among equals the innermost.
    fitting = [
        (rule.count("/"), -end, rule)
        for rule in rules
        for end in range(len(names))
        if (width := rule.count("/") + 1) <= end + 1
        and "/".join(names[end + 1 - width : end + 1]) == rule
    ]
    asked = [rules[rule] for _, _, rule in sorted(fitting, reverse=True)]
    if x.size < min_size or x.shape not in shapes or not real:
        return None
    if not asked:
        raise ValueError(
            f"quantize_state: state{jax.tree_util.keystr(path)} of shape {x.shape}: it is not known "
            "whether this field holds a second moment. Say how to keep it: fields={"
            f"{_field_of(path)!r}: 'root4'}} if it has no negative entries, 'root2' otherwise, None "
            "to leave it as it is"
        )
    return asked[0]


def _field_of(path: tuple[Any, ...]) -> str:
    """The innermost field of a NamedTuple on a path."""
    return next((key.name for key in reversed(path) if hasattr(key, "name")), "")


def _check_sign(path: tuple[Any, ...], x: Any, kind: str) -> None:
    if kind == "root4" and not isinstance(x, jax.core.Tracer) and bool(jnp.any(x < 0)):
        raise ValueError(
            f"quantize_state: state{jax.tree_util.keystr(path)} has negative entries, and 'root4' "
            f"keeps none: fields={{{_field_of(path)!r}: 'root2'}}"
        )


def _tile(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a block: full last axes, then a part of one; it divides evenly where it can."""
    room, tile = BLOCK, []
    for n in reversed(shape):
        count = -(-n // room)
        even = next((k for k in range(count, 2 * count + 1) if n % k == 0), count)
        tile.append(-(-n // even))
        room //= tile[-1]
        room = max(room, 1)
    return tuple(reversed(tile))


def _blocked(shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[tuple[int, int]], list[int]]:
    """The number of blocks along each axis, the padding, and the shape with each axis split in two."""
    tile = _tile(shape)
    counts = tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
    padding = [(0, k * t - n) for n, k, t in zip(shape, counts, tile, strict=True)]
    return counts, padding, [size for pair in zip(counts, tile, strict=True) for size in pair]


@functools.partial(jax.jit, static_argnums=1)
def _encode(x: jax.Array, kind: str) -> tuple[jax.Array, jax.Array]:
    """The codes and the scales of an array."""
    real = at_least_float32(x.dtype)
    x = x.astype(real)
    counts, padding, split = _blocked(x.shape)
    size = jnp.abs(x)
    padded = size if not any(after for _, after in padding) else jnp.pad(size, padding)
    sharding = explicit_sharding(x)
    if sharding is None:
        scale = jnp.max(padded.reshape(split), axis=tuple(range(1, len(split), 2)))
    else:
        fine = _layout_of_blocks(x, counts)
        halves = [part for name in fine for part in (name, None)]
        pieces = jnp.reshape(
            jax.sharding.reshard(padded, NamedSharding(sharding.mesh, PartitionSpec(*fine))),
            split,
            out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*halves)),
        )
        scale = jnp.max(pieces, axis=tuple(range(1, len(split), 2)))
    whole = _spread(scale, x)
    part = size / jnp.where(whole > 0, whole, 1)
    levels = 255 if kind == "root4" else 127
    power = {"root4": 4, "root2": 2, "linear": 1}[kind]
    root = part if power == 1 else jnp.sqrt(part) if power == 2 else jnp.sqrt(jnp.sqrt(part))
    position = levels * root
    below = jnp.floor(position)
    low, high = ((below + k) / levels for k in (0, 1))
    # Of the two neighbours one is drawn, so that the value is right in the mean; what lies on a code
    # already (it came from one, and nothing moved it) stays.
    chance = (part - low**power) / (high**power - low**power)
    nearest = jnp.round(position)
    drawn = below + (_noise(x) < chance).astype(real)
    codes = jnp.where(jnp.abs(position - nearest) < 1e-3, nearest, drawn)
    if kind == "root4":
        return codes.astype(jnp.uint8), scale
    return (jnp.sign(x) * codes).astype(jnp.int8), scale


def _noise(x: jax.Array) -> jax.Array:
    """Numbers in [0, 1) from the last bits of x: as good as random where x is an average."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = (bits ^ (bits >> 16)) >> 8
    return bits.astype(x.dtype) * 2.0**-24


@functools.partial(jax.jit, static_argnums=2)
def _decode(codes: jax.Array, scale: jax.Array, kind: str) -> jax.Array:
    """The array, in the dtype of the scales."""
    c = codes.astype(scale.dtype)
    whole = _spread(scale, codes)
    if kind == "root4":
        square = (c / 255) * (c / 255)
        return square * square * whole
    c = c / 127
    return (c * jnp.abs(c) if kind == "root2" else c) * whole


def _spread(scale: jax.Array, like: jax.Array) -> jax.Array:
    """The scale of its block for each entry."""
    _, _, split = _blocked(like.shape)
    sharding = explicit_sharding(like)
    wide = jnp.expand_dims(scale, tuple(range(1, len(split), 2)))
    if sharding is None:
        wide = jnp.broadcast_to(wide, split)
        wide = wide.reshape([a * b for a, b in zip(split[::2], split[1::2], strict=True)])
        return wide[tuple(slice(n) for n in like.shape)]
    fine = _layout_of_blocks(like, scale.shape)
    halves = [part for name in fine for part in (name, None)]
    wide = jnp.broadcast_to(
        wide, split, out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*halves))
    )
    wide = jnp.reshape(
        wide,
        [a * b for a, b in zip(split[::2], split[1::2], strict=True)],
        out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*fine)),
    )
    if wide.shape != like.shape:
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        wide = jax.sharding.reshard(wide, whole)[tuple(slice(n) for n in like.shape)]
    return jax.sharding.reshard(wide, sharding)


def _layout_of_blocks(x: jax.Array, counts: tuple[int, ...]) -> list[Any]:
    """The mesh axes of x's dimensions where they divide the number of blocks, None elsewhere."""
    mesh = jax.typeof(x).sharding.mesh

    def kept(axes: Any, count: int) -> Any:
        names = () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
        return axes if count % math.prod(mesh.shape[name] for name in names) == 0 else None

    return [kept(axes, count) for axes, count in zip(typed_spec(x), counts, strict=True)]
