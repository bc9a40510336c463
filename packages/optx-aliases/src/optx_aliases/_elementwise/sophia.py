"""Sophia: momentum divided by a mean of the Hessian's diagonal, each entry of the quotient clipped.

m ← b1·m + (1 − b1)·g
u = clip(m̂ / max(gamma·h, eps), −clip_threshold, clip_threshold),   m̂ = m / (1 − b1ᵗ)
h ← b2·h + (1 − b2)·ĥ               every update_interval steps, ĥ an estimate of the diagonal

The quotient is taken with the h of the steps before, as in the authors' code and in optax; the paper's
algorithm 3 renews h first. So the first step is one of signs. Like optax, and unlike the paper, m is
debiased.

Reference: Liu, Li, Hall, Liang, Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language
Model Pre-training", 2024, algorithm 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._transforms.whole_tree import add_up, zero_sums
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    add_decayed_weights,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
    with_extra_args_support,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    check_transformation_like,
    decay_of,
    leafwise,
    need_params,
    recorded,
    schedulable,
    zero_count,
)


class SophiaState(NamedTuple):
    """State of `scale_by_sophia`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: h, likewise.
      hessian_fn_state: the estimator's state.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree
    hessian_fn_state: OptState


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    unclipped: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    gamma: Scalar,
    eps: Scalar,
    clip_threshold: Scalar | None,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_sophia: a complex parameter has no diagonal curvature; wrap it in "
            "split_real_and_imaginary"
        )
    mu = b1.value * mu + b1.complement * g
    u = mu / bias_correction(b1, count) / jnp.maximum(gamma * nu, eps)
    if clip_threshold is None:
        return u, mu, unclipped
    inside = jnp.sum((jnp.abs(u) < clip_threshold).astype(unclipped.dtype))
    return jnp.clip(u, -clip_threshold, clip_threshold), mu, unclipped + inside


def _average(h: jax.Array, nu: jax.Array, *, b2: Decay) -> tuple[jax.Array, jax.Array]:
    return h, b2.value * nu + b2.complement * h


@recorded
@schedulable("b1", "b2", "eps", "gamma", "clip_threshold")
def scale_by_sophia(
    b1: ScalarOrSchedule = 0.965,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    gamma: ScalarOrSchedule = 0.01,
    clip_threshold: ScalarOrSchedule | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Any = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by a mean of the Hessian's diagonal, and clips the quotient.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean of diagonals, in [0, 1), or a schedule.
      eps: the least value to divide by, greater than 0.
      gamma: a factor of the diagonal, greater than 0, or a schedule; chosen so that 10 to 50 % of the
        entries are not clipped.
      clip_threshold: the largest absolute entry, greater than 0, or a schedule; None for no bound.
      update_interval: the number of steps between two estimates, a positive int.
      hessian_diagonal_fn: the estimator, a transformation whose
        `update(updates, state, params, **extra_args)` returns the diagonal; it runs only when it is
        due, and gets the extra arguments of this one's `update`. `optx_second_order` has several:
        `hutchinson_estimator()` needs `obj_fn`, the loss as a function of the parameters.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      verbose: whether to print the part of the entries that were not clipped.
      print_win_rate_every_n_steps: how often to print it.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `SophiaState`; `update` needs the parameters. Real parameters only.

    Raises:
      TypeError: if the estimator is missing or no transformation.
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_sophia
      >>> from optx_core import stateless
      >>> squares = stateless(lambda updates, params: updates**2)  # stands for an estimator
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
    check_transformation_like(where, hessian_diagonal_fn)
    check_number(where, low=0, below=1, b1=b1, b2=b2)
    check_number(where, above=0, eps=eps, gamma=gamma, clip_threshold=clip_threshold)
    check_number(where, low=1, update_interval=update_interval)
    if verbose:
        check_number(where, low=1, print_win_rate_every_n_steps=print_win_rate_every_n_steps)
    estimator = with_extra_args_support(hessian_diagonal_fn)

    def init(params: Params) -> SophiaState:
        return SophiaState(
            zero_count(),
            tree.slots_like(params, mu_dtype),
            tree.slots_like(params, nu_dtype),
            estimator.init(params),
        )

    def step(flow: Flow, state: SophiaState, params: Params = None, **extra_args: Any) -> LeafStep:
        need_params(flow.trail, params)
        grads, count = flow.present, safe_increment(state.count)

        def estimate(carry: tuple[PyTree, OptState]) -> tuple[PyTree, OptState]:
            nu, inner = carry
            h, inner = estimator.update(grads, inner, params, **extra_args)
            operands: dict[str, Any] = {"b2": decay_of(b2)}
            return tree.map_leaves(_average, h, nu, name=where, **operands)[1], inner

        due = state.count % update_interval == 0
        nu, inner = lax.cond(due, estimate, lambda carry: carry, (state.nu, state.hessian_fn_state))

        def close(mu: PyTree, unclipped: PyTree) -> SophiaState:
            if verbose:
                part = add_up(unclipped, jnp.float32) / max(tree.size(grads), 1)
                say = count % print_win_rate_every_n_steps == 0
                lax.cond(
                    say, lambda: jax.debug.print("sophia: not clipped: {}", part), lambda: None
                )
            return SophiaState(count, mu, nu, inner)

        return LeafStep(
            _leaf,
            slots=(state.mu,),
            reduced=(zero_sums(flow, jnp.float32),),
            reads=(state.nu,),
            close=close,
            operands={
                "b1": decay_of(b1),
                "gamma": gamma,
                "eps": eps,
                "clip_threshold": clip_threshold,
                "count": count,
            },
        )

    return leafwise(step, init)


@recorded
def sophia(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.965,
    b2: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    weight_decay_mask: PyTree | Callable[[Params], PyTree] | None = None,
    gamma: ScalarOrSchedule = 0.01,
    clip_threshold: ScalarOrSchedule | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: Any = None,
    mu_dtype: Any = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Sophia (Liu et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean of diagonals, in [0, 1), or a schedule.
      eps: the least value to divide by, greater than 0.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.
      gamma: a factor of the diagonal, greater than 0, or a schedule.
      clip_threshold: the largest absolute entry of a step, greater than 0, or a schedule; None for no
        bound.
      update_interval: the number of steps between two estimates, a positive int.
      hessian_diagonal_fn: the estimator of the diagonal, as for `scale_by_sophia`; required.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      verbose: whether to print the part of the entries that were not clipped.
      print_win_rate_every_n_steps: how often to print it.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
