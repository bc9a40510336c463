"""The backtracking line search as a transformation: u ← η·u, η made smaller until the loss decreases.

η₀ = min(increase_factor·η_last, max_learning_rate),   η ← decrease_factor·η   until

f(p + η·u) ≤ f(p) + rtol·|f(p)| + η·slope_rtol·⟨∇f(p), u⟩ + atol        (Armijo)

The search does not accept a loss that is not finite, and steps back from it.

References: Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives",
1966; Nocedal, Wright, "Numerical Optimization", 2006, algorithm 3.1; Vaswani et al., "Painless Stochastic
Gradient", 2019, algorithm 1 and its appendix on the first step size.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._line_search.line import Line
from optx_aliases._line_search.search import line_search
from optx_core import PyTree, build, tree


class BacktrackingLinesearchInfo(NamedTuple):
    """A report on the last search of `scale_by_backtracking_linesearch`.

    Attributes:
      num_linesearch_steps: int32 scalar, the number of trials; each evaluates the loss once.
      decrease_error: scalar, the error of the last trial in the criterion; 0 if it holds.
    """

    num_linesearch_steps: Array
    decrease_error: Array


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """State of `scale_by_backtracking_linesearch`.

    Attributes:
      learning_rate: scalar, the last step η; 0 if no trial was finite.
      value: scalar, the loss after that step; inf before the first.
      grad: with `store_grad` its gradient there as `jax.grad` returns it, a tree of the parameters'
        structure, at least float32; None otherwise.
      info: a `BacktrackingLinesearchInfo`.
    """

    learning_rate: Array
    value: Array
    grad: Annotated[PyTree, build.slot(exact=True)]
    info: BacktrackingLinesearchInfo


@build.factory
def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: Annotated[Any, build.Number(low=0, below=1)] = 1e-4,
    decrease_factor: Annotated[Any, build.Number(above=0, below=1)] = 0.8,
    increase_factor: Annotated[Any, build.Number(low=1, finite=False)] = 1.5,
    max_learning_rate: build.Limit = 1.0,
    atol: build.Nonnegative = 0.0,
    rtol: build.Nonnegative = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> build.Transformation:
    """Scales the updates by a step that decreases the loss enough (Armijo).

    After the last trial its step is taken if the loss is finite; otherwise the updates are zero.
    The updates must descend: chain it behind `sgd(1.0)`, say. `update` takes, besides the parameters,

    - `value`: the loss at the parameters,
    - `grad`: its gradient there, as `jax.grad` returns it. For complex parameters it is evaluated once more,
      so that the conjugate gradient serves too.
    - `value_fn`: the loss, a function of the parameters and of the extra arguments that it names.

    Args:
      max_backtracking_steps: the most reductions of the step, at least 0; trials are one more.
      slope_rtol: the required share of the decrease that the slope predicts, in [0, 1); 0 asks for a
        loss that does not rise.
      decrease_factor: the factor of each reduction, in (0, 1).
      increase_factor: the ratio of the first trial to the last step, at least 1; inf to start
        from `max_learning_rate` each time.
      max_learning_rate: the longest step, above 0, or a schedule.
      atol: the absolute error allowed in the criterion, at least 0.
      rtol: the error relative to the loss, at least 0.
      store_grad: whether each trial evaluates the gradient too, and the state keeps the last one for
        `value_and_grad_from_state`.
      verbose: whether to print a report when a search fails.

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
    build.check_number(where, low=0, max_backtracking_steps=max_backtracking_steps)

    def find(
        line: Line,
        start: Array,
        slope: Array,
        grad: PyTree,
        old: ScaleByBacktrackingLinesearchState,
    ) -> ScaleByBacktrackingLinesearchState:
        numbers = (slope_rtol, decrease_factor, increase_factor, max_learning_rate, atol, rtol)
        c, shrink, grow, longest, absolute, relative = (
            jnp.asarray(x).astype(line.real) for x in numbers
        )
        limit = start + relative * jnp.abs(start) + absolute
        # After a step of 0, when no trial was finite, the search starts afresh.
        longer = jnp.where(old.learning_rate > 0, grow * old.learning_rate, longest)
        first = ScaleByBacktrackingLinesearchState(
            jnp.minimum(longer, longest),
            start,
            line.keep(grad, old.grad) if store_grad else None,
            BacktrackingLinesearchInfo(build.zero_count(), jnp.full((), jnp.inf, line.real)),
        )

        def unfinished(trial: ScaleByBacktrackingLinesearchState) -> Array:
            number, error = trial.info
            return (number == 0) | ((error > 0) & (number <= max_backtracking_steps))

        def attempt(
            trial: ScaleByBacktrackingLinesearchState,
        ) -> ScaleByBacktrackingLinesearchState:
            number, step = trial.info.num_linesearch_steps, trial.learning_rate
            step = jnp.where(number == 0, step, shrink * step)
            if store_grad:
                value, slope_there, grad_there = line.value_slope_grad(step)
                value = jnp.where(jnp.isfinite(slope_there), value, jnp.inf)
                kept = line.keep(grad_there, old.grad)
            else:
                value, kept = line.loss(line.point(step)), None
            error = jnp.maximum(value - (limit + step * c * slope), 0)
            error = jnp.where(jnp.isfinite(value) & jnp.isfinite(error), error, jnp.inf)
            info = BacktrackingLinesearchInfo(number + 1, error)
            return ScaleByBacktrackingLinesearchState(step, value, kept, info)

        last = lax.while_loop(unfinished, attempt, build.loop_carry(attempt, first))
        nowhere = first._replace(learning_rate=jnp.zeros((), line.real), info=last.info)
        return tree.where(jnp.isfinite(last.info.decrease_error), last, nowhere)

    return line_search(
        where,
        ScaleByBacktrackingLinesearchState,
        BacktrackingLinesearchInfo,
        find,
        verbose=verbose,
        store_grad=store_grad,
    )
