"""QK-clip: query and key weights that are scaled down where a head's attention logits were too large.

With u the update so far, W the weights and S the largest logit of a head in this step's forward pass:

γ = min(1, tau / S),   u ← u + (γᵉ − 1)·(W + u)          so that W + u becomes γᵉ·(W + u)

e = 1/2 for queries and keys. In multi-head latent attention e = 1/2 for q^C and k^C, e = 1 for the rotary
q^R, e = 0 for the rotary k^R, which all heads share, and for values. A logit that is not finite, or not
greater than tau, leaves its head alone.

Reference: Kimi Team, "Kimi K2: Open Agentic Intelligence", 2025, algorithm 1 (MuonClip).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from optx_aliases._matrix.hidden_matrices import fits, names_of
from optx_aliases._matrix.matrices import flatten_with_path
from optx_core import OptState, Params, PyTree, ScalarOrSchedule, build, masked, tree

Exponents: TypeAlias = Mapping[str, float | Sequence[tuple[int, float]]]
QUERIES_AND_KEYS: Exponents = {"query": 0.5, "key": 0.5}


class _Head(NamedTuple):
    """The axis of the heads, and the exponents of their entries.

    Attributes:
      axis: the axis of the heads.
      fused: whether it also holds their entries.
      sizes: the numbers of entries with one exponent each; () for all entries.
      exponents: their exponents.
    """

    axis: int
    fused: bool
    sizes: tuple[int, ...]
    exponents: tuple[float, ...]


def _leaf(u: Array, factor: Array, p: Array) -> Array:
    return u + (factor - 1).astype(p.dtype) * (p + u)


def _checked(exponents: Any, head_axis: Any, fused: bool) -> dict[str, _Head]:
    """Returns the declared heads by pattern."""
    if not isinstance(exponents, Mapping) or not exponents:
        raise ValueError(
            'qk_clip: exponents must be a mapping from names to exponents, such as {"query": 0.5, "key": '
            f"0.5}}, not {exponents!r}"
        )
    if head_axis is not None and (not isinstance(head_axis, int) or isinstance(head_axis, bool)):
        raise TypeError(f"qk_clip: head_axis must be an int, not {head_axis!r}")
    axis = (-1 if fused else -2) if head_axis is None else head_axis
    heads = {}
    for name, given in exponents.items():
        sizes: tuple[Any, ...]
        powers: tuple[Any, ...]
        try:
            sizes, powers = (
                ((), (given,)) if isinstance(given, int | float) else zip(*given, strict=True)
            )
        except (TypeError, ValueError):
            sizes, powers = (0,), ()
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError(
                f"qk_clip: the exponents of {name!r} must be a number, or pairs of a number of entries and "
                f"an exponent, not {given!r}"
            )
        for power in powers:
            build.check_number("qk_clip", low=0, exponents=power)
        heads[name] = _Head(axis, fused, sizes, tuple(map(float, powers)))
    return heads


def _role(names: tuple[str, ...], patterns: Sequence[str]) -> tuple[int, str] | None:
    """Returns the place on a path of its last name that fits a pattern, and the pattern."""
    for place in reversed(range(len(names))):
        for pattern in patterns:
            if fits(names[place], (pattern,)):
                return place, pattern
    return None


def _attention_weights(patterns: tuple[str, ...], params: Params) -> PyTree:
    """Marks the leaves with a name that fits a pattern on their paths."""
    pairs, structure = flatten_with_path(params)
    return structure.unflatten([_role(names_of(path), patterns) is not None for path, _ in pairs])


def _factor(where: str, leaf: str, shape: tuple[int, ...], gamma: Array, head: _Head) -> Array:
    """Returns γᵉ, of a shape that broadcasts to that of the weights.

    Args:
      where: the name of the function, for errors.
      leaf: the name of the weights, for errors.
      shape: their shape.
      gamma: (*leading, heads).
      head: where the heads are.

    Raises:
      ValueError: if the shapes do not fit.
    """
    ndim, lead, count = len(shape), gamma.ndim - 1, gamma.shape[-1]
    axis = head.axis % max(ndim, 1)
    own = shape[axis] if -ndim <= head.axis < ndim else -1
    widths_fit = own % max(count, 1) == 0 if head.fused else own == count
    if own < 0 or not widths_fit or axis < lead or shape[:lead] != gamma.shape[:-1]:
        cure = (
            'With grouped queries, scale the queries alone: exponents={"query": 1.0, "key": 0.0}'
            if own > 0 and count % own == 0 and not head.fused
            else "head_axis= names the axis; fused=True says that it holds heads × width"
        )
        raise ValueError(
            f"{where}: max_logits of shape {gamma.shape} do not fit {leaf} of shape {shape} with the heads "
            f"on axis {head.axis}. {cure}"
        )
    powers: Any = np.asarray(head.exponents)
    last = own // max(count, 1) if head.fused else 1
    if head.sizes:
        width = last if head.fused else shape[axis + 1] if axis + 1 < ndim else 1
        if sum(head.sizes) != width:
            raise ValueError(
                f"{where}: the heads of {leaf} of shape {shape} have {width} entries, its exponents are for "
                f"{' + '.join(map(str, head.sizes))}"
            )
        powers = np.repeat(powers, head.sizes)
    power = jnp.asarray(powers.reshape((1,) * gamma.ndim + (-1,)), gamma.dtype)
    factors: Array = gamma[..., None] ** power
    new = [1] * ndim
    new[:lead] = shape[:lead]
    new[axis] = own
    if head.fused:
        factors = jnp.broadcast_to(factors, (*gamma.shape, last))
    elif head.sizes:
        new[axis + 1] = len(powers)
    return factors.reshape(new)


@build.factory
def _clipped(
    tau: build.Positive, exponents: Exponents, head_axis: int | None, *, fused: bool
) -> build.Transformation:
    """`qk_clip` for a tree of attention weights."""
    heads = _checked(exponents, head_axis, fused)

    def step(
        flow: build.Flow,
        state: OptState,
        params: Params = None,
        *,
        max_logits: PyTree = None,
        **_: Any,
    ) -> build.LeafStep:
        where = "qk_clip"
        build.need_params(where, params)
        if max_logits is None:
            raise ValueError(
                f"{where} needs the largest attention logits: call update(grads, state, params, "
                'max_logits={"attention": ...}), an array (heads,) for each attention, at its path'
            )
        limits = [
            (names_of(path), jax.tree_util.keystr(path), _gamma(x, tau))
            for path, x in flatten_with_path(max_logits)[0]
            if not tree.is_placeholder(x)
        ]
        pairs, structure = flatten_with_path(flow.skeleton)
        factors: list[Any] = [None] * len(pairs)
        used = set()
        for k, (path, u) in enumerate(pairs):
            at = names_of(path)
            role = _role(at, tuple(heads))
            if tree.is_absent(u):  # frozen layers have logits too
                used |= {x[0] for x in limits if x[0][: len(at)] == at}
            if role is None:
                continue
            above, leaf = at[: role[0]], f"params{jax.tree_util.keystr(path)}"
            own = [x for x in limits if above[: len(x[0])] == x[0]]
            if tree.is_absent(u):
                used |= {x[0] for x in own}
                continue
            if len(own) != 1:
                found = ", ".join(f"max_logits{name}" for _, name, _ in own) or "none"
                raise ValueError(
                    f"{where}: {leaf} needs one array of max_logits at a path above it, there is {found}. "
                    "Leave weights of other layers out with optx_core.masked"
                )
            used.add(own[0][0])
            if any(heads[role[1]].exponents):
                factors[k] = _factor(where, leaf, jnp.shape(u), own[0][2], heads[role[1]])
            else:
                factors[k] = np.ones(())
        for names, name, __ in limits:
            if names not in used:
                raise ValueError(
                    f"{where}: max_logits{name} has no weights named {' or '.join(map(repr, heads))} below "
                    "that path. For weights that two layers share, give the larger logits at one path"
                )
        return build.LeafStep(
            _leaf, reads=(structure.unflatten(factors), params), close=lambda: state
        )

    return build.leafwise(step)


def _gamma(logits: Any, tau: Any) -> Array:
    """min(1, tau / S), 1 where S is not finite; of at least one axis."""
    x = jnp.asarray(logits)
    x = jax.lax.stop_gradient(x.astype(build.common_real_dtype(x.dtype)))
    limit = jnp.asarray(tau, x.dtype)
    large = jnp.isfinite(x) & (x > limit)
    return jnp.atleast_1d(jnp.where(large, limit / jnp.where(large, x, 1), 1))


@build.recorded
def qk_clip(
    tau: ScalarOrSchedule = 100.0,
    exponents: Exponents = QUERIES_AND_KEYS,
    head_axis: int | None = None,
    *,
    fused: bool = False,
) -> build.Transformation:
    """Scales query and key weights down where attention logits exceed a limit; the last of a chain.

    `chain(muon(...), qk_clip())` is MuonClip. `update` needs the parameters, and the largest logit of each
    head in the forward pass of this step: `update(grads, state, params, max_logits=...)`, a tree with an
    array (heads,) at the path of each attention, such as `{"layer_0": {"attention": logits}}`, or one array
    for all. With layers stacked along leading axes it is (*layers, heads). Take the maximum over
    micro-batches and devices (`optx_flax.record_max_logits` records it in NNX).

    Args:
      tau: the limit, a scalar greater than 0, or a schedule.
      exponents: the powers of γ = min(1, tau / logit) that weights are multiplied by, by name: a pattern (as
        in file names) for the last name on a leaf's path that fits one, in lower case and without a number
        at its end. A number; or, for parts of a head, pairs of a number of entries and an exponent. Other
        leaves are left alone. Keys that several queries share take the exponent 0, their queries 1.
      head_axis: the axis of the heads, in kernels and biases alike; by default the last but one, as in Flax
        (or the last, if `fused`).
      fused: whether that axis holds the entries of the heads too, head by head.

    Returns:
      A transformation with a `MaskedState`. Where γ is 1, updates keep their bits.

    Raises:
      TypeError: if `head_axis` is not an int.
      ValueError: if an argument is out of its range; from `update`, if `max_logits` is missing, has no array
        or more than one above a leaf, or one that belongs to no leaf, or does not fit the weights.

    Example:
      Multi-head latent attention: q_b makes 128 entries of q^C and 64 of q^R for each head, kv_b 128 of k^C
      and 128 of the values.

      >>> import jax.numpy as jnp
      >>> from optx_aliases import muon, qk_clip
      >>> from optx_core import chain
      >>> parts = {"q_b": ((128, 0.5), (64, 1.0)), "kv_b": ((128, 0.5), (128, 0.0))}
      >>> tx = chain(muon(0.02), qk_clip(100.0, parts))

      One head of two is clipped:

      >>> tx = qk_clip(25.0)
      >>> params = {"attention": {"query": jnp.ones((1, 2, 1)), "key": jnp.ones((1, 2, 1))}}
      >>> logits = {"attention": jnp.array([100.0, 1.0])}
      >>> updates, _ = tx.update(params, tx.init(params), params, max_logits=logits)
      >>> (params["attention"]["query"] + updates["attention"]["query"]).ravel()
      Array([1., 2.], dtype=float32)
    """
    build.check_number("qk_clip", above=0, tau=tau)
    heads = _checked(exponents, head_axis, fused)
    weights = functools.partial(_attention_weights, tuple(heads))
    return masked(_clipped(tau, exponents, head_axis, fused=fused), weights)
