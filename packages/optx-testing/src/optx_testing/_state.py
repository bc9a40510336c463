"""Promise 3: the state keeps its structure, shapes and dtypes, and owns its buffers."""

from __future__ import annotations

from typing import Any

import jax

from optx_testing._subject import (
    BrokenPromiseError,
    Subject,
    assert_same_types,
    is_key,
    leaves_with_paths,
    running,
)

PROMISE = 3


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise."""
    with running("init"):
        state = subject.tx.init(subject.params)
    owners: dict[int, str] = {}
    for path, p in leaves_with_paths(subject.params):
        owners[p.unsafe_buffer_pointer()] = f"params{path}"
    for path, x in leaves_with_paths(state):
        if not isinstance(x, jax.Array):
            raise BrokenPromiseError(PROMISE, f"state{path} is not an array but {x!r}")
        if is_key(x) or not x.size:
            continue
        pointer = x.unsafe_buffer_pointer()
        if pointer in owners:
            raise BrokenPromiseError(
                PROMISE, f"state{path} is the buffer of {owners[pointer]}: donation would fail"
            )
        owners[pointer] = f"state{path}"
    grads = subject.gradients(subject.params)

    def run(params: Any, state: Any) -> Any:
        return subject.update(grads, state, params)[1]

    with running("update under jax.eval_shape"):
        before = jax.eval_shape(subject.tx.init, subject.params)
        after = jax.eval_shape(run, subject.params, before)
    assert_same_types(PROMISE, "state", before, after)
    with running("update"):
        after = run(subject.params, state)
    assert_same_types(PROMISE, "state", state, after)
