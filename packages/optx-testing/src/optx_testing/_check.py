"""`check_transformation`, the public function of the kit."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_testing import (
    _dtypes,
    _hyperparameters,
    _leaves,
    _protocol,
    _records,
    _state,
    _transforms,
    _values,
)
from optx_testing._subject import BrokenPromiseError, CrashError, Subject, summary

_PROMISES: dict[int, Callable[..., None]] = {
    1: _protocol.check,
    2: _records.check,
    3: _state.check,
    4: _leaves.check,
    5: _dtypes.check,
    6: _values.check,
    7: _hyperparameters.check,
    8: _transforms.check,
}

_NOT_TRACEABLE = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)


def check_transformation(
    tx: Any,
    params: PyTree = None,
    *,
    extra_args: Callable[[PyTree, PyTree], dict[str, Any]] | None = None,
    promises: Iterable[int] = tuple(_PROMISES),
    differentiable: bool = True,
    complex_params: bool = True,
    static: Iterable[str] = (),
) -> None:
    """Asserts that a transformation keeps the promises of the protocol.

    1. It is an object with `init` and `update` that runs on `params`, and accepts and ignores unknown extra
       arguments.
    2. It prints, compares, hashes and pickles by the call that created it (if it was recorded).
    3. The state's structure, shapes and dtypes never change; it contains only arrays, which share no
       buffers with the parameters or each other.
    4. It supports 0-d, empty, None, masked and integer leaves, without NaN, and None gradients; errors for
       mismatches name the path.
    5. Accumulators have at least float32, and updates the wider dtype of gradient and parameter; second
       moments of complex parameters are real.
    6. Zero gradients produce finite updates.
    7. Numbers may be arrays or traced, also under `vmap`, and are then not compiled in as constants.
    8. The results are the same under `jit`, `vmap`, `scan` and `shard_map`, in double precision, under strict
       promotion, and on Auto and Explicit meshes; `update` is differentiable, and supports donation.

    Args:
      tx: a transformation, of optx or your own.
      params: parameters for the tests, a dict of float32 arrays; by default a matrix, a vector and a
        scalar. On a mesh of n devices, axes of a size divisible by n are sharded.
      extra_args: `extra_args(params, updates)` returns the keyword arguments that `update` needs.
      promises: the numbers of the promises to check.
      differentiable: whether `update` is differentiable in reverse mode.
      complex_params: whether complex parameters are supported.
      static: names of numeric arguments that are constants of the program and cannot be traced.

    Raises:
      BrokenPromiseError: at the first promise that is broken; names the promise and the leaf. An error
        raised by the transformation is its `__cause__`.
      TypeError: if `extra_args` fails.

    Example:
      >>> from optx_core import clip_by_global_norm
      >>> from optx_testing import check_transformation
      >>> check_transformation(clip_by_global_norm(1.0), promises=[1, 2, 3, 4, 5, 6])
    """
    if params is None:
        params = {
            "kernel": jnp.linspace(-1.0, 1.0, 32, dtype=jnp.float32).reshape(8, 4),
            "bias": jnp.linspace(0.5, 1.0, 8, dtype=jnp.float32),
            "scale": jnp.asarray(0.75, jnp.float32),
        }
    subject = Subject(tx, params, extra_args or (lambda params, updates: {}))
    options = {
        "differentiable": differentiable,
        "complex_params": complex_params,
        "static": tuple(static),
    }
    promises = tuple(promises)
    for promise in promises:
        with _promotion(strict=8 in promises):
            try:
                _PROMISES[promise](subject, **options)
            except CrashError as crash:
                raise _blamed(crash, promise, promises, subject, options) from crash.__cause__


def _promotion(*, strict: bool) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("strict" if strict else "standard"))
    stack.enter_context(jax.numpy_rank_promotion("raise" if strict else "allow"))
    return stack


def _blamed(
    crash: CrashError,
    promise: int,
    promises: tuple[int, ...],
    subject: Subject,
    options: dict[str, Any],
) -> BrokenPromiseError:
    """Determines the promise that an error of the transformation breaks, and the leaf."""
    error = crash.__cause__ or crash

    def crashes(subject: Subject, *, strict: bool) -> bool:
        try:
            with _promotion(strict=strict):
                _PROMISES[promise](subject, **options)
        except CrashError:
            return True
        except BrokenPromiseError:
            return False
        return False

    strict = 8 in promises
    what = crash.what
    blamed = promise
    if strict and not crashes(subject, strict=False):
        what, blamed = f"{what}, under strict promotion of dtypes and ranks", 8
    else:
        if strict and promise != 7 and isinstance(error, _NOT_TRACEABLE):
            what, blamed = f"{what}, traced", 8
        strict = False
    leaves = crash.leaves
    if not leaves and isinstance(subject.params, dict) and len(subject.params) > 1:
        failing = [
            f"params[{name!r}]"
            for name, p in subject.params.items()
            if crashes(dataclasses.replace(subject, params={name: p}), strict=strict)
        ]
        leaves = ", ".join(failing) if len(failing) < len(subject.params) else ""
    where = f", on {leaves}" if leaves else ""
    return BrokenPromiseError(blamed, f"{what}{where}: {summary(error)}")
