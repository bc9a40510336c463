"""Moments in 8 bits: an optimizer's state at a quarter of its size.

The encoding is in `_blocks`; here is which arrays of a state are kept so.

Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._low_memory.blocks import DTYPES, decode, encode
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Updates,
    safe_increment,
    with_extra_args_support,
)
from optx_core.build import check_transformation_like, recorded, wrapping, zero_count


class QuantizeState(NamedTuple):
    """State of `quantize_state`.

    Attributes:
      inner_state: the inner transformation's state, 8-bit codes of the same shapes in place of its
        large arrays: uint8 for those without negative entries, int8 for the others.
      scales: the scales of their blocks, in the order in which they stand in that state.
      count: int32 scalar, the number of updates so far; the roundings are drawn from it.
    """

    inner_state: OptState
    scales: tuple[jax.Array, ...]
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


# How the fields of known states are kept; those with None as they are.
_SECOND = ("nu", "nu_max", "sum_of_squares", "e_g", "e_x", "v", "n", "exp_avg_sq")
_FIRST = (
    "mu",
    "trace",
    "ema",
    "m",
    "m1",
    "m2",
    "mu_hat",
    "momentum",
    "exp_avg",
    "m_slow",
    "m_fast",
)
_KEPT = ("master", "params", "slow", "z", "x0", "init_params", "prev_updates", "step_sizes")
FIELDS: dict[str, str | None] = {
    **dict.fromkeys(_SECOND, "root4"),
    **dict.fromkeys(_FIRST, "root2"),
    **dict.fromkeys(_KEPT, None),
}


@recorded
def quantize_state(
    inner: Any, min_size: int = 4096, fields: Mapping[str, str | None] | None = None
) -> GradientTransformationExtraArgs:
    """Keeps the moments of an optimizer in 8 bits, with a float32 scale for each block of 256.

    About 1.02 bytes for each entry of a moment, so 2.03 for each parameter of AdamW instead of 8. At
    each step the moments are widened, the optimizer runs on them in float32, and the new ones are
    narrowed; the updates come from the new ones before they are narrowed.

    Which arrays: those of the state that are real, of floating point, of a parameter's shape and of
    at least `min_size` entries; the rest stays as it is. How each is kept follows from the name of
    its field in the state: second moments ("nu", ...) as "root4", averages of signed values ("mu",
    "trace", ...) as "root2"; copies of parameters stay as they are.

    The 8 bits of an array have its shape and are laid out over devices as it is. Blocks run over
    its last axes, and the scales are split as the array is wherever a mesh axis divides their number.

    Args:
      inner: any transformation that keeps moments.
      min_size: the least number of entries of an array worth the trouble.
      fields: how the fields of the state are kept by name: "root4" (no negative entries), "root2",
        "linear" or None (as they are). A name may have the names around it in front, up to the leaf:
        "mu/dense/kernel". Adds to, and overrides, what is known.

    Returns:
      A transformation with a `QuantizeState`.

    Raises:
      ValueError: from `init`, if it is not known how an array is to be kept, or negative entries
        would be kept as "root4".

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import adamw, quantize_state
      >>> params = {"w": jnp.zeros((256, 256)), "b": jnp.zeros(256)}
      >>> state = quantize_state(adamw(1e-3)).init(params)
      >>> round(sum(x.nbytes for x in jax.tree.leaves(state)) / (256 * 257), 2)
      2.05
    """
    check_transformation_like("quantize_state", inner)
    inner = with_extra_args_support(inner)
    if not isinstance(min_size, int) or min_size < 1:
        raise ValueError(f"quantize_state: min_size must be a positive int, not {min_size!r}")
    rules = {**FIELDS, **(fields or {})}
    for name, kind in rules.items():
        if kind is not None and kind not in DTYPES:
            raise ValueError(
                f"quantize_state: fields[{name!r}] must be one of "
                f"{', '.join(map(repr, DTYPES))} or None, not {kind!r}"
            )

    def init(params: Params) -> QuantizeState:
        shapes = {jnp.shape(p) for p in jax.tree.leaves(params)}
        count, scales = zero_count(), []

        def leaf(path: tuple[Any, ...], x: Any) -> Any:
            large = x.size >= min_size and x.shape in shapes
            if not large or not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            kind = _kind_of(path, x, rules)
            if kind is None:
                return x
            _check_sign(path, x, kind)
            codes, scale = encode(x, kind, count)
            scales.append(scale)
            return codes

        inner_state = jax.tree_util.tree_map_with_path(leaf, inner.init(params))
        return QuantizeState(inner_state, tuple(scales), count)

    def update(
        updates: Updates, state: QuantizeState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, QuantizeState]:
        count = safe_increment(state.count)
        pairs: list[Any] = jax.tree_util.tree_flatten_with_path(state.inner_state)[0]
        structure: Any = jax.tree_util.tree_structure(state.inner_state)
        codes = {
            place: kind
            for place, (path, x) in enumerate(pairs)
            if x.dtype in (jnp.uint8, jnp.int8) and (kind := _kind_of(path, x, rules)) is not None
        }
        scales = dict(zip(codes, state.scales, strict=True))
        wide = [
            decode(x, scales[place], codes[place]) if place in codes else x
            for place, (_, x) in enumerate(pairs)
        ]
        updates, after = inner.update(updates, structure.unflatten(wide), params, **extra_args)
        new = structure.flatten_up_to(after)
        for place, kind in codes.items():
            new[place], scales[place] = encode(new[place], kind, count)
        return updates, QuantizeState(structure.unflatten(new), tuple(scales.values()), count)

    return wrapping(init, update)


def _kind_of(path: tuple[Any, ...], x: Any, rules: Mapping[str, Any]) -> str | None:
    """How an array of the state is kept, by the names on its path."""
    names = [
        str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", "")))) for key in path
    ]
    # The longest rule that fits a run of names wins; among equals the innermost.
    fitting = [
        (rule.count("/"), -end, rule)
        for rule in rules
        for end in range(len(names))
        if (width := rule.count("/") + 1) <= end + 1
        and "/".join(names[end + 1 - width : end + 1]) == rule
    ]
    asked = [rules[rule] for _, _, rule in sorted(fitting, reverse=True)]
    if not asked:
        raise ValueError(
            f"quantize_state: state{jax.tree_util.keystr(path)} of shape {x.shape}: it is not known "
            "whether this field holds a second moment. Say how to keep it: fields={"
            f"{_field_of(path)!r}: 'root4'}} if it has no negative entries, 'root2' otherwise, None "
            "to leave it as it is"
        )
    return asked[0]


def _field_of(path: tuple[Any, ...]) -> str:
    """The innermost field of a NamedTuple on a path."""
    return next((key.name for key in reversed(path) if hasattr(key, "name")), "")


def _check_sign(path: tuple[Any, ...], x: Any, kind: str) -> None:
    if kind == "root4" and not isinstance(x, jax.core.Tracer) and bool(jnp.any(x < 0)):
        raise ValueError(
            f"quantize_state: state{jax.tree_util.keystr(path)} has negative entries, and 'root4' "
            f"keeps none: fields={{{_field_of(path)!r}: 'root2'}}"
        )
