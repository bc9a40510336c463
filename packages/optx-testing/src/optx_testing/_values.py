"""Promise 6: zero gradients produce finite updates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_testing._subject import Subject, assert_finite, running

PROMISE = 6


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise."""
    params = subject.params
    zeros = jax.tree.map(jnp.zeros_like, params)

    def run(params: Any) -> Any:
        state = subject.tx.init(params)
        results = []
        for grads in (zeros, zeros, subject.gradients(params)):
            updates, state = subject.update(grads, state, params)
            results.append((updates, state))
        return results

    with running("update, for zero gradients"):
        results = jax.jit(run)(params)
    for what, (updates, state) in zip(
        ("after a zero gradient", "after two zero gradients", "after zero gradients, then another"),
        results,
        strict=True,
    ):
        assert_finite(PROMISE, f"{what}: updates", updates)
        assert_finite(PROMISE, f"{what}: state", state)
