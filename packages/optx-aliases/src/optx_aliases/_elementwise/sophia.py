"""Sophia: momentum divided by a mean of the Hessian's diagonal, with the quotient clipped entry by entry.

m ← b1·m + (1 − b1)·g
u = clip(m̂ / max(gamma·h, eps), −clip_threshold, clip_threshold),   m̂ = m / (1 − b1ᵗ)
h ← b2·h + (1 − b2)·ĥ               every update_interval steps, with ĥ an estimate of the diagonal

The divisor is the h of the step before, as in the authors' code and in optax; the paper's algorithm 3 updates
h first. The first step is therefore the sign of the gradient. As in optax, and unlike the paper, m is
debiased.

Reference: Liu, Li, Hall, Liang, Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language
Model Pre-training", 2024, algorithm 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from optx_aliases._transforms.print_if import print_if
from optx_core import (
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)


class SophiaState(NamedTuple):
    """State of `scale_by_sophia`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: h, likewise.
      hessian_fn_state: the estimator's state.
    """

    count: build.Count
    mu: build.Moment
    nu: build.Moment
    hessian_fn_state: build.InnerState


def _leaf(
    g: Array,
    m: Array,
    unclipped: Array,
    h: Array,
    *,
    b1: build.DecayRate,
    gamma: Array,
    eps: Array,
    clip_threshold: Array | None,
    t: Array,
) -> tuple[Array, Array, Array]:
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_sophia: a complex parameter has no diagonal curvature; wrap it in "
            "split_real_and_imaginary"
        )
    m = b1 * m + (1 - b1) * g
    u = m / (1 - b1**t) / jnp.maximum(gamma * h, eps)
    if clip_threshold is None:
        return u, m, unclipped
    inside = jnp.sum((jnp.abs(u) < clip_threshold).astype(unclipped.dtype))
    return jnp.clip(u, -clip_threshold, clip_threshold), m, unclipped + inside


def _average(estimate: Array, h: Array, *, b2: build.DecayRate) -> tuple[Array, Array]:
    return estimate, b2 * h + (1 - b2) * estimate


@build.recorded
@build.schedulable("b1", "b2", "eps", "gamma", "clip_threshold")
def scale_by_sophia(
    b1: ScalarOrSchedule = 0.965,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    gamma: ScalarOrSchedule = 0.01,
    clip_threshold: ScalarOrSchedule | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Any = None,
    mu_dtype: build.DType = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """Divides the mean gradient by a mean of the Hessian's diagonal, and clips the quotient.

    Args:
      b1, b2, eps, gamma, clip_threshold, update_interval: as for `sophia`.
      hessian_diagonal_fn, mu_dtype, verbose, print_win_rate_every_n_steps, nu_dtype: as for `sophia`.

    Returns:
      A transformation with a `SophiaState`; `update` needs the parameters. Real parameters only.

    Raises:
      TypeError: if the estimator is missing or not a transformation.
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_sophia
      >>> from optx_core import stateless
      >>> squares = stateless(lambda updates, params: updates**2)  # in place of an estimator
      >>> tx, p = scale_by_sophia(hessian_diagonal_fn=squares), jnp.array([1.0])
      >>> tx.update(jnp.array([4.0]), tx.init(p), p)[0]
      Array([1.], dtype=float32)
    """
    where = "scale_by_sophia"
    if hessian_diagonal_fn is None:
        raise TypeError(
            f"{where} needs an estimator of the Hessian's diagonal: pass hessian_diagonal_fn="
            "optx_second_order.hutchinson_estimator(), say"
        )
    build.check_transformation_like(where, hessian_diagonal_fn)
    build.check_number(where, low=0, below=1, b1=b1, b2=b2)
    build.check_number(where, above=0, eps=eps, gamma=gamma)
    build.check_number(where, above=0, finite=False, clip_threshold=clip_threshold)
    build.check_number(where, low=1, update_interval=update_interval)
    if verbose:
        build.check_number(where, low=1, print_win_rate_every_n_steps=print_win_rate_every_n_steps)
    estimator = with_extra_args_support(hessian_diagonal_fn)

    def init(params: Any) -> SophiaState:
        mu, nu = tree.slots_like(params, mu_dtype), tree.slots_like(params, nu_dtype)
        return SophiaState(build.zero_count(), mu, nu, estimator.init(params))

    def step(
        flow: build.Flow, state: SophiaState, params: Any = None, **extra_args: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        grads, t = flow.present, safe_increment(state.count)

        def estimate(carry: tuple[Any, Any]) -> tuple[Any, Any]:
            nu, inner = carry
            estimates, inner = estimator.update(grads, inner, params, **extra_args)
            rate: Any = build.rate_of(b2)
            return tree.map_leaves(_average, estimates, nu, name=where, b2=rate)[1], inner

        due = state.count % update_interval == 0
        # Not run_if: of its loop XLA:CPU copies the carry.
        nu, inner = lax.cond(due, estimate, lambda carry: carry, (state.nu, state.hessian_fn_state))

        def close(mu: Any, unclipped: Any) -> SophiaState:
            if verbose:
                fraction = tree.sum(unclipped) / max(tree.size(grads), 1)
                due_to_print = t % print_win_rate_every_n_steps == 0
                print_if(due_to_print, "sophia: not clipped: {fraction}", fraction=fraction)
            return SophiaState(t, mu, nu, inner)

        return build.LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=(jax.tree.map(lambda _: jnp.zeros((), jnp.float32), flow.skeleton),),
            reads=(state.nu,),
            close=close,
            operands={
                "b1": build.rate_of(b1),
                "gamma": gamma,
                "eps": eps,
                "clip_threshold": clip_threshold,
                "t": t,
            },
        )

    return build.leafwise(step, init)


@build.recorded
def sophia(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.965,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    weight_decay_mask: build.Mask = None,
    gamma: ScalarOrSchedule = 0.01,
    clip_threshold: ScalarOrSchedule | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Any = None,
    mu_dtype: build.DType = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """Sophia (Liu et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean of diagonals, in [0, 1), or a schedule.
      eps: the smallest divisor, greater than 0, or a schedule.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.
      gamma: a factor of the diagonal, greater than 0, or a schedule; to be chosen so that 10 to 50 % of the
        entries are not clipped.
      clip_threshold: the largest absolute value of an entry, greater than 0, or a schedule; None for no
        bound.
      update_interval: the number of steps between two estimates, a positive int.
      hessian_diagonal_fn: the estimator, a transformation whose
        `update(updates, state, params, **extra_args)` returns the diagonal; required. It runs only when it is
        due, and receives the extra arguments of this one's `update`. `optx_second_order` has several:
        `hutchinson_estimator()` needs `obj_fn`, the loss as a function of the parameters.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      verbose: whether to print the fraction of the entries that were not clipped.
      print_win_rate_every_n_steps: the number of steps between two prints, a positive int where `verbose`.
      nu_dtype: dtype of the mean of diagonals; by default the parameters', at least float32.

    Returns:
      A transformation; `update` needs the parameters, and what the estimator needs. Real parameters
      only.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import sophia
      >>> from optx_core import stateless
      >>> tx = sophia(1e-3, hessian_diagonal_fn=stateless(lambda updates, params: updates**2))
    """
    return chain(
        scale_by_sophia(
            b1,
            b2,
            eps,
            gamma,
            clip_threshold,
            update_interval,
            hessian_diagonal_fn,
            mu_dtype,
            verbose,
            print_win_rate_every_n_steps,
            nu_dtype,
        ),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
