"""Products of curvature matrices with vectors, at about the cost of two gradients.

H v = ∂/∂t ∇L(θ + t v)
G v = Jᵀ H_f J v
F v = Jᵀ R Rᵀ J v

where H is the Hessian, G the Gauss–Newton matrix, F the Fisher information, v the vector, t = 0, J the
Jacobian of the model, H_f the Hessian of the loss with respect to the outputs, and R Rᵀ the Fisher
information of the outputs.

References: Pearlmutter, "Fast exact multiplication by the Hessian", 1994; Schraudolph, "Fast curvature
matrix-vector products for second-order gradient descent", 2002.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_second_order._batches import (
    Batch,
    Reduction,
    batch_loss,
    check_choice,
    check_functions,
    scalar_loss,
)
from optx_second_order._leaves import Leaves, as_wide, described
from optx_second_order._likelihoods import Likelihood


def linearize_hessian_vp(
    loss_fn: Callable[..., Any],
    params: PyTree,
    *batch: PyTree,
    reduction: Reduction = "mean",
    has_aux: bool = False,
) -> Callable[[PyTree], PyTree]:
    """Linearizes the gradient of a loss, for many products with its Hessian.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example; without a batch, `loss_fn(params)`.
      params: a tree of real arrays.
      *batch: trees of arrays with the examples along their leading axis.
      reduction: "mean" or "sum" over the examples.
      has_aux: whether the loss returns `(loss, aux)`; aux is dropped.

    Returns:
      `v ↦ H v` on trees like `params`; other than float leaves are ignored in `v` and None in the
      product. Everything that does not depend on `v` is computed once.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import linearize_hessian_vp
      >>> product = linearize_hessian_vp(lambda p: jnp.sum(p**3), jnp.array([1.0, 2.0]))
      >>> product(jnp.array([1.0, 1.0]))
      Array([ 6., 12.], dtype=float32)
    """
    return _hessian_product("linearize_hessian_vp", loss_fn, params, batch, reduction, has_aux)


def hessian_vp(
    loss_fn: Callable[..., Any],
    params: PyTree,
    v: PyTree,
    *batch: PyTree,
    reduction: Reduction = "mean",
    has_aux: bool = False,
) -> PyTree:
    """The product of the Hessian of a loss with a vector.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example; without a batch, `loss_fn(params)`.
      params: a tree of real arrays.
      v: a tree like `params`.
      *batch: trees of arrays with the examples along their leading axis.
      reduction: "mean" or "sum" over the examples.
      has_aux: whether the loss returns `(loss, aux)`; aux is dropped.

    Returns:
      H v, a tree like `params`; None for other than float leaves.

    Raises:
      optx_core.TreeMismatchError: if `v` does not match `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import hessian_vp
      >>> hessian_vp(lambda p: p[0] * p[1], jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]))
      Array([0., 1.], dtype=float32)
    """
    return _hessian_product("hessian_vp", loss_fn, params, batch, reduction, has_aux)(v)


def _hessian_product(
    where: str,
    loss_fn: Callable[..., Any],
    params: PyTree,
    batch: tuple[PyTree, ...],
    reduction: Reduction,
    has_aux: bool,
) -> Callable[[PyTree], PyTree]:
    check_choice(where, "reduction", reduction, ("mean", "sum"))
    leaves = Leaves(where, params)
    loss = scalar_loss(where, loss_fn, has_aux=has_aux)
    if batch:
        data = Batch(where, batch).data
        total = batch_loss(loss, reduction)

        def of(arrays: list[jax.Array]) -> jax.Array:
            return total(leaves.put(arrays), data)
    else:

        def of(arrays: list[jax.Array]) -> jax.Array:
            return as_wide(loss(leaves.put(arrays)))

    if not leaves.arrays:
        return lambda v: leaves.tree(leaves.vector(v))
    _, product = jax.linearize(jax.grad(of), leaves.arrays)
    return lambda v: leaves.tree(product(leaves.vector(v)))


def ggn_vp(
    model_fn: Callable[..., Any],
    loss_fn: Callable[[Any, Any], Any],
    params: PyTree,
    v: PyTree,
    x: PyTree,
    y: PyTree = None,
    *,
    reduction: Reduction = "mean",
) -> PyTree:
    """The product of the Gauss–Newton matrix with a vector.

    Args:
      model_fn: `model_fn(params, x)` for one example.
      loss_fn: a `Likelihood` or `loss_fn(outputs, y)` for one example.
      params: a tree of real arrays.
      v: a tree like `params`.
      x: inputs with the examples along the leading axis.
      y: labels with the examples along the leading axis; a `Likelihood` needs none.
      reduction: "mean" or "sum" over the examples.

    Returns:
      G v, a tree like `params`; None for other than float leaves.

    Raises:
      optx_core.TreeMismatchError: if `v` does not match `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import gaussian, ggn_vp
      >>> x = jnp.array([[1.0, 2.0]])
      >>> ggn_vp(lambda w, x: x @ w, gaussian(), jnp.zeros(2), jnp.array([1.0, 0.0]), x)
      Array([1., 2.], dtype=float32)
    """
    return _outputs_product("ggn_vp", model_fn, loss_fn, params, v, x, y, reduction)


def fisher_vp(
    model_fn: Callable[..., Any],
    likelihood: Likelihood,
    params: PyTree,
    v: PyTree,
    x: PyTree,
    *,
    reduction: Reduction = "mean",
) -> PyTree:
    """The product of the Fisher information, with labels from the model, with a vector.

    Args:
      model_fn: `model_fn(params, x)` for one example.
      likelihood: a `Likelihood` with a root, such as `categorical()`.
      params: a tree of real arrays.
      v: a tree like `params`.
      x: inputs with the examples along the leading axis.
      reduction: "mean" or "sum" over the examples.

    Returns:
      F v, a tree like `params`; None for other than float leaves.

    Raises:
      TypeError: if `likelihood` is not a `Likelihood`, or has no root.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import bernoulli, fisher_vp
      >>> fisher_vp(lambda w, x: x @ w, bernoulli(), jnp.zeros(1), jnp.ones(1), jnp.ones((3, 1)))
      Array([0.25], dtype=float32)
    """
    if not isinstance(likelihood, Likelihood):
        raise TypeError(
            "fisher_vp: likelihood must be a Likelihood, such as categorical(), not "
            f"{described(likelihood)}"
        )
    return _outputs_product("fisher_vp", model_fn, likelihood, params, v, x, None, reduction)


def _outputs_product(
    where: str,
    model_fn: Callable[..., Any],
    loss_fn: Callable[[Any, Any], Any],
    params: PyTree,
    v: PyTree,
    x: PyTree,
    y: PyTree,
    reduction: Reduction,
) -> PyTree:
    check_choice(where, "reduction", reduction, ("mean", "sum"))
    check_functions(where, model_fn=model_fn, loss_fn=loss_fn)
    leaves, inputs = Leaves(where, params), Batch(where, (x,))
    direction = leaves.vector(v)
    if isinstance(loss_fn, Likelihood) and loss_fn.root is None:
        raise TypeError(f"{where}: the likelihood {loss_fn.name} has no root of its curvature")
    if not isinstance(loss_fn, Likelihood) and y is None:
        raise ValueError(f"{where}: {described(loss_fn)} needs labels: pass y, or a Likelihood")
    if not leaves.arrays:
        return leaves.tree([])
    data, labels = Batch(where, (x, y)).data

    def outputs(arrays: list[jax.Array]) -> Any:
        values = jax.vmap(lambda x: model_fn(leaves.put(arrays), x))(data)
        return jax.tree.map(as_wide, values)

    f, pull = jax.vjp(outputs, leaves.arrays)
    _, tangent = jax.jvp(outputs, (leaves.arrays,), (direction,))

    def curved(f: Any, y: Any, u: Any) -> Any:
        if isinstance(loss_fn, Likelihood):
            root = loss_fn.root
            transposed = jax.linear_transpose(lambda u: root(f, u), f)  # type: ignore[misc]
            return root(f, transposed(u)[0])  # type: ignore[misc]
        grad = jax.grad(lambda f: as_wide(jnp.asarray(loss_fn(f, y))))
        return jax.jvp(grad, (f,), (u,))[1]

    image = jax.vmap(curved)(f, labels, tangent)
    scale = 1 if reduction == "sum" else inputs.size
    image = jax.tree.map(lambda a: a / scale, image)
    return leaves.tree(pull(image)[0])
