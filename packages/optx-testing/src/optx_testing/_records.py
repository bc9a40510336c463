"""Promise 2: printing, equality, hashing and pickling by the recorded call."""

from __future__ import annotations

import pickle
from typing import Any

from optx_core.build import call_of
from optx_testing._subject import BrokenPromiseError, Subject, running, summary

PROMISE = 2


def check(subject: Subject, **_: Any) -> None:
    """Checks the promise, if the transformation is recorded."""
    tx = subject.tx
    call = call_of(tx)
    if call is None:
        return
    with running("repr"):
        shown = repr(tx)
    if not shown.startswith(f"{call.name}("):
        raise BrokenPromiseError(PROMISE, f"it prints as {shown}, not as {call.name}(...)")
    with running(f"a second call of {call.name}, compared and hashed"):
        again = call.replace()
        equal = again == tx and hash(again) == hash(tx)
    if not equal:
        raise BrokenPromiseError(
            PROMISE, f"two calls {tx!r} are not equal, or have different hashes"
        )
    if again.update is tx.update and again.init is not tx.init:
        raise BrokenPromiseError(PROMISE, "equal calls must return equal pairs")
    try:
        loaded = pickle.loads(pickle.dumps(tx))  # noqa: S301 (trusted bytes)
    except Exception as error:
        if "lambda" in str(error) or "<locals>" in str(error):
            return  # a user's own lambda among the arguments
        raise BrokenPromiseError(PROMISE, f"it cannot be pickled: {summary(error)}") from error
    with running(f"{call.name}, pickled and compared"):
        same = loaded == tx
    if not same:
        raise BrokenPromiseError(PROMISE, f"unpickled it is {loaded!r}, not {tx!r}")
