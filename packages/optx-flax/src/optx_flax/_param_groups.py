"""Parameter groups with their own settings, as PyTorch's constructors take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from flax import nnx
from optx_core import GradientTransformationExtraArgs, partition
from optx_flax._labels import label_params

_TORCH_NAMES = {"lr": "learning_rate", "betas": "b1 and b2", "alpha": "decay"}


def param_groups(
    model_or_state: Any,
    groups: Sequence[Mapping[str, Any]],
    optimizer: Callable[..., Any],
    *,
    wrt: Any = nnx.Param,
    **defaults: Any,
) -> GradientTransformationExtraArgs:
    """An optimizer with its own settings for each group of parameters.

    Args:
      model_or_state: an `nnx.Module`, or the state of its parameters.
      groups: dicts, of which the first that matches a parameter applies. "params" is its rule or a list
        of rules (a regular expression or an nnx filter, as for `label_params`); a last group without
        one takes the rest. "name" is its label, by default its index as a string. All other entries
        are arguments of `optimizer`.
      optimizer: a function that returns a transformation, such as `optx_aliases.adamw`, or
        `inject_hyperparams(adamw)` for numbers that can be changed between steps:
        `set_hyperparam(optimizer, "learning_rate", 1e-4, label="0")`.
      wrt: which Variables of a model are parameters; as given to `nnx.Optimizer`.
      **defaults: arguments of `optimizer` for groups without them.

    Returns:
      A transformation with a `PartitionState`, one label for each group.

    Raises:
      ValueError: if a parameter is in no group, a group has no parameter, or groups contradict each
        other at a shared Variable; lists the paths.
      TypeError: if `optimizer` has no such argument; names the one for a name of PyTorch's.

    Example:
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import param_groups
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> tx = param_groups(model, [{"params": r"bias$", "decay": 0.5}, {}], trace, decay=0.9)
      >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    """
    if not groups:
        raise ValueError("param_groups: there are no groups")
    rules: dict[Any, str] = {}
    optimizers: dict[Hashable, Any] = {}
    for k, group in enumerate(groups):
        if "params" not in group and k < len(groups) - 1:
            raise ValueError(
                f"param_groups: group {k} has no 'params'; only the last may take the rest"
            )
        name = str(group.get("name", k))
        if name in optimizers:
            raise ValueError(f"param_groups: two groups are called {name!r}")
        settings = {key: v for key, v in group.items() if key not in ("params", "name")}
        _check_arguments(optimizer, {**defaults, **settings}, f"group {name}")
        optimizers[name] = optimizer(**{**defaults, **settings})
        for rule in _rules_of(group.get("params", ...)):
            if rule in rules:
                raise ValueError(f"param_groups: the rule {rule!r} is in two groups")
            rules[rule] = name
    return partition(optimizers, label_params(model_or_state, rules, wrt=wrt))


def _rules_of(params: Any) -> list[Any]:
    return list(params) if isinstance(params, list | tuple) else [params]


def _check_arguments(optimizer: Callable[..., Any], arguments: dict[str, Any], where: str) -> None:
    known = inspect.signature(optimizer).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    for name in arguments:
        if name not in known:
            called = getattr(optimizer, "__name__", repr(optimizer))
            cure = f" (use {_TORCH_NAMES[name]})" if name in _TORCH_NAMES else ""
            raise TypeError(
                f"param_groups: {where}: {called} has no argument {name!r}{cure}; its arguments "
                f"are {', '.join(known)}"
            )
