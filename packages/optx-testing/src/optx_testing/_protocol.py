"""Promise 1: any object with `init` and `update`, which takes and ignores extra arguments."""

from __future__ import annotations

from typing import Any

import jax

from optx_testing._subject import BrokenPromiseError, Subject

PROMISE = 1


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise."""
    tx: Any = subject.tx
    for name in ("init", "update"):
        if not callable(getattr(tx, name, None)):
            raise BrokenPromiseError(PROMISE, f"{tx!r} has no {name} to call")
    if isinstance(tx, tuple) and tuple(tx) != (tx.init, tx.update):  # type: ignore[attr-defined]
        raise BrokenPromiseError(PROMISE, "as a tuple it must be (init, update)")
    grads = subject.gradients(subject.params)
    extra = subject.extra_args(subject.params, grads)

    def run(**unknown: Any) -> Any:
        state = tx.init(subject.params)
        return tx.update(grads, state, subject.params, **extra, **unknown)

    try:
        made = jax.eval_shape(lambda: run(argument_nobody_knows=1.0))
    except TypeError as error:
        raise BrokenPromiseError(
            PROMISE, f"update does not take unknown extra arguments ({error}); let it end in **_"
        ) from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise BrokenPromiseError(PROMISE, "update must return (updates, state)")
