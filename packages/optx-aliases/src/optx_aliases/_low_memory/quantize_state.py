"""Moments in 8 bits: an optimizer's state at a quarter of its size.

`blocks` has the encoding; this file decides which arrays of a state are encoded.

Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._low_memory.blocks import DTYPES, decode, encode
from optx_core import OptState, Params, Updates, build, safe_increment, with_extra_args_support


class QuantizeState(NamedTuple):
    """State of `quantize_state`.

    Attributes:
      inner_state: the inner transformation's state, 8-bit codes of the same shapes in place of its
        large arrays: uint8 for those without negative entries, int8 for the others.
      scales: the scales of their blocks, in the order in which they stand in that state.
      count: int32 scalar, the number of updates so far; the roundings are drawn from it.
    """

    inner_state: build.InnerState
    scales: tuple[jax.Array, ...]
    count: build.Count


@build.recorded
def quantize_state(
    inner: Any, min_size: int = 4096, fields: Mapping[str, str | None] | None = None
) -> build.Transformation:
    """Keeps the moments of an optimizer in 8 bits, with a float32 scale for each block of 256.

    About 1.02 bytes for each entry of a moment, so 2.03 for each parameter of AdamW instead of 8. At
    each step the moments are widened, the optimizer runs on them in float32, and the new ones are
    narrowed; the updates come from the new ones before they are narrowed.

    Which arrays: those of the state that are real, of floating point, of a parameter's shape and of
    at least `min_size` entries; the rest stays as it is. How each is kept follows from the
    declaration of its field: second moments (`build.SecondMoment`) as "root16", averages of signed values
    (`build.Moment`) as "root4"; copies of parameters and exact slots stay as they are.

    The 8 bits of an array have its shape and are laid out over devices as it is. Blocks run over
    its last axes, and the scales are split as the array is wherever a mesh axis divides their number.

    Args:
      inner: any transformation that keeps moments.
      min_size: the least number of entries of an array worth the trouble.
      fields: how fields of the state are kept, by name: "root16" (no negative entries), "root4",
        "linear" or None (as they are). A name may have the names around it in front and behind:
        "slow/mu", "mu/dense/kernel". Needed for states that declare nothing, such as optax's; elsewhere it
        overrides the declarations.

    Returns:
      A transformation with a `QuantizeState`.

    Raises:
      ValueError: from `init`, if a field is neither declared nor in `fields`, if negative entries
        would be kept as "root16", or if the inner state is quantized already.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import adamw, quantize_state
      >>> params = {"w": jnp.zeros((256, 256)), "b": jnp.zeros(256)}
      >>> state = quantize_state(adamw(1e-3)).init(params)
      >>> round(sum(x.nbytes for x in jax.tree.leaves(state)) / (256 * 257), 2)
      2.05
    """
    build.check_transformation_like("quantize_state", inner)
    inner = with_extra_args_support(inner)
    if not isinstance(min_size, int) or min_size < 1:
        raise ValueError(f"quantize_state: min_size must be a positive int, not {min_size!r}")
    rules = dict(fields or {})
    for name, kind in rules.items():
        if kind is not None and kind not in DTYPES:
            raise ValueError(
                f"quantize_state: fields[{name!r}] must be one of "
                f"{', '.join(map(repr, DTYPES))} or None, not {kind!r}"
            )

    def init(params: Params) -> QuantizeState:
        shapes = {jnp.shape(p) for p in jax.tree.leaves(params)}
        count, scales = build.zero_count(), []
        state = inner.init(params)
        _refuse_quantized(state)
        new, structure = build.tree_flatten(state)
        for place, (leaf, x) in enumerate(zip(build.leaf_kinds(state), new, strict=True)):
            large = x.size >= min_size and x.shape in shapes
            if not large or not jnp.issubdtype(x.dtype, jnp.floating):
                continue
            encoding = _encoding(leaf, x, rules)
            if encoding is not None:
                _check_sign(leaf, x, encoding)
                new[place], scale = encode(x, encoding, count)
                scales.append(scale)
        return QuantizeState(structure.unflatten(new), tuple(scales), count)

    def update(
        updates: Updates, state: QuantizeState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, QuantizeState]:
        count = safe_increment(state.count)
        leaves, structure = build.tree_flatten(state.inner_state)
        codes = {
            place: encoding
            for place, (leaf, x) in enumerate(
                zip(build.leaf_kinds(state.inner_state), leaves, strict=True)
            )
            if x.dtype in (jnp.uint8, jnp.int8)
            and (encoding := _encoding(leaf, x, rules)) is not None
        }
        scales = dict(zip(codes, state.scales, strict=True))
        wide = [
            decode(x, scales[place], codes[place]) if place in codes else x
            for place, x in enumerate(leaves)
        ]
        updates, after = inner.update(updates, structure.unflatten(wide), params, **extra_args)
        new = structure.flatten_up_to(after)
        for place, encoding in codes.items():
            new[place], scales[place] = encode(new[place], encoding, count)
        return updates, QuantizeState(structure.unflatten(new), tuple(scales.values()), count)

    return build.wrapping(init, update)


def _encoding(leaf: build.LeafKind, x: Any, rules: Mapping[str, str | None]) -> str | None:
    """Returns the encoding of an array: by the user's rules, else by its field's declaration."""
    rule = _longest_rule(leaf, rules)
    if rule is not None:
        return rules[rule]
    if isinstance(leaf.kind, build.Slot):
        if leaf.kind.exact or leaf.kind.constant or leaf.kind.fill == "params":
            return None
        return "root16" if leaf.kind.nonnegative else "root4"
    raise ValueError(
        f"quantize_state: state{leaf.path} of shape {x.shape} belongs to a field that declares nothing, so "
        "it is not known whether it holds negative entries. Say how to keep it: fields={"
        f"{leaf.names[leaf.field]!r}: 'root16'}} if it has no negative entries, 'root4' otherwise, "
        "None to leave it as it is"
    )


def _longest_rule(leaf: build.LeafKind, rules: Mapping[str, Any]) -> str | None:
    """The rule that fits the longest run of names around the leaf's field."""
    fitting = [
        (len(names), start, rule)
        for rule in rules
        for names in [tuple(rule.split("/"))]
        for start in range(max(leaf.field - len(names) + 1, 0), leaf.field + 1)
        if leaf.names[start : start + len(names)] == names
    ]
    return max(fitting)[-1] if fitting else None


def _check_sign(leaf: build.LeafKind, x: Any, encoding: str) -> None:
    if encoding == "root16" and not isinstance(x, jax.core.Tracer) and bool(jnp.any(x < 0)):
        raise ValueError(
            f"quantize_state: state{leaf.path} has negative entries, and 'root16' keeps none: "
            f"fields={{{leaf.names[leaf.field]!r}: 'root4'}}"
        )


def _refuse_quantized(state: OptState) -> None:
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, QuantizeState))
    if any(isinstance(node, QuantizeState) for node in nodes):
        raise ValueError("quantize_state: the inner transformation's state is quantized already")
