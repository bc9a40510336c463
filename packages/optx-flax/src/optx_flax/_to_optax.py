"""optx's transformations for libraries that check for optax's class."""

from __future__ import annotations

import importlib
from typing import Any

from optx_core import with_extra_args_support
from optx_core.build import check_transformation_like


def to_optax(tx: Any) -> Any:
    """Makes a transformation an `optax.GradientTransformationExtraArgs`.

    Optax calls `init` and `update` and checks no class, so its functions take optx's transformations as
    they are, and so does `nnx.Optimizer`. Libraries that test `isinstance(tx, optax.GradientTransformation)`
    need this function: `numpyro.infer.SVI`, `gpjax.fit`. It is `optax.GradientTransformationExtraArgs(*tx)`,
    whose two functions print, compare and pickle by the call of `tx`.

    Args:
      tx: the transformation.

    Returns:
      optax's class with the same `init` and `update`.

    Raises:
      TypeError: if `tx` is not a transformation.

    Example:
      >>> import optax
      >>> from optx_core import scale
      >>> from optx_flax import to_optax
      >>> isinstance(to_optax(scale(-0.1)), optax.GradientTransformation)
      True
    """
    check_transformation_like("to_optax", tx)
    optax = importlib.import_module("optax")  # flax depends on it, this package does not
    return optax.GradientTransformationExtraArgs(*with_extra_args_support(tx))
