"""Promise 7: numbers may be arrays, traced, batched or replaced by schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import build
from optx_testing._subject import CrashError, Subject, assert_close, running

PROMISE = 7


def check(subject: Subject, *, static: tuple[str, ...] = (), **_: Any) -> None:
    """Checks the promise, if the transformation is recorded."""
    call = build.call_of(subject.tx)
    if call is None:
        return
    numbers = {
        name: value
        for name, value in call.arguments.items()
        if isinstance(value, float) and name not in static
    }
    if not numbers:
        return
    expected, _ = subject.steps(subject.params)

    def run(values: dict[str, jax.Array]) -> Any:
        return subject.steps(subject.params, tx=call.replace(**values))[0]

    batch = {name: jnp.asarray([value, value], jnp.float32) for name, value in numbers.items()}
    results = _call_with(f"{call.name} with a traced value for", jax.jit(jax.vmap(run)), batch)
    for row in range(2):
        rows = jax.tree.map(lambda x, k=row: x[k], results)
        assert_close(PROMISE, "with traced hyper-parameters: updates", rows, expected)
    kinds = build.kinds_of(call.function)
    scheduled = {
        name: (lambda count, v=value: jnp.full_like(count, v, float))
        for name, value in numbers.items()
        if getattr(kinds.get(name), "schedule", False)
    }
    if not scheduled:
        return

    def with_schedules(schedules: dict[str, Any]) -> Any:
        return jax.jit(lambda p: subject.steps(p, tx=call.replace(**schedules))[0])(subject.params)

    result = _call_with(f"{call.name} with a schedule for", with_schedules, scheduled)
    what = f"with a schedule for {', '.join(scheduled)}: updates"
    assert_close(PROMISE, what, result, expected)


def _call_with(what: str, run: Callable[[dict[str, Any]], Any], arguments: dict[str, Any]) -> Any:
    """Returns `run(arguments)`; if it fails, the error names the arguments that fail individually."""
    try:
        with running(f"{what} {', '.join(arguments)}"):
            return run(arguments)
    except CrashError:
        for name, value in arguments.items():
            with running(f"{what} {name}"):
                run({name: value})
        raise
