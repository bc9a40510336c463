"""Dtypes of computations and accumulators."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def dtype_of(x: Any) -> Any:
    """Returns the dtype that an array or a Python number has in JAX.

    Args:
      x: an array or a number.

    Returns:
      A dtype.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None or isinstance(x, np.ndarray | np.generic):
        return jax.dtypes.canonicalize_dtype(np.result_type(x))
    return dtype


def is_inexact(x: Any) -> bool:
    """Returns whether an array has a floating-point or complex dtype, and thus can have a gradient.

    Args:
      x: an array or a number.

    Returns:
      A bool.
    """
    return bool(jnp.issubdtype(dtype_of(x), jnp.inexact))


def at_least_float32(dtype: Any) -> Any:
    """Returns float32 for narrower floating-point dtypes, any other dtype unchanged.

    Args:
      dtype: any dtype.

    Returns:
      The dtype to compute or accumulate in.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import at_least_float32
      >>> at_least_float32(jnp.bfloat16), at_least_float32(jnp.int32)
      (dtype('float32'), dtype('int32'))
    """
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        return jnp.dtype(jnp.float32)
    return dtype


def is_dtype(value: object) -> bool:
    """Returns whether a value is a dtype or a scalar type such as `jnp.float32`.

    Other classes with an attribute `dtype` are not: a distribution's, say, is a property.
    """
    if isinstance(value, type):
        return issubclass(value, np.generic) or isinstance(getattr(value, "dtype", None), np.dtype)
    return isinstance(value, np.dtype)


def real_dtype(dtype: Any) -> Any:
    """Returns the dtype of the real part.

    Args:
      dtype: any dtype.

    Returns:
      The real counterpart of a complex dtype; any other dtype unchanged.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import real_dtype
      >>> real_dtype(jnp.complex64)
      dtype('float32')
    """
    dtype = jnp.dtype(dtype)
    return jnp.finfo(dtype).dtype if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def complex_dtype(dtype: Any) -> Any:
    """Returns the narrowest complex dtype whose real part has at least this dtype."""
    return jnp.dtype(jnp.complex128 if real_dtype(dtype).itemsize > 4 else jnp.complex64)


def common_real_dtype(*dtypes: Any) -> Any:
    """Returns the real dtype to compute in: float64 if one of the dtypes is that wide, else float32.

    Args:
      *dtypes: dtypes of the operands; integers and booleans are ignored.

    Returns:
      float32 or float64.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import common_real_dtype
      >>> common_real_dtype(jnp.bfloat16, jnp.int32)
      dtype('float32')
    """
    wide = any(
        jnp.issubdtype(dtype, jnp.inexact) and real_dtype(dtype).itemsize > 4 for dtype in dtypes
    )
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def cast_to_compute(x: Any, real: Any) -> Any:
    """Casts a floating-point array to a real dtype, a complex one to its complex counterpart.

    Args:
      x: an array; integer arrays are returned unchanged.
      real: float32 or float64.

    Returns:
      The array.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x.astype(complex_dtype(real))
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(real)
    return x


def cast_to_wider(g: Any, p: Any) -> Any:
    """Casts a gradient to the precision of its parameter, if that is higher.

    Args:
      g: a floating-point or complex array.
      p: the parameter; an integer array has no effect.

    Returns:
      The gradient, real or complex as before.
    """
    dtype, wider = dtype_of(g), dtype_of(p)
    if dtype == wider or not is_inexact(p):
        return g
    own, real = real_dtype(dtype), real_dtype(wider)
    if jnp.finfo(own).bits >= jnp.finfo(real).bits:
        return g
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.asarray(g).astype(complex_dtype(real) if is_complex else real)


def abs_squared(x: jax.Array) -> jax.Array:
    """Returns |x|² elementwise; the result is real for complex x.

    Args:
      x: an array.

    Returns:
      A real array of the same shape.
    """
    if jnp.iscomplexobj(x):
        return x.real * x.real + x.imag * x.imag
    return x * x


def check_dtype(where: str, name: str, dtype: Any) -> None:
    """Raises an error if a dtype cannot store a moment.

    Args:
      where: the function to name.
      name: the argument to name.
      dtype: a dtype, or None.

    Raises:
      TypeError: if it is neither floating-point nor complex.

    Example:
      >>> from optx_core.build import check_dtype
      >>> check_dtype("my_optimizer", "mu_dtype", "int8")
      Traceback (most recent call last):
      ...
      TypeError: my_optimizer: mu_dtype must be a floating-point dtype, not int8
    """
    if dtype is None:
        return
    try:
        kind = jnp.dtype(dtype)
    except (TypeError, ValueError):
        kind = None
    if kind is None or not jnp.issubdtype(kind, jnp.inexact):
        raise TypeError(
            f"{where}: {name} must be a floating-point dtype, not {kind or repr(dtype)}"
        )
