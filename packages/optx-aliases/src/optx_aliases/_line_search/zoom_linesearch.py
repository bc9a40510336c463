"""The zoom line search as a transformation: the step satisfies the strong Wolfe conditions.

u ← η·u,   φ(η) = f(p + η·u)
φ(η) ≤ φ(0) + slope_rtol·η·φ′(0)        (sufficient decrease)
|φ′(η)| ≤ curv_rtol·|φ′(0)|             (small curvature)

where f is the loss and η the length of the step.

References: Nocedal, Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6; Hager, Zhang,
"Algorithm 851: CG_DESCENT", 2006, section 2 (approximate Wolfe conditions).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._line_search.line import Line
from optx_aliases._line_search.search import line_search
from optx_aliases._line_search.zoom import strong_wolfe
from optx_core import PyTree, build


class ZoomLinesearchInfo(NamedTuple):
    """A report on the last search of `scale_by_zoom_linesearch`.

    Attributes:
      num_linesearch_steps: int32 scalar, the number of trials; each evaluates value and gradient once.
      decrease_error: scalar, the error of the last trial in the sufficient decrease; 0 if it holds, inf
        if nothing was tried because the updates do not descend.
      curvature_error: scalar, likewise for the small curvature.
    """

    num_linesearch_steps: Array
    decrease_error: Array
    curvature_error: Array


class ScaleByZoomLinesearchState(NamedTuple):
    """State of `scale_by_zoom_linesearch`.

    Attributes:
      learning_rate: scalar, the last step η; 0 if the search failed.
      value: scalar, the loss after that step; inf before the first.
      grad: its gradient there as `jax.grad` returns it, a tree of the parameters' structure, at least
        float32.
      info: a `ZoomLinesearchInfo`.
    """

    learning_rate: Array
    value: Array
    grad: Annotated[PyTree, build.slot(exact=True)]
    info: ZoomLinesearchInfo


@build.factory
def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: build.Limit = None,
    tol: build.Nonnegative = 0.0,
    increase_factor: Annotated[Any, build.Number(above=1, finite=False)] = 2.0,
    slope_rtol: Annotated[Any, build.Number(low=0, below=1)] = 1e-4,
    curv_rtol: Annotated[Any, build.Number(low=0, finite=False)] = 0.9,
    approx_dec_rtol: build.Nonnegative | None = 1e-6,
    stepsize_precision: build.Nonnegative = 1e-5,
    initial_guess_strategy: Literal["keep", "one"] = "keep",
    verbose: bool = False,
) -> build.Transformation:
    """Scales the updates by a step that satisfies the strong Wolfe conditions.

    The search steps back from a trial that is not finite. If no step decreases the loss, the updates are
    zero and the state's `learning_rate` is 0. `update` takes, besides the parameters,

    - `value`: the loss at the parameters,
    - `grad`: its gradient there, as `jax.grad` returns it. For complex parameters it is evaluated once more,
      so that the conjugate gradient, which optax takes here, serves too.
    - `value_fn`: the loss, a function of the parameters and of the extra arguments that it names.

    Args:
      max_linesearch_steps: the most trials, at least 1; each evaluates value and gradient once.
      max_learning_rate: the longest step, or None for no limit, or a schedule.
      tol: the error allowed in both conditions, at least 0.
      increase_factor: the growth of trials until an interval is known, above 1.
      slope_rtol: c₁ of the sufficient decrease, in [0, 1).
      curv_rtol: c₂ of the small curvature, at least 0; `jnp.inf` asks for the decrease only.
      approx_dec_rtol: c₃: within this relative distance of the first value, slopes decide on the
        decrease (Hager and Zhang). None for values only.
      stepsize_precision: an interval shorter than this is not divided further.
      initial_guess_strategy: the first trial: "keep" for the last step, "one" for 1 (quasi-Newton methods).
      verbose: whether to print a report when a search fails.

    Returns:
      A transformation with a `ScaleByZoomLinesearchState`.

    Raises:
      ValueError: if a number is out of its range, and from `update` if an argument is missing.

    References: Nocedal, Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6; Hager, Zhang,
    "Algorithm 851: CG_DESCENT", 2006.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import scale_by_zoom_linesearch, sgd
      >>> from optx_core import apply_updates, chain
      >>> def loss(p):
      ...     return jnp.sum(p**2)
      >>> tx, p = chain(sgd(1.0), scale_by_zoom_linesearch(15)), jnp.array([1.0, 2.0])
      >>> value, grad = jax.value_and_grad(loss)(p)
      >>> u, _ = tx.update(grad, tx.init(p), p, value=value, grad=grad, value_fn=loss)
      >>> float(loss(apply_updates(p, u)))
      0.0
    """
    where = "scale_by_zoom_linesearch"
    build.check_number(where, low=1, max_linesearch_steps=max_linesearch_steps)

    def find(
        line: Line, value: Array, slope: Array, grad: PyTree, old: ScaleByZoomLinesearchState
    ) -> ScaleByZoomLinesearchState:
        def at(step: Array) -> tuple[Array, Array, PyTree]:
            value, slope, grad = line.value_slope_grad(step)
            return value, slope, line.keep(grad, old.grad)

        again = (initial_guess_strategy == "keep") & (old.learning_rate > 0)
        last = strong_wolfe(
            at,
            value,
            slope,
            line.keep(grad, old.grad),
            jnp.where(again, old.learning_rate, 1),
            max_steps=max_linesearch_steps,
            max_step=jnp.inf if max_learning_rate is None else max_learning_rate,
            tol=tol,
            increase_factor=increase_factor,
            slope_rtol=slope_rtol,
            curv_rtol=curv_rtol,
            approx_dec_rtol=approx_dec_rtol,
            precision=stepsize_precision,
        )
        info = ZoomLinesearchInfo(last.number, *last.errors)
        return ScaleByZoomLinesearchState(last.best.step, last.best.value, last.grad, info)

    return line_search(where, ScaleByZoomLinesearchState, ZoomLinesearchInfo, find, verbose=verbose)
