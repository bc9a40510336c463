"""Muon: momentum, orthogonalized.

m, m̂, O as in `scale_by_muon`, the factors as in `scale_by_shape`:
p ← p − lr·(O·√max(1, columns/rows) + weight_decay·p)               (Jordan)
p ← p − lr·(O·consistent_rms·√max(columns, rows) + weight_decay·p)      (Moonshot)

Hidden matrices only; embeddings, heads and vectors are AdamW's.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
al., "Muon is Scalable for LLM Training", 2025, section 2.2 (Moonshot's factor, with 0.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optx_aliases._matrix.adam_for_others import adam_for_others
from optx_aliases._matrix.dimension_numbers import DimensionNumbers, numbered
from optx_aliases._matrix.hidden_matrices import NAMES_OF_OTHERS, hidden_matrices
from optx_aliases._matrix.owners import OwnerAxes
from optx_aliases._matrix.scale_by_muon import Orthogonalize, scale_by_muon
from optx_aliases._matrix.scale_by_shape import scale_by_shape
from optx_aliases._matrix.second_moment import SecondMoment
from optx_core import (
    Params,
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
)


@build.recorded
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: build.Mask = None,
    mu_dtype: build.DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: ScalarOrSchedule = 0.9,
    adam_b2: ScalarOrSchedule = 0.999,
    adam_eps_root: ScalarOrSchedule = 0.0,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: DimensionNumbers | None = None,
    consistent_rms: ScalarOrSchedule | None = None,
    adam_paths: Sequence[str] = NAMES_OF_OTHERS,
    orthogonalize: Orthogonalize | None = None,
    ns_dtype: build.DType = None,
    owner_axes: OwnerAxes = None,
    second_moment: SecondMoment = None,
    second_moment_beta: ScalarOrSchedule = 0.95,
) -> build.Transformation:
    """Muon for hidden matrices (Jordan et al., 2024), AdamW for all other leaves.

    Leaves of two axes and more are Muon's, except embeddings, heads, biases and scales, which are recognized
    by the names on their path (`adam_paths`). Of three axes they are stacks of matrices, but for the kernels
    of Flax's attention, (features, heads, head_dim) and (heads, head_dim, features), which are one matrix
    each. Where `muon_weight_dimension_numbers` is given, it decides instead.

    Args:
      learning_rate: a scalar, or a schedule.
      ns_coeffs, ns_steps, beta, mu_dtype, adaptive, preconditioning: as for `scale_by_muon`.
      orthogonalize, ns_dtype, owner_axes, second_moment, second_moment_beta: as for `scale_by_muon`.
      eps: added to denominators, Muon's and Adam's, or a schedule.
      weight_decay: λ of Muon's leaves, multiplied by the learning rate; a scalar, or a schedule.
      weight_decay_mask: which of them decay, as for `optx_core.masked`; all by default.
      nesterov: whether to use Nesterov's momentum, in both.
      adam_b1: Adam's decay of the mean, or a schedule.
      adam_b2: Adam's decay of the mean square, or a schedule.
      adam_eps_root: added under Adam's root, or a schedule.
      adam_weight_decay: Adam's weight decay, or a schedule.
      adam_learning_rate: Adam's learning rate, or a schedule; the same as Muon's by default.
      muon_weight_dimension_numbers: a tree of `MuonDimensionNumbers`, None where a leaf is Adam's, or
        a prefix of one, or a function from the parameters to that.
      consistent_rms: the scaling by shape, as for `scale_by_shape`; 0.2 is Moonshot's.
      adam_paths: patterns (as in file names) for the names on a leaf's path, in lower case and without
        a number at their end ("Embed_0" is "embed"); a leaf with such a name is Adam's. Empty: none.

    Returns:
      A transformation; its state is a `PartitionState` with the labels "muon" and "adam". `update`
      needs the parameters.

    Raises:
      ValueError: if a number is out of its range, or dimension numbers do not fit; from `update`, if it is
        unclear whether a leaf of four axes and more is a convolution's kernel or a stack of matrices.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import muon
      >>> params = {"embedding": jnp.ones((8, 4)), "kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}
      >>> state = muon(0.02, consistent_rms=0.2, weight_decay=0.1).init(params)
      >>> sorted(state.inner_states["adam"].inner_state[0].mu)
      ['bias', 'embedding', 'kernel']
      >>> state.inner_states["adam"].inner_state[0].mu["kernel"]
      MaskedNode()
    """
    patterns = (adam_paths,) if isinstance(adam_paths, str) else tuple(adam_paths)
    dims, adam_lr = muon_weight_dimension_numbers, adam_learning_rate
    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
            weight_dimension_numbers=dims,
            orthogonalize=orthogonalize,
            ns_dtype=ns_dtype,
            owner_axes=owner_axes,
            second_moment=second_moment,
            second_moment_beta=second_moment_beta,
        ),
        scale_by_shape(dims, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )

    def is_own(params: Params) -> PyTree:
        return hidden_matrices(params, patterns) if dims is None else numbered("muon", dims, params)

    return adam_for_others(
        "muon",
        matrices,
        is_own,
        learning_rate=learning_rate if adam_lr is None else adam_lr,
        b1=adam_b1,
        b2=adam_b2,
        eps=eps,
        eps_root=adam_eps_root,
        weight_decay=adam_weight_decay,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
    )
