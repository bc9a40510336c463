"""Promise 1: any object whose `init` and `update` run; `update` ignores extra arguments."""

from __future__ import annotations

from typing import Any

import jax

from optx_testing._subject import BrokenPromiseError, CrashError, Subject, running, summary

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
    extra = subject.needed(subject.params, grads)

    def run(**unknown: Any) -> Any:
        made: list[Any] = []

        def traced() -> None:  # what it returns need not be arrays: promise 3 looks at that
            with running("init"):
                state = tx.init(subject.params)
            with running("update"):
                made.append(tx.update(grads, state, subject.params, **extra, **unknown))

        jax.eval_shape(traced)
        return made[0]

    try:
        made = run(argument_nobody_knows=1.0)
    except CrashError as crash:
        run()  # if it fails without the argument too, that is not the reason
        error = crash.__cause__ or crash
        raise BrokenPromiseError(
            PROMISE,
            f"update does not take unknown extra arguments ({summary(error)}); let it end in **_",
        ) from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise BrokenPromiseError(PROMISE, "update must return (updates, state)")
