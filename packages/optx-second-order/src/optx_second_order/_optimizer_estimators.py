"""Diagonal estimators as transformations, for optimizers that take them.

    hutchinson_estimator    v·(H v) with random signs v: AdaHessian, Sophia-H
    activation_estimator    the same mean, with random signs at the layers and far less variance
    gnb_estimator           B·ĝ², ĝ the mean gradient at labels sampled from the model: Sophia-G
    ggn_estimator           the Gauss–Newton diagonal, exact or from random signs

`update(updates, state, params, ...)` returns the diagonal in place of the updates; the state is a random
key. Sophia takes an estimator as `hessian_diagonal_fn`; other transformations can call it themselves.
(optax's sophia passes extra arguments only to its own class: wrap the estimator as
`optax.GradientTransformationExtraArgs(*hutchinson_estimator())`.)

References: Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney, "ADAHESSIAN: an adaptive second order
optimizer for machine learning", 2021; Liu, Li, Hall, Liang, Ma, "Sophia: a scalable stochastic
second-order optimizer for language model pre-training", 2024, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import GradientTransformationExtraArgs, Params, PyTree, Updates
from optx_core.build import need_params, recorded
from optx_second_order._batches import Batch
from optx_second_order._estimate import hessian_diag_estimate
from optx_second_order._ggn import GGNMethod, ggn_diag
from optx_second_order._hutchinson import hutchinson_diag
from optx_second_order._leaves import Leaves, as_wide
from optx_second_order._likelihoods import Likelihood
from optx_second_order._products import linearize_hessian_vp
from optx_second_order._samples import Distribution


class DiagEstimatorState(NamedTuple):
    """State of the diagonal estimators.

    Attributes:
      key: raw key data, a uint32 array; split at each update.
    """

    key: jax.Array


def _estimator(
    where: str, seed: int, diagonal: Callable[..., PyTree]
) -> GradientTransformationExtraArgs:
    def init(params: Params) -> DiagEstimatorState:
        del params
        return DiagEstimatorState(jax.random.key_data(jax.random.key(seed)))

    def update(
        updates: Updates, state: DiagEstimatorState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, DiagEstimatorState]:
        del updates
        need_params(where, params)
        now, later = jax.random.split(jax.random.wrap_key_data(state.key))
        estimate = diagonal(params, now, **extra_args)
        return estimate, DiagEstimatorState(jax.random.key_data(later))

    return GradientTransformationExtraArgs(init, update)


def _need(where: str, name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"{where} needs {name}: call update(updates, state, params, {name}=...)")
    return value


@recorded
def hutchinson_estimator(
    seed: int = 0,
    num_samples: int = 1,
    distribution: Distribution = "rademacher",
    *,
    average_window: bool = False,
) -> GradientTransformationExtraArgs:
    """Hutchinson's estimate of the Hessian diagonal of a loss, for AdaHessian and Sophia-H.

    Args:
      seed: the seed of the random key.
      num_samples: the number of products to average at each update.
      distribution: "rademacher" (AdaHessian) or "normal" (Sophia).
      average_window: whether to average absolute values over the window of a convolution kernel (all
        axes but the last two, for leaves with more than two), as AdaHessian does.

    Returns:
      A transformation; `update` takes the parameters and `obj_fn`, the loss as a function of them.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import hutchinson_estimator
      >>> estimator, params = hutchinson_estimator(), jnp.ones(2)
      >>> state = estimator.init(params)
      >>> estimator.update(params, state, params, obj_fn=lambda p: jnp.sum(p**2))[0]
      Array([2., 2.], dtype=float32)
    """
    where = "hutchinson_estimator"

    def diagonal(params: Params, key: jax.Array, obj_fn: Any = None, **_: Any) -> PyTree:
        product = linearize_hessian_vp(_need(where, "obj_fn", obj_fn), params)
        samples = hutchinson_diag(product, params, key, num_samples, distribution=distribution)
        return jax.tree.map(_window_mean, samples.value) if average_window else samples.value

    return _estimator(where, seed, diagonal)


def _window_mean(d: jax.Array) -> jax.Array:
    if d.ndim <= 2:
        return d
    mean = jnp.mean(jnp.abs(d), axis=tuple(range(d.ndim - 2)), keepdims=True)
    return jnp.broadcast_to(mean, d.shape)


@recorded
def activation_estimator(
    loss_fn: Callable[..., Any], seed: int = 0, num_samples: int = 1
) -> GradientTransformationExtraArgs:
    """`hessian_diag_estimate` with random signs at the layers, for Sophia and AdaHessian.

    Args:
      loss_fn: `loss_fn(params, *example)` for one example.
      seed: the seed of the random key.
      num_samples: the number of products to average at each update.

    Returns:
      A transformation; `update` takes the parameters and `batch`, a tuple of arrays with the examples
      along their leading axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import activation_estimator
      >>> estimator = activation_estimator(lambda w, x: 0.5 * (w @ x) ** 2)
      >>> w = jnp.zeros(2)
      >>> estimator.update(w, estimator.init(w), w, batch=(jnp.array([[1.0, 2.0]]),))[0]
      Array([1., 4.], dtype=float32)
    """
    where = "activation_estimator"

    def diagonal(params: Params, key: jax.Array, batch: Any = None, **_: Any) -> PyTree:
        batch = _need(where, "batch", batch)
        return hessian_diag_estimate(
            loss_fn, params, *batch, key=key, num_samples=num_samples
        ).value

    return _estimator(where, seed, diagonal)


@recorded
def gnb_estimator(
    model_fn: Callable[..., Any], likelihood: Likelihood, seed: int = 0
) -> GradientTransformationExtraArgs:
    """The Gauss–Newton–Bartlett estimate of Sophia-G: B·ĝ², at labels sampled from the model.

    ĝ is the gradient of the mean loss, from one backward pass over the batch. Its variance does not
    decrease with the batch size; `ggn_estimator` costs the same and has tens to hundreds of times less.

    Args:
      model_fn: `model_fn(params, x)` for one example; returns the outputs of the likelihood.
      likelihood: a `Likelihood`, such as `categorical()`.
      seed: the seed of the random key.

    Returns:
      A transformation; `update` takes the parameters and `inputs`, with the examples along the leading
      axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import bernoulli, gnb_estimator
      >>> estimator, w = gnb_estimator(lambda w, x: w * x, bernoulli()), jnp.array(0.0)
      >>> estimator.update(w, estimator.init(w), w, inputs=jnp.ones(1))[0]
      Array(0.25, dtype=float32)
    """
    where = "gnb_estimator"

    def diagonal(params: Params, key: jax.Array, inputs: Any = None, **_: Any) -> PyTree:
        batch = Batch(where, (_need(where, "inputs", inputs),))
        leaves, keys = Leaves(where, params), jax.random.split(key, batch.size)

        def total(arrays: list[jax.Array]) -> jax.Array:
            def one(x: Any, key: jax.Array) -> jax.Array:
                f = model_fn(leaves.put(arrays), x)
                y = likelihood.sample(key, jax.lax.stop_gradient(f))
                return as_wide(likelihood.nll(f, y))

            return jnp.mean(jax.vmap(one)(batch.data[0], keys))

        grads = jax.grad(total)(leaves.arrays) if leaves.arrays else []
        return leaves.tree([batch.size * jnp.square(as_wide(g)) for g in grads])

    return _estimator(where, seed, diagonal)


@recorded
def ggn_estimator(
    model_fn: Callable[..., Any],
    likelihood: Likelihood,
    method: GGNMethod = "rademacher",
    seed: int = 0,
    num_samples: int = 1,
) -> GradientTransformationExtraArgs:
    """`ggn_diag` of a likelihood, for Sophia, with one backward pass per sample.

    Args:
      model_fn: `model_fn(params, x)` for one example; returns the outputs of the likelihood.
      likelihood: a `Likelihood`, such as `categorical()`.
      method: "rademacher", "mc" or "exact".
      seed: the seed of the random key.
      num_samples: the number of samples to average at each update.

    Returns:
      A transformation; `update` takes the parameters and `inputs`, with the examples along the leading
      axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_second_order import bernoulli, ggn_estimator
      >>> estimator, w = ggn_estimator(lambda w, x: w * x, bernoulli()), jnp.array(0.0)
      >>> estimator.update(w, estimator.init(w), w, inputs=jnp.ones(3))[0]
      Array(0.25, dtype=float32)
    """
    where = "ggn_estimator"

    def diagonal(params: Params, key: jax.Array, inputs: Any = None, **_: Any) -> PyTree:
        return ggn_diag(
            model_fn,
            likelihood,
            params,
            _need(where, "inputs", inputs),
            method=method,
            key=key,
            num_samples=num_samples,
        )

    return _estimator(where, seed, diagonal)
