"""Block-wise quantization of arrays to 8 bits.

An array is split into blocks of at most 256 adjacent entries. A block stores its largest magnitude
s = max|x| in float32, and an 8-bit code c for each entry:

root16: x = s·(c/255)¹⁶           c in 0..255       for x ≥ 0, second moments
root4:  x = s·sign(c)·(c/127)⁴    c in −127..127    for averages of signed values
linear: x = s·c/127

An average spans many orders of magnitude within one block, a second moment twice as many. If a code rounds
small entries of a second moment to 0, the updates there become too large: with square or fourth roots most
of them are rounded to 0, and Adam moves a coordinate whose gradients are 1e-6 of the block's largest 10
times too fast. With the sixteenth root adjacent codes of second moments differ by 6 % at the largest entry,
by 22 % at 1e-8 of it and by a factor of 1.9 at 1e-16; averages, as fourth roots, reach down to 4e-9.

Entries are rounded stochastically to one of the two adjacent codes, without bias: with rounding to nearest,
an average that changes by a thousandth per step would never change.

Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
2022 (the blocks; roots replace their table of values).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from optx_aliases._matrix.explicit_mesh import explicit_sharding, typed_spec
from optx_core.build import at_least_float32

BLOCK = 256


DTYPES = {"root16": jnp.uint8, "root4": jnp.int8, "linear": jnp.int8}
"""The dtype of the codes of each kind."""
POWERS = {"root16": 16, "root4": 4, "linear": 1}
"""The power of the codes of each kind, itself a power of 2."""


def _tile(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a block: full last axes, then part of one; it divides evenly if possible."""
    room, tile = BLOCK, []
    for n in reversed(shape):
        count = -(-n // room)
        even = next((k for k in range(count, 2 * count + 1) if n % k == 0), count)
        tile.append(-(-n // even))
        room //= tile[-1]
        room = max(room, 1)
    return tuple(reversed(tile))


def _blocked(shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[tuple[int, int]], list[int]]:
    """Returns the number of blocks per axis, the padding, and the shape with each axis split in two."""
    tile = _tile(shape)
    counts = tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
    padding = [(0, k * t - n) for n, k, t in zip(shape, counts, tile, strict=True)]
    return counts, padding, [size for pair in zip(counts, tile, strict=True) for size in pair]


@functools.partial(jax.jit, static_argnums=1)
def encode(x: jax.Array, kind: str, salt: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Quantizes an array to codes of its shape and scales of its blocks.

    Args:
      x: a real array.
      kind: a key of `DTYPES`.
      salt: an integer scalar, different at each call, so that roundings are independent.

    Returns:
      Codes and scales, the latter in at least float32.
    """
    real = at_least_float32(x.dtype)
    x = x.astype(real)
    counts, padding, split = _blocked(x.shape)
    padded = x if not any(after for _, after in padding) else jnp.pad(x, padding)
    sharding = explicit_sharding(x)
    if sharding is None:
        scale = lax.platform_dependent(
            padded,
            tpu=functools.partial(_largest_by_tiles, split=split),
            default=functools.partial(_largest, split=split),
        )
    else:
        fine = _layout_of_blocks(x, counts)
        split_axes = [part for name in fine for part in (name, None)]
        padded = jax.sharding.reshard(padded, NamedSharding(sharding.mesh, PartitionSpec(*fine)))
        scale = _largest(padded, split, NamedSharding(sharding.mesh, PartitionSpec(*split_axes)))
    scales = _spread(scale, x)
    part = jnp.abs(x) / jnp.where(scales > 0, scales, 1)
    levels = 127 if DTYPES[kind] == jnp.int8 else 255
    power, root = POWERS[kind], part
    for _ in range(power.bit_length() - 1):
        root = jnp.sqrt(root)
    position = levels * root
    below = jnp.floor(position)
    low, high = ((below + k) / levels for k in (0, 1))
    # Stochastic rounding to one of the two adjacent codes; entries on a code (decoded and not changed since)
    # keep it. The values of the first two codes can differ by less than `tiny`.
    tiny = jnp.finfo(real).tiny
    chance = (part - low**power) / jnp.maximum(high**power - low**power, tiny)
    nearest = jnp.round(position)
    rounded = below + (_noise(x, salt) < chance).astype(real)
    codes = jnp.where(jnp.abs(position - nearest) < 1e-3, nearest, rounded)
    signed = jnp.sign(x) * codes if levels == 127 else codes
    return signed.astype(DTYPES[kind]), scale


def _noise(x: jax.Array, salt: jax.Array) -> jax.Array:
    """Returns pseudorandom numbers in [0, 1), a hash of the bits of x and the salt."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    bits = bits ^ (salt.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = (bits ^ (bits >> 16)) >> 8
    return bits.astype(x.dtype) * 2.0**-24


@functools.partial(jax.jit, static_argnums=2)
def decode(codes: jax.Array, scale: jax.Array, kind: str) -> jax.Array:
    """Restores the array, in the dtype of the scales."""
    c = codes.astype(scale.dtype)
    scales = _spread(scale, codes)
    if DTYPES[kind] == jnp.int8:
        c = c / 127
        return jnp.sign(c) * jnp.abs(c) ** POWERS[kind] * scales
    return (c / 255) ** POWERS[kind] * scales


def _spread(scale: jax.Array, like: jax.Array) -> jax.Array:
    """Returns the scale of the block of each entry."""
    _, _, split = _blocked(like.shape)
    sharding = explicit_sharding(like)
    if sharding is None:
        wide = lax.platform_dependent(
            scale,
            tpu=functools.partial(_widened_by_product, split=split),
            default=functools.partial(_widened, split=split),
        )
        return wide[tuple(slice(n) for n in like.shape)]
    fine = _layout_of_blocks(like, scale.shape)
    split_axes = [part for name in fine for part in (name, None)]
    wide = _widened(
        scale,
        split,
        NamedSharding(sharding.mesh, PartitionSpec(*split_axes)),
        NamedSharding(sharding.mesh, PartitionSpec(*fine)),
    )
    if wide.shape != like.shape:
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        wide = jax.sharding.reshard(wide, whole)[tuple(slice(n) for n in like.shape)]
    return jax.sharding.reshard(wide, sharding)


def _largest(x: jax.Array, split: list[int], cut: NamedSharding | None = None) -> jax.Array:
    """Returns the largest absolute value of each block; `cut` is the layout of the blocked array."""
    pieces = jnp.reshape(x, split, out_sharding=cut)
    return jnp.max(jnp.abs(pieces), axis=tuple(range(1, len(split), 2)))


def _widened(
    scale: jax.Array,
    split: list[int],
    cut: NamedSharding | None = None,
    whole: NamedSharding | None = None,
) -> jax.Array:
    """Repeats values of blocks for their entries; `cut` and `whole` are layouts, in blocks and after."""
    wide = jnp.expand_dims(scale, tuple(range(1, len(split), 2)))
    wide = jnp.broadcast_to(wide, split, out_sharding=cut)
    shape = [a * b for a, b in zip(split[::2], split[1::2], strict=True)]
    return jnp.reshape(wide, shape, out_sharding=whole)


def _tiles(split: list[int]) -> tuple[int, ...] | None:
    """Returns the shape with rows split by 8 and the last axis by blocks; None unless it fits a TPU's tiles.

    A TPU stores a matrix in tiles of 8 rows by 128 columns. Splitting each row separately would move every
    entry; splitting groups of 8 rows keeps the entries in place.
    """
    if len(split) < 4:
        return None
    *counts, rows, blocks = split[::2]
    *others, width = split[1::2]
    if any(size > 1 for size in others) or rows % 8 or width % 128:
        return None
    return (*counts, rows // 8, 8, blocks, width)


def _largest_by_tiles(x: jax.Array, split: list[int]) -> jax.Array:
    tiles = _tiles(split)
    if tiles is None:
        return _largest(x, split)
    pieces = jnp.swapaxes(x.reshape(tiles), -3, -2)
    # XLA would store the absolute values in an additional array.
    largest = jnp.maximum(jnp.max(pieces, axis=-1), -jnp.min(pieces, axis=-1))
    return jnp.swapaxes(largest, -2, -1).reshape(split[::2])


def _widened_by_product(scale: jax.Array, split: list[int]) -> jax.Array:
    """Computes `_widened` as a product with a matrix of zeros and ones, which is fast on a TPU.

    A non-finite scale makes its whole row NaN, not only its block.
    """
    if _tiles(split) is None:
        return _widened(scale, split)
    blocks, width = split[-2:]
    column = jnp.arange(blocks * width, dtype=jnp.int32) // width
    in_block = (column[None, :] == jnp.arange(blocks, dtype=jnp.int32)[:, None]).astype(scale.dtype)
    return jnp.dot(scale, in_block, precision=lax.Precision.HIGHEST)


def _layout_of_blocks(x: jax.Array, counts: tuple[int, ...]) -> list[Any]:
    """Returns the mesh axes of x's dimensions that divide the number of blocks, None for the others."""
    mesh = jax.typeof(x).sharding.mesh

    def axes_if_divisible(axes: Any, count: int) -> Any:
        names = () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
        return axes if count % math.prod(mesh.shape[name] for name in names) == 0 else None

    return [
        axes_if_divisible(axes, count) for axes, count in zip(typed_spec(x), counts, strict=True)
    ]
