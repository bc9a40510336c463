"""Labels for the parameters of an NNX model, by their path as one string.

jax's own key paths hold key objects, so `'bias' in path` is False for every parameter; and
`nnx.Optimizer` hands Variables to `init` but plain arrays to `update`. Labels made here know
neither trap: paths are strings like `dense/bias`, and labels are plain strings in plain containers,
which `optx_core.partition` matches by path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax

from flax import nnx
from optx_core import PyTree, tree

Label = Hashable
Rules = Callable[[str, Any], Label] | Mapping[Any, Label]


def label_params(
    model_or_state: Any, rules: Rules, *, wrt: Any = nnx.Param, default: Label | None = None
) -> PyTree:
    """A label for each parameter of a model, for `partition`.

    Args:
      model_or_state: an `nnx.Module`, or the `nnx.State` (or dict) of its parameters.
      rules: a function `(path, value) -> label`, where the path is a string like
        "layers/0/kernel"; or a dict from rules to labels, of which the first that matches wins. A
        rule is a regular expression searched for in the path, or an nnx filter, such as a Variable
        type.
      wrt: which Variables of a model are parameters; as given to `nnx.Optimizer`.
      default: the label of parameters that no rule of a dict matches; None to refuse them.

    Returns:
      Nested plain dicts of labels, with the structure of the state.

    Raises:
      ValueError: if a parameter matches no rule, or a rule no parameter (the one that shadows it is
        named); lists the paths.

    Example:
      >>> from flax import nnx
      >>> from optx_flax import label_params
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> label_params(model, {r"bias$": "biases", r"kernel$": "kernels"})
      {'bias': 'biases', 'kernel': 'kernels'}
    """
    state = nnx.state(model_or_state, wrt) if _is_module(model_or_state) else model_or_state
    pairs, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_variable)
    named = [(_path_string(path), path, value) for path, value in pairs]
    labels = _by_function(named, rules) if callable(rules) else _by_rules(named, rules, default)
    return _nested([path for _, path, _ in named], labels)


def mask(model_or_state: Any, rules: Any, *, wrt: Any = nnx.Param) -> PyTree:
    """True where a rule holds: for `optx_core.masked`, or the `mask` of an optimizer.

    Args:
      model_or_state: an `nnx.Module`, or the state of its parameters.
      rules: a function `(path, value) -> bool`; a rule, or a list of rules, as in `label_params`, of
        which one must match.
      wrt: which Variables of a model are parameters.

    Returns:
      Nested plain dicts of bools, with the structure of the state.

    Raises:
      ValueError: if a rule matches no parameter.

    Example:
      >>> from flax import nnx
      >>> from optx_flax import mask
      >>> mask(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), r"kernel$")
      {'bias': False, 'kernel': True}
    """
    if callable(rules) and not isinstance(rules, type):
        return label_params(model_or_state, lambda path, p: bool(rules(path, p)), wrt=wrt)
    listed = rules if isinstance(rules, list | tuple) else [rules]
    return label_params(model_or_state, dict.fromkeys(listed, True), wrt=wrt, default=False)


def _is_module(x: Any) -> bool:
    return isinstance(x, nnx.Module)


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)


def _path_string(path: tuple[Any, ...]) -> str:
    return tree.show_path(path)


def _by_function(named: list[tuple[str, Any, Any]], rules: Callable[[str, Any], Label]) -> list:
    return [rules(name, value) for name, _, value in named]


def _by_rules(
    named: list[tuple[str, Any, Any]], rules: Mapping[Any, Label], default: Label | None
) -> list[Label]:
    tests = [(rule, _predicate(rule), label) for rule, label in rules.items()]
    labels, missing = [], []
    wins: dict[Any, int] = dict.fromkeys(rules, 0)
    shadowed_by: dict[Any, Any] = {}
    for name, path, value in named:
        matching = [(rule, label) for rule, holds, label in tests if holds(name, path, value)]
        if not matching:
            missing.append(name)
            labels.append(default)
            continue
        winner, label = matching[0]
        wins[winner] += 1
        for rule, _ in matching[1:]:
            shadowed_by.setdefault(rule, winner)
        labels.append(label)
    if missing and default is None:
        raise ValueError(
            f"label_params: no rule of {list(rules)} matches {', '.join(missing)}; add a rule, or "
            "pass default="
        )
    unused = [rule for rule, count in wins.items() if not count]
    if unused:
        reasons = [
            f"{rule!r}" + (f" (shadowed by {shadowed_by[rule]!r})" if rule in shadowed_by else "")
            for rule in unused
        ]
        raise ValueError(
            f"label_params: the rule {', '.join(reasons)} matches no parameter; the parameters are "
            f"{', '.join(name for name, _, _ in named)}"
        )
    return labels


def _predicate(rule: Any) -> Callable[[str, Any, Any], bool]:
    if isinstance(rule, str | re.Pattern):
        pattern = re.compile(rule)
        return lambda name, path, value: pattern.search(name) is not None
    holds = nnx.filterlib.to_predicate(rule)
    return lambda name, path, value: holds(tuple(name.split("/")), value)


def _nested(paths: list[Any], labels: list[Label]) -> PyTree:
    """The labels in nested dicts, free of nnx's containers."""
    made: dict[Any, Any] = {}
    for path, label in zip(paths, labels, strict=True):
        if not path:
            return label
        inner = made
        for key in path[:-1]:
            inner = inner.setdefault(_plain_key(key), {})
        inner[_plain_key(path[-1])] = label
    return made


def _plain_key(key: Any) -> Any:
    for name in ("key", "name", "idx"):
        if hasattr(key, name):
            return getattr(key, name)
    return key
