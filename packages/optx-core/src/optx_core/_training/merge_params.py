"""Merging of checkpoints in place of a decay of the learning rate.

θ̂ = Σ_j c_j·θ_j,   c_j = w_j − w_{j+1},  j = 0, ..., n − 1,  w_n = 0

If the gradients are the same, a run whose updates after checkpoint j − 1 are multiplied by w_j ends at θ̂:
merging takes the place of a decay of the learning rate. Equal weights are those of a linear decay.

Reference: WSM, "Decay-Free Learning Rate Schedule via Checkpoint Merging", arXiv:2507.17634, 2025.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from optx_core import Params, PyTree, build, incremental_update, tree


def merge_params(
    checkpoints: Sequence[Params], decay: Callable[[int], Any] | None = None
) -> Params:
    """Returns the weighted mean of checkpoints of a run with a constant learning rate.

    Args:
      checkpoints: trees of parameters of the same structure and shapes, in the order in which they were
        saved; a list, or any sequence that loads them one by one.
      decay: w, the decay of the learning rate to replace: a function of 0, ..., n − 1, for n checkpoints,
        that falls from 1 towards 0, such as `optx_schedules.linear_schedule(1.0, 0.0, n)`. None for equal
        weights.

    Returns:
      A tree like the last checkpoint, in its dtypes; the mean is taken in at least float32. Leaves that are
      not floating-point are those of the last.

    Raises:
      ValueError: if there are no checkpoints, or the decay is not 1 at 0, or rises, or falls below 0.
      TreeMismatchError: if structures or shapes differ; names the path.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import merge_params
      >>> saved = [jnp.array([0.0]), jnp.array([4.0]), jnp.array([6.0])]
      >>> merge_params(saved)
      Array([3.3333333], dtype=float32)
      >>> merge_params(saved, lambda j: 0.5**j)  # the weights are 0.5, 0.25 and 0.25
      Array([2.5], dtype=float32)
    """
    count = len(checkpoints)
    if not count:
        raise ValueError("merge_params: there are no checkpoints")
    weights = [1 - j / count if decay is None else float(decay(j)) for j in range(count)] + [0.0]
    falls = all(a >= b for a, b in itertools.pairwise(weights))
    if weights[0] != 1 or not falls:
        shown = ", ".join(f"{w:g}" for w in weights[:-1])
        raise ValueError(f"merge_params: decay must fall from 1 to no less than 0, but is {shown}")
    mean, total = build.copy_of(checkpoints[0]), 1 - weights[1]
    last = checkpoints[0]
    for j in range(1, count):
        last = checkpoints[j]
        share = weights[j] - weights[j + 1]
        total += share
        mean = incremental_update(build.copy_of(last), mean, share / total if total else 1.0)
    return rounded_as(last, mean)


def rounded_as(params: Params, averages: PyTree, where: str = "merge_params") -> Params:
    """Returns averages in the dtypes of parameters; where they are missing, the parameters.

    Flax keeps parameters and state in containers of different kinds: those of the parameters are returned.
    """
    leaves, structure = tree.flatten(params)
    try:
        values = structure.flatten_up_to(averages)
    except (ValueError, TypeError):
        values, _ = tree.flatten(averages)
    same = len(values) == len(leaves) and all(
        tree.is_placeholder(e) or jnp.shape(e) == jnp.shape(p)
        for p, e in zip(leaves, values, strict=True)
    )
    if not same:
        raise ValueError(f"{where}: the averages belong to other parameters")
    return structure.unflatten(
        [
            p if tree.is_placeholder(e) else e.astype(build.dtype_of(p))
            for p, e in zip(leaves, values, strict=True)
        ]
    )
