"""Perturbed functions: smoothing by noise on the input.

F(x) = E f(x + σZ),   ∇F = E (f(x + σZ) − b)·(−∇log p(Z))ᵀ/σ

where Z is the noise, p its density, σ its scale and b the baseline. The score of the perturbed input enters
through the magic box, which gives derivatives of every order in forward and reverse mode. f itself is never
differentiated.

References: Berthet, Blondel, Teboul, Cuturi, Vert, Bach, "Learning with Differentiable Perturbed
Optimizers", 2020; Abernethy, Lee, Tewari, "Perturbation techniques in online learning and
optimization", 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import check_number, common_real_dtype
from optx_estimators._baseline import Baseline
from optx_estimators._errors import EstimatorError
from optx_estimators._location_scale import Gumbel
from optx_estimators._magic_box import magic_box
from optx_estimators._method import Aux
from optx_estimators._problem import fixed

_GUMBEL = Gumbel()


def make_perturbed_fun(
    fun: Callable[[PyTree], PyTree],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    use_baseline: bool = True,
    *,
    baseline: Baseline | None = None,
    antithetic: bool = False,
) -> Callable[[jax.Array, PyTree], PyTree]:
    """Smooths a function by averaging its values at perturbed inputs; `fun` is not differentiated.

    Args:
      fun: a function from a tree of arrays to a tree of arrays, for example an argmax.
      num_samples: N, the number of perturbations.
      sigma: σ > 0, the scale of the perturbations.
      noise: `Gumbel()` or `Normal()`, or any object with `sample(sample_shape, seed)` and
        `log_prob` of scalars.
      use_baseline: whether to subtract `fun` at the unperturbed input. This takes one more
        evaluation and removes most of the variance.
      baseline: a `Baseline` to use instead, with one value per sample and no state, such as
        `leave_one_out()`; it applies to every entry of the output.
      antithetic: whether perturbations come in pairs Z, −Z. It needs symmetric noise (`Normal`), and
        excludes `leave_one_out`.

    Returns:
      `perturbed(key, inputs)`, with the output structure of `fun`.

    Raises:
      EstimatorError: if the options contradict one another.
      ValueError: if `sigma` is not positive.
      TypeError: if `noise` has no `sample` or no `log_prob`; when it is called, if an input is not
        floating-point or an output is not real.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import make_perturbed_fun
      >>> def argmax(x):
      ...     return jax.nn.one_hot(jnp.argmax(x), 3)
      >>> soft = make_perturbed_fun(argmax, num_samples=10_000, sigma=1.0)
      >>> x = jnp.array([0.0, 1.0, 2.0])   # Gumbel noise: the expectation is softmax(x)
      >>> bool(jnp.allclose(soft(jax.random.key(0), x), jax.nn.softmax(x), atol=0.02))
      True
    """
    check_number("make_perturbed_fun", above=0, sigma=sigma)
    if num_samples < 1:
        raise EstimatorError(
            f"make_perturbed_fun: num_samples must be at least 1, not {num_samples}"
        )
    if not (hasattr(noise, "sample") and hasattr(noise, "log_prob")):
        raise TypeError(f"make_perturbed_fun: noise needs sample and log_prob, not {noise!r}")
    if antithetic and not getattr(noise, "symmetric", False):
        raise EstimatorError(
            f"make_perturbed_fun: antithetic pairs need symmetric noise such as Normal(), not {noise!r}"
        )
    if antithetic and (num_samples % 2 or (baseline is not None and baseline.unit != 1)):
        raise EstimatorError(
            "make_perturbed_fun: antithetic pairs need an even num_samples, and a baseline that does "
            "not compare samples with one another"
        )
    if baseline is not None and baseline.per_parameter:
        raise EstimatorError(
            "make_perturbed_fun needs a baseline with one value per sample, such as leave_one_out()"
        )

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        n = num_samples // 2 if antithetic else num_samples
        z = jnp.asarray(noise.sample((n, *shape), key)).astype(dtype)
        return jnp.concatenate([z, -z]) if antithetic else z

    def perturbed(key: jax.Array, inputs: PyTree) -> PyTree:
        leaves, structure = jax.tree_util.tree_flatten(inputs)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        rows, log_prob = [], jnp.zeros((num_samples,), jnp.float32)
        for k, x in zip(jax.random.split(key, max(len(leaves), 1)), leaves, strict=False):
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise TypeError(f"make_perturbed_fun: inputs must be floating-point, not {x.dtype}")
            wide = x.astype(common_real_dtype(x.dtype))[None]
            z = draw(k, x.shape, wide.dtype)
            scale = jnp.asarray(sigma, wide.dtype)
            at = lax.stop_gradient(wide + scale * z)
            score_of = noise.log_prob((at - wide) / scale)
            total = jnp.sum(score_of.reshape(num_samples, -1), axis=1)
            log_prob = log_prob.astype(total.dtype) + total
            rows.append(at.astype(x.dtype))
        box = magic_box(log_prob)
        outputs = jax.vmap(lambda *xs: fun(jax.tree_util.tree_unflatten(structure, xs)))(*rows)
        center = fun(fixed(inputs)) if use_baseline and baseline is None else None

        def smooth(out: jax.Array, at_center: jax.Array | None) -> jax.Array:
            out = lax.stop_gradient(out.astype(common_real_dtype(_real(out.dtype))))
            flat = out.reshape(num_samples, -1)
            weight = box.astype(out.dtype)[:, None]
            if baseline is not None:
                b = jax.vmap(
                    lambda f: jnp.broadcast_to(
                        jnp.asarray(baseline.value((), Aux(f), None), f.dtype), f.shape
                    ),
                    in_axes=1,
                    out_axes=1,
                )(flat)
            elif at_center is not None:
                held = at_center.astype(out.dtype).reshape(1, -1)
                b = jnp.broadcast_to(held, flat.shape)
            else:
                b = jnp.zeros_like(flat)
            mean = jnp.mean(weight * flat + (1 - weight) * b, axis=0)
            return mean.reshape(out.shape[1:])

        if center is None:
            return jax.tree_util.tree_map(lambda out: smooth(out, None), outputs)
        center = jax.tree_util.tree_map(jnp.asarray, center)
        return jax.tree_util.tree_map(smooth, outputs, center)

    return perturbed


def _real(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError("make_perturbed_fun: fun must return real numbers")
    return dtype
