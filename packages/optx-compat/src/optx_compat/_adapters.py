"""Functions in the form of optax's, where a program of optax would fail with those of optx."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import optx_aliases
import optx_core
import optx_losses
import optx_second_order
from optx_core import PyTree


class AccumulationType(enum.StrEnum):
    """The reductions of `microbatch` and `micro_grad`, by the names of optax.

    Example:
      >>> from optx_compat.microbatching import AccumulationType
      >>> str(AccumulationType.RUNNING_MEAN)
      'mean'
    """

    MEAN = "mean"
    SUM = "sum"
    RUNNING_MEAN = "mean"  # a mean is a running one
    CONCAT = "concat"


def microbatch(
    fun: Callable[..., PyTree],
    argnums: int | Sequence[int],
    microbatch_size: int | None,
    accumulator: Any = AccumulationType.SUM,
    **keywords: Any,
) -> Callable[..., PyTree]:
    """Evaluates a function slice by slice: `optx_core.microbatch` with the arguments of optax.

    Args:
      fun: as for `function` of `optx_core.microbatch`.
      argnums: as for `optx_core.microbatch`.
      microbatch_size: the number of examples in a slice; None for all of them.
      accumulator: the reduction, an `AccumulationType` or as for `optx_core.microbatch`.
      keywords: other arguments of `optx_core.microbatch`.

    Returns:
      A function of the same arguments.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat import microbatch
      >>> microbatch(jnp.sum, argnums=0, microbatch_size=2)(jnp.arange(4.0))
      Array(6., dtype=float32)
    """
    if microbatch_size is None:
        return fun
    return optx_core.microbatch(
        fun, microbatch_size, argnums=argnums, reduction=accumulator, **keywords
    )


def micro_grad(
    fun: Callable[..., Any],
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
    *,
    batch_argnums: int | Sequence[int] = 1,
    microbatch_size: int | None = None,
    accumulator: Any = AccumulationType.SUM,
    transform_fn: Callable[[PyTree], PyTree] = lambda grads: grads,
    **keywords: Any,
) -> Callable[..., Any]:
    """Reduces gradients of single examples: `optx_core.micro_grad` with the arguments of optax.

    Args:
      fun: as for `loss_fn` of `optx_core.micro_grad`.
      has_aux: as for `optx_core.micro_grad`.
      argnums: as for `optx_core.micro_grad`.
      batch_argnums: as for `optx_core.micro_grad`.
      microbatch_size: the number of examples in a slice; None for all of them.
      accumulator: the reduction, an `AccumulationType` or as for `optx_core.micro_grad`.
      transform_fn: as for `optx_core.micro_grad`.
      keywords: other arguments of `optx_core.micro_grad`.

    Returns:
      A function of the same arguments that returns the gradient and an `optx_core.MicroGradAux`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.microbatching import micro_grad
      >>> grad, aux = micro_grad(lambda w, x: jnp.mean((w * x) ** 2))(1.0, jnp.arange(4.0))
      >>> grad, aux.values
      (Array(28., dtype=float32), Array([0., 1., 4., 9.], dtype=float32))
    """
    first = batch_argnums if isinstance(batch_argnums, int) else batch_argnums[0]

    def gradient(*args: Any, **kwargs: Any) -> Any:
        size = microbatch_size or len(jax.tree.leaves(args[first])[0])
        return optx_core.micro_grad(
            fun,
            size,
            argnums=argnums,
            batch_argnums=batch_argnums,
            has_aux=has_aux,
            reduction=accumulator,
            transform_fn=transform_fn,
            **keywords,
        )(*args, **kwargs)

    return gradient


def init_empty_state(params: PyTree) -> optx_core.EmptyState:
    """The `init` of a transformation without state.

    Args:
      params: not used.

    Returns:
      An `EmptyState`.

    Example:
      >>> from optx_compat import init_empty_state
      >>> init_empty_state(None)
      EmptyState()
    """
    del params
    return optx_core.EmptyState()


def ntxent(embeddings: ArrayLike, labels: ArrayLike, temperature: Any = 0.07) -> jax.Array:
    """The mean of `optx_losses.ntxent`, in which an example counts as often as it has positives.

    Args:
      embeddings: as for `optx_losses.ntxent`.
      labels: as for `optx_losses.ntxent`.
      temperature: as for `optx_losses.ntxent`.

    Returns:
      A scalar; 0 if no example has a positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat import ntxent
      >>> float(ntxent(jnp.eye(4)[jnp.array([0, 0, 1, 1])], jnp.array([0, 0, 1, 1]))) < 1e-3
      True
    """
    values = optx_losses.ntxent(embeddings, labels, temperature)
    labels = jnp.asarray(labels)
    positives = jnp.sum(labels[:, None] == labels[None], axis=1, dtype=values.dtype) - 1
    return jnp.sum(positives * values) / jnp.maximum(jnp.sum(positives), 1)


def multiclass_generalized_dice_loss(
    predictions: ArrayLike, targets: ArrayLike, **keywords: Any
) -> jax.Array:
    """The mean over the examples of `optx_losses.multiclass_generalized_dice_loss`.

    Args:
      predictions: as for `optx_losses.multiclass_generalized_dice_loss`.
      targets: as for `optx_losses.multiclass_generalized_dice_loss`.
      keywords: the other arguments of `optx_losses.multiclass_generalized_dice_loss`.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.losses import multiclass_generalized_dice_loss
      >>> float(multiclass_generalized_dice_loss(100 * jnp.eye(3)[None], jnp.eye(3)[None]))
      0.0
    """
    return jnp.mean(optx_losses.multiclass_generalized_dice_loss(predictions, targets, **keywords))


def ranking_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
    **keywords: Any,
) -> jax.Array:
    """`optx_losses.ranking_softmax_loss` with the mean over the lists by default.

    Lists without a valid item, where there is a mask, do not count.

    Args:
      logits: as for `optx_losses.ranking_softmax_loss`.
      labels: as for `optx_losses.ranking_softmax_loss`.
      reduce_fn: a function of the losses of all lists and, where there is a mask, of the keyword `where`: the
        lists that count; None for no reduction.
      keywords: the other arguments of `optx_losses.ranking_softmax_loss`.

    Returns:
      A scalar, or one value per list. The mean over no list is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.losses import ranking_softmax_loss
      >>> ranking_softmax_loss(jnp.zeros((3, 2)), jnp.eye(3, 2)).shape
      ()
    """
    values = optx_losses.ranking_softmax_loss(logits, labels, **keywords)
    mask = keywords.get("where")
    if reduce_fn is None or mask is None:
        return values if reduce_fn is None else reduce_fn(values)
    lists = jnp.any(mask, axis=keywords.get("axis", -1))
    reduced = reduce_fn(values, where=lists)
    return jnp.where(jnp.any(lists), reduced, 0) if reduce_fn is jnp.mean else reduced


def sophia(*args: Any, **keywords: Any) -> optx_core.GradientTransformationExtraArgs:
    """`optx_aliases.sophia` with Hutchinson's estimator by default.

    Args:
      args: the arguments of `optx_aliases.sophia`.
      keywords: the same; `hessian_diagonal_fn` is `optx_second_order.hutchinson_estimator()` by default.

    Returns:
      A transformation whose `update` takes the loss, a function of the parameters, as `obj_fn`.

    Example:
      >>> from optx_compat.contrib import sophia
      >>> tx = sophia(1e-3)
    """
    given = inspect.signature(optx_aliases.sophia).bind(*args, **keywords)
    given.arguments.setdefault("hessian_diagonal_fn", optx_second_order.hutchinson_estimator())
    return optx_aliases.sophia(*given.args, **given.kwargs)


def hutchinson_estimator_diag_hessian(
    random_seed: jax.Array | None = None,
) -> optx_core.GradientTransformationExtraArgs:
    """`optx_second_order.hutchinson_estimator`, seeded by a key.

    Args:
      random_seed: a key; None for the seed 0.

    Returns:
      A transformation whose updates are the estimate; its `update` takes the loss as `obj_fn`.

    Example:
      >>> import jax
      >>> from optx_compat.contrib import hutchinson_estimator_diag_hessian
      >>> tx = hutchinson_estimator_diag_hessian(jax.random.key(1))
    """
    seed = 0 if random_seed is None else int(jax.random.bits(random_seed)) >> 1
    return optx_second_order.hutchinson_estimator(seed)


def tree_l1_norm(tree: PyTree) -> jax.Array:
    """The sum of absolute values: `optx_core.tree.norm(tree, ord=1)`.

    Args:
      tree: a tree of arrays.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.tree_utils import tree_l1_norm
      >>> tree_l1_norm({"w": jnp.array([3.0, -4.0])})
      Array(7., dtype=float32)
    """
    return optx_core.tree.norm(tree, ord=1)


def tree_l2_norm(tree: PyTree, squared: bool = False) -> jax.Array:
    """The Euclidean norm: `optx_core.tree.norm(tree, squared=squared)`.

    Args:
      tree: a tree of arrays.
      squared: whether to return the square of the norm.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.tree_utils import tree_l2_norm
      >>> tree_l2_norm({"w": jnp.array([3.0, -4.0])}, True)
      Array(25., dtype=float32)
    """
    return optx_core.tree.norm(tree, squared=squared)


def tree_linf_norm(tree: PyTree) -> jax.Array:
    """The largest absolute value: `optx_core.tree.norm(tree, ord="inf")`.

    Args:
      tree: a tree of arrays.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_compat.tree_utils import tree_linf_norm
      >>> tree_linf_norm({"w": jnp.array([3.0, -4.0])})
      Array(4., dtype=float32)
    """
    return optx_core.tree.norm(tree, ord="inf")
