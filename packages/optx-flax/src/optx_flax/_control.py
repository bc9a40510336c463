"""Hyper-parameters and measurements of an `nnx.Optimizer`, and changes of them between steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import optx_core
from flax import nnx
from optx_flax._paths import leaves_with_paths


def hyperparams(optimizer: nnx.Optimizer) -> dict[str, Any]:
    """The hyper-parameters of an optimizer at its next update, schedules evaluated.

    Args:
      optimizer: the `nnx.Optimizer`.

    Returns:
      The values by name, as of `optx_core.hyperparams`.

    Raises:
      TypeError: if its transformation was not made by a recorded function.

    Example:
      >>> from flax import nnx
      >>> from optx_core import scale_by_learning_rate
      >>> from optx_flax import hyperparams
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> tx = scale_by_learning_rate(lambda count: 0.5**count)
      >>> hyperparams(nnx.Optimizer(model, tx, wrt=nnx.Param))
      {'learning_rate': Array(1., dtype=float32)}
    """
    return optx_core.hyperparams(optimizer.tx, nnx.as_pure(optimizer.opt_state))


def metrics(optimizer: nnx.Optimizer) -> dict[str, Any]:
    """The measurements in an optimizer's state, by name.

    Args:
      optimizer: the `nnx.Optimizer`.

    Returns:
      Arrays by name, as of `optx_core.metrics`: the measurements of `monitor`, the number of skipped
      steps, the loss scale.

    Example:
      >>> from flax import nnx
      >>> from optx_core import apply_if_finite, scale
      >>> from optx_flax import metrics
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, apply_if_finite(scale(-0.1), 3), wrt=nnx.Param)
      >>> sorted(metrics(optimizer))
      ['last_finite', 'notfinite_count', 'total_notfinite']
    """
    return optx_core.metrics(nnx.as_pure(optimizer.opt_state))


def learning_rates(optimizer: nnx.Optimizer) -> dict[str, Any]:
    """The effective learning rate of each group of an optimizer at its next update.

    Args:
      optimizer: the `nnx.Optimizer`.

    Returns:
      The learning rates by place, as of `optx_core.learning_rates`: schedules, the scale of
      `reduce_on_plateau` and injected numbers multiplied.

    Raises:
      TypeError: if its transformation was not made by a recorded function.

    Example:
      >>> from flax import nnx
      >>> from optx_core import chain, scale, scale_by_learning_rate
      >>> from optx_flax import learning_rates
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> tx = chain(scale_by_learning_rate(0.5), scale(0.5))
      >>> learning_rates(nnx.Optimizer(model, tx, wrt=nnx.Param))
      {'learning_rate': 0.25}
    """
    return optx_core.learning_rates(optimizer.tx, nnx.as_pure(optimizer.opt_state))


def eval_params(
    model: nnx.Module,
    optimizer: nnx.Optimizer,
    read: Callable[[Any, Any], Any] = optx_core.eval_params,
) -> nnx.State:
    """The averaged parameters that an optimizer keeps in its state, for a copy of the model.

    Args:
      model: the model that the optimizer trains.
      optimizer: the `nnx.Optimizer`, with `optx_core.with_ema` or `optx_core.lookahead` at any depth.
      read: a function of the optimizer's state and the parameters, as trees of arrays, such as
        `optx_aliases.schedule_free_eval_params`.

    Returns:
      An `nnx.State` with the structure, the shapes and the dtypes of the model's parameters.

    Raises:
      KeyError: if the optimizer keeps no average, or several.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import scale, with_ema
      >>> from optx_flax import eval_params
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, with_ema(scale(-1.0), 0.5), wrt=nnx.Param)
      >>> _ = optimizer.update(model, nnx.grad(lambda m: m.bias.sum())(model))
      >>> averaged = nnx.clone(model)
      >>> nnx.update(averaged, eval_params(model, optimizer))
      >>> model.bias[...], averaged.bias[...]
      (Array([-1., -1., -1.], dtype=float32), Array([-0.5, -0.5, -0.5], dtype=float32))
    """
    params = nnx.state(model, optimizer.wrt)
    averages = read(nnx.as_pure(optimizer.opt_state), nnx.as_pure(params))
    state: nnx.State = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(averages))
    return state


def set_hyperparam(
    optimizer: nnx.Optimizer, name: str, value: Any, label: str | None = None
) -> None:
    """Changes a hyper-parameter from the next update on, without a compilation.

    Args:
      optimizer: the `nnx.Optimizer`, whose transformation keeps the number in its state, such as
        `inject_hyperparams(adamw)(learning_rate=1e-3)`.
      name: the name of the hyper-parameter, such as "learning_rate" or "betas[0]", or its place, as
        `hyperparams` gives it: "1/decay/learning_rate".
      value: the new value, which takes the dtype and the device of the old one.
      label: the group (of `partition`, `param_groups`, `named_chain`) to change, where several have
        such a number.

    Raises:
      KeyError: if the state has no such number, or several; lists them with the cure.
      ValueError: if a schedule sets the number, or the value has another shape.

    Example:
      >>> from flax import nnx
      >>> from optx_core import inject_hyperparams, trace
      >>> from optx_flax import hyperparams, set_hyperparam
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, inject_hyperparams(trace)(decay=0.9), wrt=nnx.Param)
      >>> set_hyperparam(optimizer, "decay", 0.5)
      >>> hyperparams(optimizer)
      {'decay': Array(0.5, dtype=float32)}
    """
    slots = leaves_with_paths(optimizer.opt_state)
    injected = [(path, slot) for path, slot in slots if path[-2:-1] == ("hyperparams",)]
    *groups, last = [*([] if label is None else [str(label)]), *name.split("/")]
    matching = [
        (path, slot) for path, slot in injected if path[-1] == last and _among(groups, path[:-2])
    ]
    if not matching:
        listed = ", ".join(_show(path) for path, _ in injected)
        cure = (
            f"the state has {listed}"
            if injected
            else "make the optimizer with inject_hyperparams, as inject_hyperparams(adamw)(learning_rate="
            "1e-3), so that its numbers are in its state"
        )
        where = f" under {label!r}" if label is not None else ""
        raise KeyError(f"set_hyperparam: no {name!r}{where} can be set; {cure}")
    if len(matching) > 1:
        raise KeyError(
            f"set_hyperparam: there are several {name!r}: "
            f"{', '.join(_show(path) for path, _ in matching)}; choose one with label=, or give its place"
        )
    ((path, slot),) = matching
    scheduled = (*path[:-2], "hyperparams_states", last)
    if any(other[: len(scheduled)] == scheduled for other, _ in slots):
        raise ValueError(
            f"set_hyperparam: a schedule sets {name!r} at every step; make the optimizer with a "
            "number in its place"
        )
    old = slot.get_value()
    if jnp.shape(value) != old.shape:
        raise ValueError(
            f"set_hyperparam: {name!r} has the shape {old.shape}, not {jnp.shape(value)}"
        )
    new = jnp.asarray(value, old.dtype)
    if not any(isinstance(x, jax.core.Tracer) for x in (new, old)):
        new = jax.device_put(new, old.sharding) if old.committed else new
    slot.set_value(new)


def _among(groups: list[str], path: tuple[str, ...]) -> bool:
    """Returns whether a path contains these steps in this order."""
    steps = iter(path)
    return all(group in steps for group in groups)


def _show(path: tuple[str, ...]) -> str:
    """The path of a number without the fields that all paths have in common."""
    shown = [k for k in path if k not in ("inner_states", "inner_state", "hyperparams")]
    return repr("/".join(shown))
