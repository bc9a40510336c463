"""Arrays in 8 bits, in blocks.

An array is cut into blocks of at most 256 neighbours. A block keeps its largest size s = max|x| in
float32, and of each entry 8 bits, c:

root16: x = s·(c/255)¹⁶           c in 0..255       for x ≥ 0, second moments
root4:  x = s·sign(c)·(c/127)⁴    c in −127..127    for averages of signed values
linear: x = s·c/127

An average spans many orders of magnitude inside one block, a second moment twice as many. A code that
turns its small entries into 0 makes the updates there too large: dividing by the root of a second moment
that is mostly drawn as 0, with square or fourth roots, Adam moves a coordinate whose gradients are 1e-6 of
the block's largest 10 times too fast. With the sixteenth root
neighbouring codes of second moments differ by 6 % at the largest entry, by 22 % at 1e-8 of it and by a
factor of 1.9 at 1e-16; averages, as fourth roots, reach down to 4e-9. Of the two
codes around an entry one is drawn, with the probability that makes the mean right: rounded to the nearest,
an average that moves by a thousandth a step would never move.

Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
2022 (the blocks; their table of values is replaced by roots).
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
"""The power of the codes, one of 2."""


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
def encode(x: jax.Array, kind: str, salt: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The codes, of the array's shape, and the scales of its blocks.

    Args:
      x: a real array.
      kind: a key of `DTYPES`.
      salt: an integer scalar, another one each time, so that each rounding is drawn anew.

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
        halves = [part for name in fine for part in (name, None)]
        padded = jax.sharding.reshard(padded, NamedSharding(sharding.mesh, PartitionSpec(*fine)))
        scale = _largest(padded, split, NamedSharding(sharding.mesh, PartitionSpec(*halves)))
    whole = _spread(scale, x)
    part = jnp.abs(x) / jnp.where(whole > 0, whole, 1)
    levels = 127 if DTYPES[kind] == jnp.int8 else 255
    power, root = POWERS[kind], part
    for _ in range(power.bit_length() - 1):
        root = jnp.sqrt(root)
    position = levels * root
    below = jnp.floor(position)
    low, high = ((below + k) / levels for k in (0, 1))
    # Of the two neighbours one is drawn, so that the value is right in the mean; what lies on a code
    # already (it came from one, and nothing moved it) stays.
    tiny = jnp.finfo(
        real
    ).tiny  # the difference of the first two codes, to the power of 16, is less
    chance = (part - low**power) / jnp.maximum(high**power - low**power, tiny)
    nearest = jnp.round(position)
    drawn = below + (_noise(x, salt) < chance).astype(real)
    codes = jnp.where(jnp.abs(position - nearest) < 1e-3, nearest, drawn)
    signed = jnp.sign(x) * codes if levels == 127 else codes
    return signed.astype(DTYPES[kind]), scale


def _noise(x: jax.Array, salt: jax.Array) -> jax.Array:
    """Numbers in [0, 1), a hash of the bits of x and of the salt."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    bits = bits ^ (salt.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = (bits ^ (bits >> 16)) >> 8
    return bits.astype(x.dtype) * 2.0**-24


@functools.partial(jax.jit, static_argnums=2)
def decode(codes: jax.Array, scale: jax.Array, kind: str) -> jax.Array:
    """The array, in the dtype of the scales."""
    c = codes.astype(scale.dtype)
    whole = _spread(scale, codes)
    if DTYPES[kind] == jnp.int8:
        c = c / 127
        return jnp.sign(c) * jnp.abs(c) ** POWERS[kind] * whole
    return (c / 255) ** POWERS[kind] * whole


def _spread(scale: jax.Array, like: jax.Array) -> jax.Array:
    """The scale of its block for each entry."""
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
    halves = [part for name in fine for part in (name, None)]
    wide = _widened(
        scale,
        split,
        NamedSharding(sharding.mesh, PartitionSpec(*halves)),
        NamedSharding(sharding.mesh, PartitionSpec(*fine)),
    )
    if wide.shape != like.shape:
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        wide = jax.sharding.reshard(wide, whole)[tuple(slice(n) for n in like.shape)]
    return jax.sharding.reshard(wide, sharding)


def _largest(x: jax.Array, split: list[int], cut: NamedSharding | None = None) -> jax.Array:
    """The largest absolute value in each block; `cut` is the layout of the array in its blocks."""
    pieces = jnp.reshape(x, split, out_sharding=cut)
    return jnp.max(jnp.abs(pieces), axis=tuple(range(1, len(split), 2)))


def _widened(
    scale: jax.Array,
    split: list[int],
    cut: NamedSharding | None = None,
    whole: NamedSharding | None = None,
) -> jax.Array:
    """For each entry what there is for its block; `cut` and `whole` are layouts, in blocks and after."""
    wide = jnp.expand_dims(scale, tuple(range(1, len(split), 2)))
    wide = jnp.broadcast_to(wide, split, out_sharding=cut)
    shape = [a * b for a, b in zip(split[::2], split[1::2], strict=True)]
    return jnp.reshape(wide, shape, out_sharding=whole)


def _tiles(split: list[int]) -> tuple[int, ...] | None:
    """The leading axes, then rows by 8 and the last axis by blocks, where a TPU lays out so; else None.

    A TPU keeps a matrix in tiles of 8 rows by 128 columns. To cut its rows alone would move every
    entry; cut with 8 rows at a time, they stay where they are.
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
    # Of absolute values XLA would make an array of their own.
    largest = jnp.maximum(jnp.max(pieces, axis=-1), -jnp.min(pieces, axis=-1))
    return jnp.swapaxes(largest, -2, -1).reshape(split[::2])


def _widened_by_product(scale: jax.Array, split: list[int]) -> jax.Array:
    """The same as a product with zeros and ones, which a TPU computes as it goes.

    A scale that is not finite makes its whole row NaN, not its block alone.
    """
    if _tiles(split) is None:
        return _widened(scale, split)
    blocks, width = split[-2:]
    column = jnp.arange(blocks * width, dtype=jnp.int32) // width
    its_own = (column[None, :] == jnp.arange(blocks, dtype=jnp.int32)[:, None]).astype(scale.dtype)
    return jnp.dot(scale, its_own, precision=lax.Precision.HIGHEST)


def _layout_of_blocks(x: jax.Array, counts: tuple[int, ...]) -> list[Any]:
    """The mesh axes of x's dimensions where they divide the number of blocks, None elsewhere."""
    mesh = jax.typeof(x).sharding.mesh

    def kept(axes: Any, count: int) -> Any:
        names = () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
        return axes if count % math.prod(mesh.shape[name] for name in names) == 0 else None

    return [kept(axes, count) for axes, count in zip(typed_spec(x), counts, strict=True)]
