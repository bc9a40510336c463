"""Promise 5: accumulators of at least float32, updates in the gradient's dtype."""

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
)

PROMISE = 5


def check(subject: Subject, *, complex_params: bool = True, **_: Any) -> None:
    """Checks the promise."""
    call = build.call_of(subject.tx)
    kinds = {} if call is None else build.kinds_of(call.function)
    asked = call is not None and any(
        value is not None and kinds.get(name) == build.Kind("dtype")
        for name, value in call.arguments.items()
    )
    for dtype in (jnp.bfloat16, jnp.float16):
        params = jax.tree.map(lambda p, d=dtype: p.astype(d), subject.params)
        grads = subject.gradients(params)
        state = jax.eval_shape(subject.tx.init, params)
        for path, x in leaves_with_paths(state):
            narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
            if narrow and not asked:
                raise BrokenPromiseError(
                    PROMISE, f"state{path} is {describe(x)} for parameters of {jnp.dtype(dtype)}"
                )
        updates, _ = jax.eval_shape(subject.update, grads, state, params)
        _check_dtypes(updates, grads)
    if complex_params:
        params = jax.tree.map(lambda p: (1 + 0.5j) * p.astype(jnp.complex64), subject.params)
        updates, state = jax.jit(subject.steps)(params)
        _check_dtypes(updates, subject.gradients(params))
        assert_finite(PROMISE, "updates of complex parameters", updates)
        pairs = zip(leaves_with_paths(state), build.leaf_kinds(state), strict=True)
        for (path, x), leaf in pairs:
            if getattr(leaf.kind, "nonnegative", False) and jnp.iscomplexobj(x):
                raise BrokenPromiseError(PROMISE, f"state{path}: a second moment is real")


def _check_dtypes(updates: Any, grads: Any) -> None:
    pairs = zip(leaves_with_paths(updates), leaves_with_paths(grads), strict=True)
    for (path, u), (_, g) in pairs:
        if u.dtype != g.dtype:
            raise BrokenPromiseError(
                PROMISE, f"updates{path} is {u.dtype} where the gradient is {g.dtype}"
            )
