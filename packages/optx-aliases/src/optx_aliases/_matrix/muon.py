"""Muon: momentum, orthogonalized.

m, m̂, O as in `scale_by_muon`, the factors as in `scale_by_shape`:
p ← p − lr·(O·√max(1, columns/rows) + weight_decay·p)               (Jordan)
p ← p − lr·(O·consistent_rms·√max(columns, rows) + weight_decay·p)      (Moonshot)

Hidden matrices only; embeddings, heads and vectors are AdamW's.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
al., "Muon is Scalable for LLM Training", 2025, section 2.2 (Moonshot's factor, with 0.2).
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._elementwise.adam import adamw
from optx_aliases._matrix.matrices import broadcast_dims, flatten_with_path
from optx_aliases._matrix.muon_dimension_numbers import DimensionNumbers, is_dims
from optx_aliases._matrix.scale_by_muon import Orthogonalize, scale_by_muon
from optx_aliases._matrix.scale_by_shape import scale_by_shape
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PartitionState,
    PyTree,
    ScalarOrSchedule,
    Updates,
    add_decayed_weights,
    chain,
    masked,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import recorded, wrapping


@recorded
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: ScalarOrSchedule = 0.95,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
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
    adam_paths: Sequence[str] = ("*embed*", "head", "*_head", "logits"),
    orthogonalize: Orthogonalize | None = None,
    ns_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Muon for hidden matrices (Jordan et al., 2024), AdamW for all other leaves.

    Which leaves: those of two axes and more are Muon's, but for embeddings and heads. These are told
    by the names on their path (`adam_paths`); `muon_weight_dimension_numbers` decides instead, where
    it is given.

    Args:
      learning_rate: a scalar, or a schedule.
      ns_coeffs: the coefficients of the iteration, as for `newton_schulz`.
      ns_steps: the number of its steps.
      beta: decay of the momentum, in [0, 1), or a schedule.
      eps: added to denominators, Muon's and Adam's, or a schedule.
      weight_decay: λ of Muon's leaves, multiplied by the learning rate; a scalar, or a schedule.
      weight_decay_mask: which of them decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`, in both; by default the parameters', at least float32.
      nesterov: whether to use Nesterov's momentum, in both.
      adaptive: whether to multiply by the dual norm.
      preconditioning: "frobenius", "spectral", "aol" or "schatten", as for `newton_schulz`.
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
      orthogonalize: your own function in place of the iteration, as for `scale_by_muon`.
      ns_dtype: dtype of the iteration; by default that of the momentum.

    Returns:
      A transformation; its state is a `PartitionState` with the labels "muon" and "adam". `update`
      needs the parameters.

    Raises:
      ValueError: if a number is out of its range, or dimension numbers do not fit.

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
    dims = muon_weight_dimension_numbers

    def is_muon(params: Params) -> PyTree:
        return _hidden_matrices(params, dims, patterns)

    def is_adam(params: Params) -> PyTree:
        return jax.tree.map(lambda own: not own, is_muon(params), is_leaf=tree.is_placeholder)

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
        ),
        scale_by_shape(dims, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    # Not `partition`, which refuses a label without a leaf: all may be matrices, or none.
    both = chain(masked(matrices, is_muon), masked(others, is_adam))

    def init(params: Params) -> PartitionState:
        of_muon, of_adam = both.init(params)
        return PartitionState({"muon": of_muon, "adam": of_adam})

    def update(
        updates: Updates, state: PartitionState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, PartitionState]:
        states = (state.inner_states["muon"], state.inner_states["adam"])
        updates, (of_muon, of_adam) = both.update(updates, states, params, **extra_args)
        return updates, PartitionState({"muon": of_muon, "adam": of_adam})

    return wrapping(init, update)


def _hidden_matrices(params: Params, dims: Any, patterns: tuple[str, ...]) -> PyTree:
    """True where a leaf is Muon's."""
    pairs, structure = flatten_with_path(params)
    if dims is not None:
        given = broadcast_dims("muon", dims, params, is_dims)
        return structure.unflatten([dim is not None for dim in given])
    return structure.unflatten(
        [
            not tree.is_placeholder(x) and jnp.ndim(x) >= 2 and not _is_named(path, patterns)
            for path, x in pairs
        ]
    )


def _is_named(path: tuple[Any, ...], patterns: tuple[str, ...]) -> bool:
    """Whether a name on the path fits a pattern."""
    names = [getattr(key, "key", getattr(key, "name", "")) for key in path]
    return any(_fits(str(name), patterns) for name in names)


@functools.cache
def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    plain = re.sub(r"_?\d+$", "", name).lower()
    return any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)
