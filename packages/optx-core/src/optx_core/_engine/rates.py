"""Decay rates, for equations written as in the papers.

b·m + (1 − b)·g and m / (1 − bᵗ) lose digits when b is rounded first: float32(0.999) is off by 1.3e-5 of
1 − 0.999. A `DecayRate` stores 1 − b, rounded once from double precision, and computes 1 − bᵗ from it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecayRate:
    """A decay rate b in equations: `b * x`, `1 - b`, `1 - b**t` and `x / b`.

    Attributes:
      value: b.
      complement: 1 − b.
    """

    value: Any
    complement: Any

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    __rmul__ = __mul__

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.value

    def __sub__(self, other: Any) -> Any:
        return self.value - (other.value if isinstance(other, DecayRate) else other)

    def __rsub__(self, other: Any) -> Any:
        return self.complement if _is_one(other) else other - self.value

    def __pow__(self, exponent: Any) -> _Power:
        return _Power(self, exponent)

    def __jax_array__(self) -> jax.Array:
        return jnp.asarray(self.value)

    def astype(self, dtype: Any) -> DecayRate:
        """Casts the rate to arrays of a dtype, for use outside of leaf equations."""
        return DecayRate(
            jnp.asarray(self.value).astype(dtype), jnp.asarray(self.complement).astype(dtype)
        )


class _Power:
    """bᵗ: `1 - b**t` is accurate, `x * b**t` is x − x·(1 − bᵗ) without a second rounding of b."""

    def __init__(self, rate: DecayRate, exponent: Any) -> None:
        self.rate = rate
        self.exponent = exponent

    def __rsub__(self, other: Any) -> Any:
        complement = jnp.asarray(self.rate.complement)
        exponent = jnp.asarray(self.exponent).astype(complement.dtype)
        from_one = -jnp.expm1(exponent * jnp.log1p(-complement))
        return from_one if _is_one(other) else other - (1 - from_one)

    def __mul__(self, other: Any) -> Any:
        return (1 - (1 - self)) * other

    __rmul__ = __mul__


def rate_of(value: Any) -> DecayRate:
    """Wraps a decay rate b as an operand of equations.

    Args:
      value: b, a Python float or an array; usually in [0, 1).

    Returns:
      A `DecayRate`, which supports `1 - b` and `1 - b**t` in equations.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import rate_of
      >>> b, t = rate_of(jnp.float32(0.5)), jnp.int32(2)
      >>> float(1 - b), float(1 - b**t)
      (0.5, 0.75)
    """
    return value if isinstance(value, DecayRate) else DecayRate(value, 1.0 - value)


def _is_one(x: Any) -> bool:
    return isinstance(x, int | float) and x == 1
