"""Promise 4: leaves of every kind, and mismatches refused by path."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import MaskedNode, apply_updates
from optx_testing._subject import (
    BrokenPromiseError,
    Subject,
    assert_close,
    leaves_with_paths,
    structure_of,
)

PROMISE = 4
_ODD = 7  # the size of the integer leaf, which nothing else has


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise."""
    params = {
        **subject.params,
        "zero_dim": jnp.asarray(0.5, jnp.float32),
        "empty": jnp.zeros((0, 3), jnp.float32),
        "none": None,
        "masked": MaskedNode(),
        "steps": jnp.arange(_ODD, dtype=jnp.int32),
    }
    grads = subject.gradients(params)
    state = subject.tx.init(params)
    for path, x in leaves_with_paths(state):
        if _ODD in x.shape:
            raise BrokenPromiseError(PROMISE, f"state{path} is kept for an integer parameter")
    updates, _after = subject.update(grads, state, params)
    if structure_of(updates) != structure_of(grads):
        raise BrokenPromiseError(PROMISE, "the updates do not have the gradients' structure")
    for (path, u), (_path, g) in zip(
        leaves_with_paths(updates), leaves_with_paths(grads), strict=True
    ):
        if u.shape != g.shape:
            raise BrokenPromiseError(PROMISE, f"updates{path} is {u.shape}, not {g.shape}")
    moved = apply_updates(params, updates)
    if moved["none"] is not None or not bool(jnp.all(moved["steps"] == params["steps"])):
        raise BrokenPromiseError(PROMISE, "a None or integer parameter was touched")
    _check_float0(subject, params, grads, state)
    _check_missing_gradient(subject)
    _check_refusals(subject)


def _check_float0(subject: Subject, params: Any, grads: Any, state: Any) -> None:
    float0 = np.zeros(_ODD, jax.dtypes.float0)
    updates, _ = subject.update({**grads, "steps": float0}, state, params)
    if getattr(updates["steps"], "dtype", None) not in (None, jax.dtypes.float0):
        raise BrokenPromiseError(PROMISE, "updates['steps']: a float0 gradient is not passed on")


def _check_missing_gradient(subject: Subject) -> None:
    params = {**subject.params, "absent": jnp.ones((3, 2), jnp.float32)}
    state = subject.tx.init(params)
    grads = {**subject.gradients(params), "absent": None}
    updates, after = subject.update(grads, state, params)
    if updates["absent"] is not None:
        raise BrokenPromiseError(PROMISE, "updates['absent']: a None gradient must stay None")
    before = {path: x for path, x in leaves_with_paths(state) if "['absent']" in path}
    kept = {path: x for path, x in leaves_with_paths(after) if "['absent']" in path}
    assert_close(PROMISE, "the state of a parameter without gradient", kept, before, rtol=0.0)


def _check_refusals(subject: Subject) -> None:
    params = {**subject.params, "odd": jnp.ones((3, 1), jnp.float32)}
    good = subject.gradients(params)
    state = subject.tx.init(params)
    cases = {
        "a gradient of shape (1, 3) for a parameter of shape (3, 1)": (
            params,
            {**good, "odd": jnp.ones((1, 3), jnp.float32)},
            "odd",
        ),
        "gradients of another structure": (
            params,
            {**subject.gradients(subject.params), "other": jnp.ones((3, 1), jnp.float32)},
            "other",
        ),
        "a real gradient for an integer parameter": (
            {**params, "odd": jnp.ones((3, 1), jnp.int32)},
            {**good, "odd": jnp.ones((3, 1), jnp.int32)},
            "odd",
        ),
    }
    for what, (case_params, grads, name) in cases.items():
        case_state = state if case_params is params else subject.tx.init(case_params)
        try:
            subject.update(grads, case_state, case_params)
        except (TypeError, ValueError, KeyError) as error:
            if name not in str(error):
                raise BrokenPromiseError(
                    PROMISE, f"{what} is refused, but the error does not name the path: {error}"
                ) from error
        else:
            raise BrokenPromiseError(PROMISE, f"{what} is not refused")
