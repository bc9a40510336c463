"""A value that carries an explicitly estimated gradient, of first order only.

attach(value, θ, g) returns the value; its derivative is dvalue + Σ g·dθ. The estimate g holds at θ only, and
its own derivative is unknown, so a second derivative raises an error.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from optx_estimators._errors import NoDerivativeError, SecondDerivativeError

Leaves = tuple[jax.Array, ...]


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def attach(where: str, value: jax.Array, theta: Any, cotangents: Any) -> jax.Array:
    """Returns the value, with the gradient `cotangents` with respect to `theta` added to its own.

    Args:
      where: the name of the method, for errors.
      value: a real scalar.
      theta: a tree of arrays.
      cotangents: a tree of the same structure and shapes. Treated as a constant.

    Returns:
      `value`. Its second derivative through `theta` raises `SecondDerivativeError`.
    """
    flat_theta = tuple(jax.tree_util.tree_leaves(theta))
    flat_g = tuple(lax.stop_gradient(g) for g in jax.tree_util.tree_leaves(cotangents))

    @jax.custom_jvp
    def sealed(g: Leaves, theta: Leaves) -> Leaves:
        del theta
        return g

    def refuse(primals: Any, tangents: Any) -> Any:
        if not all(map(_is_zero, tangents[1])):
            raise SecondDerivativeError(
                f"{where} estimates first derivatives only. For higher orders use "
                "score_function(), enumerate_support() or pathwise() with a smooth function"
            )
        return primals[0], tuple(jnp.zeros_like(g) for g in primals[0])

    sealed.defjvp(refuse, symbolic_zeros=True)

    @jax.custom_jvp
    def once(value: jax.Array, theta: Leaves, g: Leaves) -> jax.Array:
        del theta, g
        return value

    def rule(primals: Any, tangents: Any) -> Any:
        value, theta, g = primals
        value_dot, theta_dot, _ = tangents
        g = sealed(g, theta)
        out = jnp.zeros_like(value) if _is_zero(value_dot) else value_dot
        for one, dot in zip(g, theta_dot, strict=True):
            if not _is_zero(dot):
                out = out + jnp.sum(one * dot).astype(out.dtype)
        return value, out

    once.defjvp(rule, symbolic_zeros=True)
    return once(value, flat_theta, flat_g)


def undifferentiable(message: str, x: jax.Array) -> jax.Array:
    """Returns the array; differentiating it raises a `NoDerivativeError` with the message."""

    @jax.custom_jvp
    def wall(x: jax.Array) -> jax.Array:
        return x

    def refuse(primals: Any, tangents: Any) -> Any:
        if not _is_zero(tangents[0]):
            raise NoDerivativeError(message)
        return primals[0], jnp.zeros_like(primals[0])

    wall.defjvp(refuse, symbolic_zeros=True)
    return wall(x)
