"""The mean of Adam and its kin, corrected for its start at zero.

m̂ = m / (1 − b1ᵗ), or with Nesterov's momentum b1·m / (1 − b1ᵗ⁺¹) + (1 − b1)·g / (1 − b1ᵗ).

References: Kingma, Ba, "Adam", 2015, section 3; Dozat, "Incorporating Nesterov Momentum into Adam",
2016, algorithm 2.
"""

from __future__ import annotations

import jax

from optx_core.build import Decay, bias_correction


def corrected_mean(
    mu: jax.Array, g: jax.Array, b1: Decay, count: jax.Array, nesterov: bool
) -> jax.Array:
    """m̂ of the new mean `mu`, which has seen the gradient `g`."""
    if not nesterov:
        return mu / bias_correction(b1, count)
    ahead = b1.value * mu / bias_correction(b1, count + 1)
    return ahead + b1.complement * g / bias_correction(b1, count)
