"""The backtracking line search as a transformation: u ← η·u, η made smaller until the loss decreases.

η₀ = min(increase_factor·η_last, max_learning_rate),   η ← decrease_factor·η   until

f(p + η·u) ≤ f(p) + rtol·|f(p)| + η·slope_rtol·⟨∇f(p), u⟩ + atol        (Armijo)

A loss that is not finite is not accepted, so that the search steps back from it.

References: Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives",
1966; Nocedal, Wright, "Numerical Optimization", 2006, algorithm 3.1; Vaswani et al., "Painless Stochastic
Gradient", 2019, algorithm 1 and its appendix on the first step size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._line_search.line import Line, need_loss, scalar, scaled
from optx_aliases._transforms.whole_tree import real_dtype_of
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    Updates,
    tree,
)
from optx_core.build import check_number, recorded, schedulable, wrapping, zero_count


class BacktrackingLinesearchInfo(NamedTuple):
    """What the last search of `scale_by_backtracking_linesearch` was like.

    Attributes:
      num_linesearch_steps: int32 scalar, the number of trials; each evaluated the loss once.
      decrease_error: scalar, by how much the last trial missed the criterion; 0 where it held.
    """

    num_linesearch_steps: jax.Array
    decrease_error: jax.Array


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """State of `scale_by_backtracking_linesearch`.

    Attributes:
      learning_rate: scalar, the last step η; 0 where no trial was finite.
      value: scalar, the loss after that step; inf before the first.
      grad: with `store_grad` its gradient there, a tree of the parameters' structure, at least float32;
        None otherwise.
      info: a `BacktrackingLinesearchInfo`.
    """

    learning_rate: jax.Array
    value: jax.Array
    grad: PyTree
    info: BacktrackingLinesearchInfo


class _Trial(NamedTuple):
    step: jax.Array
    value: jax.Array
    grad: PyTree
    decrease_error: jax.Array
    number: jax.Array


@recorded
@schedulable(
    "slope_rtol", "decrease_factor", "increase_factor", "max_learning_rate", "atol", "rtol"
)
def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: ScalarOrSchedule = 1e-4,
    decrease_factor: ScalarOrSchedule = 0.8,
    increase_factor: ScalarOrSchedule = 1.5,
    max_learning_rate: ScalarOrSchedule = 1.0,
    atol: ScalarOrSchedule = 0.0,
    rtol: ScalarOrSchedule = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Scales the updates by a step that decreases the loss enough (Armijo).

    When the trials are used up the last one is taken if its loss is finite; otherwise the updates are zero.
    The updates must descend: chain it behind `sgd(1.0)`, say. `update` takes, besides the parameters,

    - `value`: the loss at the parameters,
    - `grad`: its gradient there, as `jax.grad` gives it,
    - `value_fn`: the loss, a function of the parameters and of those extra arguments that it names.

    Args:
      max_backtracking_steps: how often the step is made smaller at most, at least 0; one more trial.
      slope_rtol: the share of the decrease promised by the slope that is asked for, in (0, 1).
      decrease_factor: by what the step shrinks, in (0, 1).
      increase_factor: what the last step is multiplied by for the first trial, at least 1; inf to start
        from `max_learning_rate` each time.
      max_learning_rate: the longest step, above 0, or a schedule.
      atol: by how much the loss may miss the criterion, at least 0.
      rtol: the same relative to the loss, at least 0.
      store_grad: whether each trial evaluates the gradient too, and that of the last one is kept for
        `value_and_grad_from_state`.
      verbose: whether to print what happened when a search fails.

    Returns:
      A transformation with a `ScaleByBacktrackingLinesearchState`.

    Raises:
      ValueError: if a number is out of its range, and from `update` if an argument is missing.

    Reference: Nocedal, Wright, "Numerical Optimization", 2006, algorithm 3.1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import scale_by_backtracking_linesearch, sgd
      >>> from optx_core import apply_updates, chain
      >>> def loss(p, x):
      ...     return jnp.sum((p - x) ** 4)
      >>> tx, p, x = chain(sgd(1.0), scale_by_backtracking_linesearch(15)), jnp.zeros(1), 2.0
      >>> value, grad = jax.value_and_grad(loss)(p, x)
      >>> u, _ = tx.update(grad, tx.init(p), p, value=value, grad=grad, value_fn=loss, x=x)
      >>> bool(loss(apply_updates(p, u), x) < value)
      True
    """
    where = "scale_by_backtracking_linesearch"
    check_number(where, low=0, max_backtracking_steps=max_backtracking_steps)
    check_number(where, above=0, below=1, slope_rtol=slope_rtol, decrease_factor=decrease_factor)
    check_number(where, low=1, increase_factor=increase_factor)
    check_number(where, above=0, max_learning_rate=max_learning_rate)
    check_number(where, low=0, atol=atol, rtol=rtol)

    def init(params: Params) -> ScaleByBacktrackingLinesearchState:
        real = real_dtype_of(params)
        return ScaleByBacktrackingLinesearchState(
            jnp.ones((), real),
            jnp.full((), jnp.inf, real),
            tree.slots_like(params) if store_grad else None,
            BacktrackingLinesearchInfo(zero_count(), jnp.full((), jnp.inf, real)),
        )

    def update(
        updates: Updates,
        state: ScaleByBacktrackingLinesearchState,
        params: Params = None,
        *,
        value: Scalar | None = None,
        grad: Updates = None,
        value_fn: Callable[..., Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByBacktrackingLinesearchState]:
        need_loss(where, params, value=value, grad=grad, value_fn=value_fn)
        assert value_fn is not None  # noqa: S101 (need_loss has seen to it)
        real = state.value.dtype
        line = Line(where, params, updates, value_fn, extra_args, real)
        numbers = (slope_rtol, decrease_factor, increase_factor, max_learning_rate, atol, rtol)
        c, shrink, grow, longest, absolute, relative = (
            jnp.asarray(x).astype(real) for x in numbers
        )
        start, slope = scalar(where, value, real), line.slope(grad)
        limit = start + relative * jnp.abs(start) + absolute

        def attempt(step: jax.Array, number: jax.Array) -> _Trial:
            if store_grad:
                there, tilt, new_grad = line.value_slope_grad(step)
                there = jnp.where(jnp.isfinite(tilt), there, jnp.inf)
                kept = line.keep(new_grad, state.grad)
            else:
                there, kept = line.value(step), None
            error = jnp.maximum(there - (limit + step * c * slope), 0)
            error = jnp.where(jnp.isfinite(there) & jnp.isfinite(error), error, jnp.inf)
            return _Trial(step, there, kept, error, number + 1)

        def unfinished(trial: _Trial) -> jax.Array:
            missed = (trial.decrease_error > 0) & (trial.number <= max_backtracking_steps)
            return missed | (trial.number == 0)

        def body(trial: _Trial) -> _Trial:
            step = jnp.where(trial.number == 0, trial.step, shrink * trial.step)
            return attempt(step, trial.number)

        # Where nothing was finite last time, and the step was 0, the search begins anew.
        longer = jnp.where(state.learning_rate > 0, grow * state.learning_rate, longest)
        first = _Trial(
            jnp.minimum(longer, longest),
            start,
            line.keep(grad, state.grad) if store_grad else None,
            jnp.full((), jnp.inf, real),
            zero_count(),
        )
        last = lax.while_loop(unfinished, body, first)
        finite = jnp.isfinite(last.decrease_error)
        step = jnp.where(finite, last.step, 0)
        info = BacktrackingLinesearchInfo(last.number, last.decrease_error)
        if verbose:
            _report(where, step, info, slope)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), last.grad, first.grad)
        new_state = ScaleByBacktrackingLinesearchState(
            step, jnp.where(finite, last.value, start), kept, info
        )
        return scaled(step, updates), new_state

    return wrapping(init, update)


def _report(
    where: str, step: jax.Array, info: BacktrackingLinesearchInfo, slope: jax.Array
) -> None:
    """Prints what a search came to, where it failed."""
    lax.cond(
        info.decrease_error > 0,
        lambda: jax.debug.print(
            where
            + ": no sufficient decrease after {n} trials: slope {slope}, missed by {d}; the step "
            "taken is {step}",
            n=info.num_linesearch_steps,
            slope=slope,
            d=info.decrease_error,
            step=step,
        ),
        lambda: None,
    )
