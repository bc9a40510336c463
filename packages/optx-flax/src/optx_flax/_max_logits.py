"""The largest attention logits of a forward pass, for QK-clip.

S = max over batch, queries and keys of q·kᵀ / √d, for each head, where the mask admits the pair.

Reference: Kimi Team, "Kimi K2: Open Agentic Intelligence", 2025, section 2.1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flax import nnx
from optx_core.build import at_least_float32
from optx_flax._paths import is_model, nested


class MaxLogits(nnx.Variable[Array]):
    """The largest logits of an attention since they were last taken: (heads,), or (*layers, heads)."""


class _Recording(nnx.Module):
    """An attention function that records its largest logits."""

    def __init__(self, attention_fn: Any, shape: tuple[int, ...]) -> None:
        self.attention_fn = attention_fn
        self.max_logits = MaxLogits(jnp.full(shape, -jnp.inf))

    def __call__(self, query: Array, key: Array, *args: Any, **kwargs: Any) -> Array:
        mask, is_causal = kwargs.get("mask"), kwargs.get("is_causal", False)
        new = largest_logits(query, key, mask, is_causal=is_causal)
        self.max_logits[...] = jnp.maximum(self.max_logits[...], new)
        result: Array = self.attention_fn(query, key, *args, **kwargs)
        return result


def largest_logits(
    query: Array, key: Array, mask: Array | None = None, *, is_causal: bool = False
) -> Array:
    """Computes the largest attention logit of each head, for an attention of your own.

    Args:
      query: (*batch, queries, heads, width).
      key: (*batch, keys, heads, width); fewer heads, which divide those of the queries, are shared.
      mask: bools that broadcast to (*batch, heads, queries, keys), True where the pair counts.
      is_causal: whether only keys up to the place of the query count.

    Returns:
      An array (heads,) of at least float32, without derivatives; −inf for a head without a pair.

    Raises:
      ValueError: if the heads do not divide.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_flax import largest_logits
      >>> largest_logits(jnp.ones((8, 2, 4)), jnp.ones((8, 2, 4)))
      Array([2., 2.], dtype=float32)
    """
    heads, shared = query.shape[-2], key.shape[-2]
    if shared == 0 or heads % shared:
        raise ValueError(f"largest_logits: {heads} heads of queries for {shared} heads of keys")
    dtype = at_least_float32(query.dtype)
    q, k = (jax.lax.stop_gradient(x).astype(dtype) for x in (query, key))
    k = jnp.repeat(k, heads // shared, axis=-2)
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(jnp.broadcast_to(mask, logits.shape), logits, -jnp.inf)
    if is_causal:
        allowed = jnp.tril(jnp.ones(logits.shape[-2:], bool))
        logits = jnp.where(jnp.broadcast_to(allowed, logits.shape), logits, -jnp.inf)
    others = tuple(axis for axis in range(logits.ndim) if axis != logits.ndim - 3)
    return jnp.max(logits, others, initial=-jnp.inf)


def record_max_logits(model: nnx.Module) -> None:
    """Makes each `nnx.MultiHeadAttention` of a model record its largest logits, in place.

    Its `attention_fn` becomes a module that holds a `MaxLogits` and calls the old one. Do it once, before the
    optimizer and compiled steps are made; layers stacked by `nnx.vmap` for `nnx.scan` may be among them. A
    forward pass computes the logits a second time, unless XLA finds that they are the same.

    Args:
      model: the model.

    Raises:
      TypeError: if `model` is not a module.
      ValueError: if it has no `nnx.MultiHeadAttention`, or records already.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_flax import record_max_logits, take_max_logits
      >>> model = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
      >>> record_max_logits(model)
      >>> _ = model(jnp.zeros((1, 3, 4)))
      >>> take_max_logits(model)
      Array([0., 0.], dtype=float32)
    """
    _check("record_max_logits", model)
    found = [x for _, x in nnx.iter_modules(model) if isinstance(x, nnx.MultiHeadAttention)]
    if not found:
        raise ValueError(
            "record_max_logits: the model has no nnx.MultiHeadAttention. In an attention of your own, keep "
            "optx_flax.largest_logits(query, key, mask) in an optx_flax.MaxLogits"
        )
    if any(isinstance(attention.attention_fn, _Recording) for attention in found):
        raise ValueError("record_max_logits: the model records its largest logits already")
    for attention in found:
        layers = attention.query.kernel.shape[:-3]
        recording = _Recording(attention.attention_fn, (*layers, attention.num_heads))
        attention.attention_fn = nnx.data(recording)


def take_max_logits(model: nnx.Module) -> Any:
    """Returns the largest logits since the last call, and starts anew.

    Args:
      model: a model with `MaxLogits`, as from `record_max_logits`.

    Returns:
      Nested dicts with an array for each attention at its path, for `optimizer.update(model, grads,
      max_logits=take_max_logits(model))` with `optx_aliases.qk_clip`. Without a forward pass since the last
      call, −inf, which clips nothing.

    Raises:
      TypeError: if `model` is not a module.
      ValueError: if it records nothing.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_flax import record_max_logits, take_max_logits
      >>> attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
      >>> model = nnx.Dict(attention=attention)
      >>> record_max_logits(model)
      >>> _ = model["attention"](jnp.zeros((1, 3, 4)))
      >>> take_max_logits(model), take_max_logits(model)
      ({'attention': Array([0., 0.], dtype=float32)}, {'attention': Array([-inf, -inf], dtype=float32)})
    """
    _check("take_max_logits", model)
    taken = []
    for path, x in nnx.iter_graph(model):
        if isinstance(x, MaxLogits):
            above = path[:-2] if path[-2:-1] == ("attention_fn",) else path[:-1]
            taken.append((above, x[...]))
            x[...] = jnp.full_like(x[...], -jnp.inf)
    if not taken:
        raise ValueError(
            "take_max_logits: the model records nothing; call record_max_logits(model)"
        )
    return nested(taken)


def _check(where: str, model: Any) -> None:
    if not is_model(model):
        raise TypeError(f"{where}: the argument must be an nnx.Module, not {type(model).__name__}")
