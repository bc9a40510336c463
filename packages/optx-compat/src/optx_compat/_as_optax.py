"""Transformations for libraries that check for the classes of optax."""

from __future__ import annotations

from typing import Any

from optx_core import with_extra_args_support


def as_optax(tx: Any) -> Any:
    """Makes a transformation an instance of optax's class, with the same `init` and `update`.

    NumPyro's `SVI`, GPJax's `fit` and others test `isinstance(tx, optax.GradientTransformation)`. The way
    back needs no function: optx accepts any object with `init` and `update`, optax's too.

    Args:
      tx: a transformation of optx, or any object with `init` and `update`.

    Returns:
      An `optax.GradientTransformationExtraArgs` of the installed optax; two that were made of equal
      transformations are equal, with equal hashes.

    Raises:
      ImportError: if optax is not installed.
      TypeError: if `tx` has no callable `init` and `update`.

    Example:
      >>> from optx_compat import adam, as_optax
      >>> as_optax(adam(1e-3)) == as_optax(adam(1e-3))
      True
    """
    tx = with_extra_args_support(tx)
    try:
        import optax
    except ImportError as error:
        raise ImportError(
            "as_optax: optax is not installed; pip install 'optx-compat[optax]'"
        ) from error
    return optax.GradientTransformationExtraArgs(tx.init, tx.update)
