"""Scion: steps within norm balls, each kind of leaf in its own norm.

d ← beta·d + (1 − beta)·g
W ← (1 − lr)·W − lr·radius·u(d)                      (constrained: W stays in the ball of that radius)
W ← W − lr·radius·u(d)                               (unconstrained)

−u(d) is the point of the unit ball where ⟨d, ·⟩ is least (a linear minimization oracle):

hidden matrices   u = √(columns / rows)·O(d)         O as in `scale_by_muon`; rows are inputs, columns outputs
                  u = √(outputs / inputs)/k·O(d)     (convolutions, k the number of places of the kernel)
embeddings        u = d / RMS(d) for each row        (a token)
heads             u = sign(d) / inputs
others            u = d / RMS(d)

where O(d) is the nearest orthogonal matrix and k the number of places of a convolution's kernel.

Reference: Pethick, Xie, Antonakopoulos, Zhu, Silveti-Falls, Cevher, "Training Deep Learning Models with
Norm-Constrained LMOs", 2025, algorithms 1 and 2 and table 2.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.attention import attention_as_matrices
from optx_aliases._matrix.hidden_matrices import VECTORS, hidden_matrices, named_matrices
from optx_aliases._matrix.norms import nonzero, norm_over
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.scale_by_muon import scale_by_muon
from optx_core import (
    Params,
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    ema,
    scale_by_learning_rate,
)

Ball = Literal["spectral", "rows", "sign", "rms"]


@attention_as_matrices
@build.rule()
def _to_boundary(
    g: Array, /, ball: Ball, radius: build.Nonnegative, eps: build.Nonnegative
) -> Array:
    """Maps a momentum (for "spectral", what is orthogonal already) to radius·u."""
    if ball == "spectral":
        places = math.prod(g.shape[:-2]) if g.ndim > 3 else 1
        inputs, outputs = g.shape[-2:]
        return g * (radius * (math.sqrt(outputs / max(inputs, 1)) / places))
    if ball == "sign":
        return jnp.sign(g) * (radius / max(math.prod(g.shape[:-1]), 1))
    axes = (g.ndim - 1,) if ball == "rows" else tuple(range(g.ndim))
    count = math.prod(g.shape[axis] for axis in axes)
    return g / nonzero(norm_over(g, axes) / math.sqrt(max(count, 1)) + eps) * radius


@build.recorded
def scion(
    learning_rate: ScalarOrSchedule,
    beta: ScalarOrSchedule = 0.9,
    radius: ScalarOrSchedule = 50.0,
    head_radius: ScalarOrSchedule = 3000.0,
    embedding_radius: ScalarOrSchedule | None = None,
    vector_radius: ScalarOrSchedule | None = None,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: build.DType = None,
    *,
    constrained: bool = True,
    embedding_paths: Sequence[str] = ("*embed*",),
    head_paths: Sequence[str] = ("head", "*_head", "logits"),
    ns_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
) -> build.Transformation:
    """Scion (Pethick et al., 2025): steps of one length in the norm of each kind of leaf.

    Leaves of two axes and more are hidden matrices (three axes: a stack of them, except for the kernels of
    Flax's attention; more: a convolution's kernel), except embeddings, heads, biases and scales, which are
    recognized by the names on their path. Where embeddings also serve as the head, pass their names in
    `head_paths`.

    Args:
      learning_rate: lr, a scalar at least 0 (below 1 if `constrained`), or a schedule.
      beta: the weight of past gradients, in [0, 1), or a schedule; 1 − α in the paper.
      radius: of hidden matrices, in units of √(columns/rows), a scalar at least 0, or a schedule.
      head_radius: of heads, in units of 1/inputs, likewise.
      embedding_radius: the root mean square of an embedding's rows; `radius` by default.
      vector_radius: the root mean square of all other leaves; `radius` by default.
      ns_coeffs, ns_steps, ns_dtype, owner_axes: as for `scale_by_muon`.
      eps: added to norms, or a schedule.
      mu_dtype: dtype of d; by default the parameters', at least float32.
      constrained: whether W shrinks by lr·W at each step, so that it stays in the ball.
      embedding_paths: patterns (as in file names) for the names of embeddings, in lower case and without a
        number at their end ("Embed_0" is "embed").
      head_paths: likewise, of heads; first tried.

    Returns:
      A transformation; its state is a `PartitionState` with the labels "matrix", "embedding", "head" and
      "vector". `update` needs the parameters if `constrained`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scion
      >>> tx, params = scion(0.1, radius=1.0), {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
      >>> grads = {"kernel": jnp.eye(2), "bias": jnp.array([3.0, 3.0])}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> updates["bias"]
      Array([-0.1, -0.1], dtype=float32)
    """
    radii = {
        "matrix": radius,
        "embedding": radius if embedding_radius is None else embedding_radius,
        "head": head_radius,
        "vector": radius if vector_radius is None else vector_radius,
    }
    build.check_number(
        "scion",
        low=0,
        radius=radius,
        head_radius=head_radius,
        embedding_radius=embedding_radius,
        vector_radius=vector_radius,
    )
    balls: dict[str, Ball] = {
        "matrix": "spectral",
        "embedding": "rows",
        "head": "sign",
        "vector": "rms",
    }
    orthogonal = scale_by_muon(
        ns_coeffs,
        ns_steps,
        beta,
        eps,
        mu_dtype,
        nesterov=False,
        ns_dtype=ns_dtype,
        owner_axes=owner_axes,
    )
    average = ema(beta, debias=False, accumulator_dtype=mu_dtype)
    transforms: dict[Hashable, Any] = {
        kind: chain(
            orthogonal if kind == "matrix" else average,
            _to_boundary(ball, radii[kind], eps),
            *([add_decayed_weights(1.0)] if constrained else []),
            scale_by_learning_rate(learning_rate),
        )
        for kind, ball in balls.items()
    }
    heads, embeddings = (
        (paths,) if isinstance(paths, str) else tuple(paths)
        for paths in (head_paths, embedding_paths)
    )

    def labels(params: Params) -> PyTree:
        return jax.tree.map(
            lambda is_head, is_embedding, is_matrix: (
                "head"
                if is_head
                else "embedding"
                if is_embedding
                else "matrix"
                if is_matrix
                else "vector"
            ),
            named_matrices(params, heads),
            named_matrices(params, embeddings),
            hidden_matrices(params, VECTORS),
        )

    return build.parted("scion", transforms, labels, all_used=False)
