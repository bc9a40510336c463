"""The one function of the kit."""

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

    1. Any object with `init` and `update` that runs on `params`; takes, and ignores, extra arguments.
    2. Printed, equal, hashed and pickled by the call that made it (where it was recorded).
    3. The state's structure, shapes and dtypes never change; it holds arrays only, none of them a
       parameter's own buffer or one another's.
    4. 0-d, empty, None, masked and integer leaves, which make nothing NaN; None gradients; mismatches
       are refused by path.
    5. Accumulators of at least float32; updates in the wider dtype of gradient and parameter; complex
       moments are right.
    6. Zero gradients give finite updates.
    7. Numbers may be arrays or traced, under vmap too, and then they are not baked in.
    8. The same numbers under jit, vmap, scan and shard_map, in double precision, under strict
       promotion, on Auto and Explicit meshes; grad through update; donation.

    Args:
      tx: a transformation, optx's or your own.
      params: parameters to try it on, a dict of float32 arrays; by default a matrix, a vector and a
        scalar. On a mesh of n devices, axes of a size divisible by n are sharded.
      extra_args: `extra_args(params, updates)` returns the keyword arguments that its update needs.
      promises: the numbers of the promises to check.
      differentiable: whether one can differentiate through its update in reverse mode.
      complex_params: whether it is meant for complex parameters.
      static: names of numeric arguments that are part of the program and cannot be traced.

    Raises:
      BrokenPromiseError: at the first promise that does not hold; says which, and on which leaf. An error
        that the transformation raises is its `__cause__`.
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
    """Says of an error of the transformation's own which promise it breaks, and on which leaf."""
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
