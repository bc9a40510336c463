"""Filters for the Variables that are trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from flax import nnx
from optx_flax._labels import mask_for
from optx_flax._paths import Path, is_model, is_variable, leaves_with_paths


def trainable(path: Any, value: Any) -> Any:
    """Whether a Variable is an `nnx.Param` of real or complex numbers: an nnx filter, for `wrt`.

    `nnx.grad` refuses integer and boolean parameters with `wrt=nnx.Param`, and `nnx.Optimizer` adds
    updates without a gradient to them. With this filter for both they are not parameters. Called with a
    model and rules it makes a filter for a part of the model.

    Args:
      path: the path of the Variable; or a model.
      value: the Variable; or, with a model, which of its parameters are trained: a rule, a list of
        rules, or a function, as for `mask`. A Variable that is shared between several places is
        trained if one of its paths is matched.

    Returns:
      True for a parameter that has a gradient; with a model, such a filter.

    Raises:
      ValueError: with a model, if a rule matches no parameter.
      TypeError: if the arguments are neither a path and a Variable nor a model and rules.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import trainable
      >>> model = nnx.Dict(w=nnx.Param(jnp.ones(2)), table=nnx.Param(jnp.arange(3)))
      >>> optimizer = nnx.Optimizer(model, trace(0.9), wrt=trainable)
      >>> grads = nnx.grad(lambda m: m["w"][...].sum(), argnums=nnx.DiffState(0, trainable))(model)
      >>> _ = optimizer.update(model, grads)
      >>> [x.shape for x in jax.tree.leaves(optimizer.opt_state)]
      [(2,)]
      >>> only_w = trainable(model, r"^w$")
      >>> list(nnx.state(model, only_w))
      ['w']
    """
    if is_model(path):
        flags = leaves_with_paths(mask_for("trainable", path, value, trainable))
        return _Among(frozenset(place for place, flag in flags if flag))
    if not isinstance(path, tuple) and not is_variable(value):
        raise TypeError(
            "trainable: pass it as a filter, wrt=trainable, or make a filter by rules, "
            f"wrt=trainable(model, rules); the first argument is {path!r}"
        )
    if not isinstance(value, nnx.Param):
        return False
    dtype = getattr(value.get_value(), "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact))


@dataclasses.dataclass(frozen=True)
class _Among:
    """A filter for the Variables at some paths."""

    paths: frozenset[Path]

    def __call__(self, path: Any, value: Any) -> bool:
        del value
        names = path.split("/") if isinstance(path, str) else map(str, path)
        return tuple(names) in self.paths
