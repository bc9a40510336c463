"""Promise 5: accumulators of at least float32, updates in the wider dtype of gradient and parameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import build
from optx_testing._subject import (
    BrokenPromiseError,
    Subject,
    assert_finite,
    describe,
    leaves_with_paths,
    pairs_of,
    running,
)

PROMISE = 5


def check(subject: Subject, *, complex_params: bool = True, **_: Any) -> None:
    """Checks the promise."""
    call = build.call_of(subject.tx)
    kinds = {} if call is None else build.kinds_of(call.function)
    requested = call is not None and any(
        value is not None and kinds.get(name) == build.Kind("dtype")
        for name, value in call.arguments.items()
    )
    for dtype in (jnp.bfloat16, jnp.float16):
        params = jax.tree.map(lambda p, d=dtype: p.astype(d), subject.params)
        grads = subject.gradients(params)
        with running(f"init, for parameters of {jnp.dtype(dtype)}"):
            state = jax.eval_shape(subject.tx.init, params)
        for path, x in leaves_with_paths(state):
            narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
            if narrow and not requested:
                raise BrokenPromiseError(
                    PROMISE, f"state{path} is {describe(x)} for parameters of {jnp.dtype(dtype)}"
                )
        with running(f"update, for parameters and gradients of {jnp.dtype(dtype)}"):
            updates, _ = jax.eval_shape(subject.update, grads, state, params)
        _check_dtypes(updates, grads)
        if call is not None:  # other libraries, such as optax, may keep the gradient's dtype
            _check_low_precision_gradients(subject, dtype)
    if complex_params:
        params = jax.tree.map(lambda p: (1 + 0.5j) * p.astype(jnp.complex64), subject.params)
        with running("update, for complex parameters"):
            updates, state = jax.jit(subject.steps)(params)
        _check_dtypes(updates, subject.gradients(params))
        assert_finite(PROMISE, "updates of complex parameters", updates)
        pairs = zip(leaves_with_paths(state), build.leaf_kinds(state), strict=True)
        for (path, x), leaf in pairs:
            if getattr(leaf.kind, "nonnegative", False) and jnp.iscomplexobj(x):
                raise BrokenPromiseError(PROMISE, f"state{path}: a second moment must be real")


def _check_low_precision_gradients(subject: Subject, dtype: Any) -> None:
    grads = jax.tree.map(lambda g: g.astype(dtype), subject.gradients(subject.params))
    with running(f"update, for float32 parameters and gradients of {jnp.dtype(dtype)}"):
        state = jax.eval_shape(subject.tx.init, subject.params)
        updates, _ = jax.eval_shape(subject.update, grads, state, subject.params)
    _check_dtypes(updates, subject.params)


def _check_dtypes(updates: Any, wider: Any) -> None:
    """Checks the dtypes of updates against those of `wider`, the wider of gradients and parameters."""
    for path, u, x in pairs_of(PROMISE, "the tree of updates", updates, wider):
        if u.dtype != x.dtype:
            raise BrokenPromiseError(
                PROMISE,
                f"updates{path} is {u.dtype}, not {x.dtype}, the wider of gradient and parameter",
            )
