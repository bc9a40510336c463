"""Promise 1: `init` and `update` run; `update` ignores unknown extra arguments."""

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
            raise BrokenPromiseError(PROMISE, f"{tx!r} has no callable {name}")
    if isinstance(tx, tuple) and tuple(tx) != (tx.init, tx.update):  # type: ignore[attr-defined]
        raise BrokenPromiseError(PROMISE, "as a tuple it must be (init, update)")
    grads = subject.gradients(subject.params)
    extra = subject.needed(subject.params, grads)

    def run(**unknown: Any) -> Any:
        results: list[Any] = []

        def traced() -> None:  # the results need not be arrays: promise 3 checks that
            with running("init"):
                state = tx.init(subject.params)
            with running("update"):
                results.append(tx.update(grads, state, subject.params, **extra, **unknown))

        jax.eval_shape(traced)
        return results[0]

    try:
        result = run(argument_nobody_knows=1.0)
    except CrashError as crash:
        run()  # if it also fails without the argument, the argument is not the cause
        error = crash.__cause__ or crash
        raise BrokenPromiseError(
            PROMISE,
            f"update does not accept unknown extra arguments ({summary(error)}); add **_ to its parameters",
        ) from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise BrokenPromiseError(PROMISE, "update must return (updates, state)")
