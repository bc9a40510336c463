"""The zoom line search as a transformation: u ← η·u, η satisfying the strong Wolfe conditions.

The search itself, and its papers, are in `_zoom.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._line_search.line import Line, need_loss, scalar, scaled
from optx_aliases._line_search.zoom import strong_wolfe, tolerances
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


class ZoomLinesearchInfo(NamedTuple):
    """What the last search of `scale_by_zoom_linesearch` was like.

    Attributes:
      num_linesearch_steps: int32 scalar, the number of trials; each evaluated value and gradient once.
      decrease_error: scalar, by how much the last trial missed the sufficient decrease; 0 where it held,
        inf where nothing was tried because the updates do not descend.
      curvature_error: scalar, likewise for the small curvature.
    """

    num_linesearch_steps: jax.Array
    decrease_error: jax.Array
    curvature_error: jax.Array


class ScaleByZoomLinesearchState(NamedTuple):
    """State of `scale_by_zoom_linesearch`.

    Attributes:
      learning_rate: scalar, the last step η; 0 where none was found.
      value: scalar, the loss after that step; inf before the first.
      grad: its gradient there, a tree of the parameters' structure, at least float32.
      info: a `ZoomLinesearchInfo`.
    """

    learning_rate: jax.Array
    value: jax.Array
    grad: PyTree
    info: ZoomLinesearchInfo


@recorded
@schedulable(
    "max_learning_rate",
    "tol",
    "increase_factor",
    "slope_rtol",
    "curv_rtol",
    "approx_dec_rtol",
    "stepsize_precision",
)
def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: ScalarOrSchedule | None = None,
    tol: ScalarOrSchedule = 0.0,
    increase_factor: ScalarOrSchedule = 2.0,
    slope_rtol: ScalarOrSchedule = 1e-4,
    curv_rtol: ScalarOrSchedule = 0.9,
    approx_dec_rtol: ScalarOrSchedule | None = 1e-6,
    stepsize_precision: ScalarOrSchedule = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
) -> GradientTransformationExtraArgs:
    """Scales the updates by a step that satisfies the strong Wolfe conditions.

    A trial that is not finite makes the search step back. Where no step decreases the loss, the updates
    are zero and the state's `learning_rate` is 0. `update` takes, besides the parameters,

    - `value`: the loss at the parameters,
    - `grad`: its gradient there, as `jax.grad` gives it,
    - `value_fn`: the loss, a function of the parameters and of those extra arguments that it names.

    Args:
      max_linesearch_steps: the most trials, at least 1; each evaluates value and gradient once.
      max_learning_rate: the longest step, or None for no limit, or a schedule.
      tol: by how much both conditions may be missed.
      increase_factor: by what trials grow until an interval is found, above 1.
      slope_rtol: c₁ of the sufficient decrease, in (0, 1).
      curv_rtol: c₂ of the small curvature; `jnp.inf` asks for the decrease only.
      approx_dec_rtol: c₃: where the loss is within this relative distance of its first value, slopes tell
        the decrease (Hager and Zhang). None for values only.
      stepsize_precision: an interval shorter than this is not divided further.
      initial_guess_strategy: "keep" to try the last step first, "one" for 1 (quasi-Newton methods).
      verbose: whether to print what happened when a search fails.

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
    check_number(where, low=1, max_linesearch_steps=max_linesearch_steps)
    check_number(where, above=0, max_learning_rate=max_learning_rate, curv_rtol=curv_rtol)
    check_number(where, above=0, below=1, slope_rtol=slope_rtol)
    check_number(where, low=0, tol=tol, approx_dec_rtol=approx_dec_rtol)
    check_number(where, low=0, stepsize_precision=stepsize_precision)
    check_number(where, above=1, increase_factor=increase_factor)
    if initial_guess_strategy not in ("keep", "one"):
        raise ValueError(
            f"{where}: initial_guess_strategy must be 'keep' or 'one', not {initial_guess_strategy!r}"
        )

    def init(params: Params) -> ScaleByZoomLinesearchState:
        real = real_dtype_of(params)
        return ScaleByZoomLinesearchState(
            jnp.ones((), real),
            jnp.full((), jnp.inf, real),
            tree.slots_like(params),
            ZoomLinesearchInfo(
                zero_count(), jnp.full((), jnp.inf, real), jnp.full((), jnp.inf, real)
            ),
        )

    def update(
        updates: Updates,
        state: ScaleByZoomLinesearchState,
        params: Params = None,
        *,
        value: Scalar | None = None,
        grad: Updates = None,
        value_fn: Callable[..., Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByZoomLinesearchState]:
        need_loss(where, params, value=value, grad=grad, value_fn=value_fn)
        assert value_fn is not None  # noqa: S101 (need_loss has seen to it)
        real = state.value.dtype
        line = Line(where, params, updates, value_fn, extra_args, real)

        def at(step: jax.Array) -> tuple[jax.Array, jax.Array, PyTree]:
            value, slope, there = line.value_slope_grad(step)
            return value, slope, line.keep(there, state.grad)

        again = (initial_guess_strategy == "keep") & (state.learning_rate > 0)
        found = strong_wolfe(
            at,
            scalar(where, value, real),
            line.slope(grad),
            line.keep(grad, state.grad),
            jnp.where(again, state.learning_rate, 1),
            tolerances(
                real,
                max_steps=max_linesearch_steps,
                max_step=jnp.inf if max_learning_rate is None else max_learning_rate,
                tol=tol,
                increase_factor=increase_factor,
                slope_rtol=slope_rtol,
                curv_rtol=curv_rtol,
                approx_dec_rtol=approx_dec_rtol,
                precision=stepsize_precision,
            ),
        )
        info = ZoomLinesearchInfo(found.num_steps, found.decrease_error, found.curvature_error)
        if verbose:
            _report(where, found.step, info, line.slope(grad))
        made = scaled(found.step, updates)
        return made, ScaleByZoomLinesearchState(found.step, found.value, found.grad, info)

    return wrapping(init, update)


def _report(where: str, step: jax.Array, info: ZoomLinesearchInfo, slope: jax.Array) -> None:
    """Prints what a search came to, where it failed."""
    failed = (info.decrease_error > 0) | (info.curvature_error > 0) | (step == 0)
    jax.lax.cond(
        failed,
        lambda: jax.debug.print(
            where + ": no step satisfies both conditions after {n} trials: slope {slope}, decrease "
            "missed by {d}, curvature by {c}; the step taken is {step}",
            n=info.num_linesearch_steps,
            slope=slope,
            d=info.decrease_error,
            c=info.curvature_error,
            step=step,
        ),
        lambda: None,
    )
