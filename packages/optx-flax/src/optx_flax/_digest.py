"""Digests of the arrays of a model and its optimizer, to be saved beside a checkpoint."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from flax import nnx
from optx_flax._paths import leaves_with_paths, listed


def digest(objects: Any) -> dict[str, str]:
    """A hash of each array of a model and its optimizer: to find out whether a checkpoint is intact.

    Args:
      objects: the objects whose state is saved: `(model, optimizer)`.

    Returns:
      The SHA-256 of each array's dtype, shape and bits, in hexadecimal, by its path, "/" between the
      steps: a dict for `json.dump`. `restore_into(objects, restored, digest=...)` compares it with what was
      restored. It does not depend on the layout of the arrays.

    Raises:
      ValueError: if an array lies on devices of other processes too.

    Example:
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import digest, restore_into
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=nnx.Param)
      >>> saved, hashes = nnx.as_pure(nnx.state((model, optimizer))), digest((model, optimizer))
      >>> saved[0]["kernel"] = saved[0]["kernel"].at[0, 0].add(1e-6)
      >>> restore_into((model, optimizer), saved, digest=hashes)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      ValueError: restore_into: the checkpoint differs from its digest at 0/kernel: ...
    """
    return {
        "/".join(path): _hash(path, x)
        for path, x in leaves_with_paths(nnx.as_pure(nnx.state(objects)))
    }


def check_digest(arrays: list[tuple[tuple[str, ...], Any]], known: dict[str, str]) -> None:
    """Refuses restored arrays that differ from their digest; lists the paths.

    Args:
      arrays: the arrays with their paths.
      known: what `digest` returned.

    Raises:
      ValueError: if an array differs from its digest, or has none, or is missing.
    """
    found = {"/".join(path): _hash(path, x) for path, x in arrays}
    changed = [path for path, value in found.items() if known.get(path, value) != value]
    parts = [f"differs from its digest at {listed(changed)}"] if changed else []
    lost = [path for path in known if path not in found]
    parts += [f"lacks {listed(lost)} of its digest"] if lost else []
    new = [path for path in found if path not in known]
    parts += [f"has {listed(new)}, which its digest lacks"] if new else []
    if parts:
        raise ValueError(
            f"restore_into: the checkpoint {'; '.join(parts)}: the files were damaged, or the digest "
            "belongs to another checkpoint. Nothing was changed; restore an older one"
        )


def _hash(path: tuple[str, ...], array: Any) -> str:
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            raise ValueError(
                f"digest: {'/'.join(path)} lies on devices of other processes too; gather it first, "
                "with jax.experimental.multihost_utils.process_allgather"
            )
        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    kind = f"{values.dtype.name}{list(np.shape(array))}"
    return hashlib.sha256(kind.encode() + values.tobytes()).hexdigest()
