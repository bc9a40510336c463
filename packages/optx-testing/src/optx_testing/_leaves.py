"""Promise 4: leaves of every kind, and errors for mismatches that name the path."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import MaskedNode, apply_updates, tree
from optx_testing._subject import (
    BrokenPromiseError,
    CrashError,
    ExtraArgsError,
    Subject,
    assert_close,
    assert_finite,
    describe,
    leaves_with_paths,
    pairs_of,
    running,
    summary,
)

PROMISE = 4
_ODD = 7  # the size of the integer leaf, unique among all leaves


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise."""
    leaves = {
        "zero_dim": jnp.asarray(0.5, jnp.float32),
        "empty": jnp.zeros((0, 3), jnp.float32),
        "none": None,
        "masked": MaskedNode(),
        "steps": jnp.arange(_ODD, dtype=jnp.int32),
    }
    try:
        _check_kinds(subject, leaves)
    except CrashError:
        _check_kinds(subject, {})
        for name, leaf in leaves.items():
            try:
                _check_kinds(subject, {name: leaf})
            except CrashError as crash:
                shown = leaf if tree.is_placeholder(leaf) else describe(leaf)
                leaf_shown = f"params[{name!r}], which is {shown}"
                raise CrashError(crash.what, leaf_shown) from crash.__cause__
        raise
    _check_missing_gradient(subject)
    _check_rejections(subject)


def _check_kinds(subject: Subject, leaves: dict[str, Any]) -> None:
    params = {**subject.params, **leaves}
    grads = subject.gradients(params)
    with running("init"):
        state = subject.tx.init(params)
    for path, x in leaves_with_paths(state):
        if _ODD in np.shape(x):
            raise BrokenPromiseError(PROMISE, f"state{path} is state of an integer parameter")
    after = state
    for _step in range(2):
        with running("update"):
            updates, after = subject.update(grads, after, params)
        for path, u, g in pairs_of(PROMISE, "the tree of updates", updates, grads):
            if u.shape != g.shape:
                raise BrokenPromiseError(PROMISE, f"updates{path} is {u.shape}, not {g.shape}")
        where = f"with {' and '.join(leaves)}"
        assert_finite(PROMISE, f"{where}: updates", updates)
        assert_finite(PROMISE, f"{where}: state", after, infinite=True)
    with running("apply_updates"):
        new = apply_updates(params, updates)
    unchanged = "steps" not in leaves or bool(jnp.all(new["steps"] == params["steps"]))
    if new.get("none") is not None or not unchanged:
        raise BrokenPromiseError(PROMISE, "a None or integer parameter was changed")
    if "steps" in leaves:
        _check_float0(subject, params, grads, state)


def _check_float0(subject: Subject, params: Any, grads: Any, state: Any) -> None:
    float0 = np.zeros(_ODD, jax.dtypes.float0)
    with running("update with a float0 gradient"):
        updates, _ = subject.update({**grads, "steps": float0}, state, params)
    if getattr(updates["steps"], "dtype", None) not in (None, jax.dtypes.float0):
        raise BrokenPromiseError(PROMISE, "updates['steps']: a float0 gradient is not passed on")


def _check_missing_gradient(subject: Subject) -> None:
    params = {**subject.params, "absent": jnp.ones((3, 2), jnp.float32)}
    grads = {**subject.gradients(params), "absent": None}
    try:
        with running("update with a None gradient"):
            state = subject.tx.init(params)
            updates, after = subject.update(grads, state, params)
    except CrashError as crash:
        raise CrashError(
            crash.what, "params['absent'], whose gradient is None"
        ) from crash.__cause__
    if updates["absent"] is not None:
        raise BrokenPromiseError(PROMISE, "updates['absent']: a None gradient must stay None")
    before = {path: x for path, x in leaves_with_paths(state) if "['absent']" in path}
    kept = {path: x for path, x in leaves_with_paths(after) if "['absent']" in path}
    assert_close(PROMISE, "the state of a parameter without gradient", kept, before, rtol=0.0)


def _check_rejections(subject: Subject) -> None:
    params = {**subject.params, "odd": jnp.ones((3, 1), jnp.float32)}
    valid = subject.gradients(params)
    with running("init"):
        state = subject.tx.init(params)
    cases = {
        "a gradient of shape (1, 3) for a parameter of shape (3, 1)": (
            params,
            {**valid, "odd": jnp.ones((1, 3), jnp.float32)},
            "odd",
        ),
        "gradients of another structure": (
            params,
            {**subject.gradients(subject.params), "other": jnp.ones((3, 1), jnp.float32)},
            "other",
        ),
        "a real gradient for an integer parameter": (
            {**params, "odd": jnp.ones((3, 1), jnp.int32)},
            {**valid, "odd": jnp.ones((3, 1), jnp.int32)},
            "odd",
        ),
    }
    for what, (case_params, grads, name) in cases.items():
        with running("init"):
            case_state = state if case_params is params else subject.tx.init(case_params)
        try:
            subject.update(grads, case_state, case_params)
        except ExtraArgsError:
            raise
        except Exception as error:
            if name not in str(error):
                raise BrokenPromiseError(
                    PROMISE,
                    f"{what} is rejected, but the error does not name the path: {summary(error)}",
                ) from error
        else:
            raise BrokenPromiseError(PROMISE, f"{what} is not rejected")
