"""Promise 7: numbers may be arrays, traced, batched; a schedule where a number is taken."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import build
from optx_testing._subject import BrokenPromiseError, Subject, assert_close

PROMISE = 7


def check(subject: Subject, *, static: tuple[str, ...] = (), **_: Any) -> None:
    """Checks the promise, where the transformation is recorded."""
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
    try:
        made = jax.jit(jax.vmap(run))(batch)
    except (jax.errors.JAXTypeError, TypeError) as error:
        raise BrokenPromiseError(
            PROMISE, f"{call.name} does not take traced values for {', '.join(numbers)}: {error}"
        ) from error
    for row in range(2):
        rows = jax.tree.map(lambda x, k=row: x[k], made)
        assert_close(PROMISE, "with traced hyper-parameters: updates", rows, expected)
    kinds = build.kinds_of(call.function)
    scheduled = {
        name: (lambda count, v=value: jnp.full_like(count, v, float))
        for name, value in numbers.items()
        if getattr(kinds.get(name), "schedule", False)
    }
    if not scheduled:
        return

    def with_schedules(params: Any) -> Any:
        return subject.steps(params, tx=call.replace(**scheduled))[0]

    what = f"with a schedule for {', '.join(scheduled)}: updates"
    assert_close(PROMISE, what, jax.jit(with_schedules)(subject.params), expected)
