"""Labels for the parameters of an NNX model, by their path as one string.

jax's own key paths hold key objects, so `'bias' in path` is False for every parameter, and
`nnx.Optimizer` passes Variables to `init` but plain arrays to `update`. Here paths are strings like
`dense/bias`, and labels are strings in plain containers, which `optx_core.partition` matches by path.

A Variable that stands in several places of a model (tied weights) has several paths. A rule matches it if
it matches any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from flax import nnx
from optx_core import PyTree, tree
from optx_flax._paths import is_variable, keys, nested, params_of, shared_paths

Label = Hashable
Rules = Callable[[str, Any], Label] | Mapping[Any, Label] | Iterable[tuple[Any, Label]]


class _Param(NamedTuple):
    """A parameter: its key path in the state, all its paths in the model as strings, its value."""

    path: tuple[Any, ...]
    names: list[str]
    value: Any


def label_params(
    model_or_state: Any, rules: Rules, *, wrt: Any = nnx.Param, default: Label | None = None
) -> PyTree:
    """Labels the parameters of a model, for `partition`.

    Args:
      model_or_state: an `nnx.Module`, or the `nnx.State` (or dict) of its parameters. Only a module
        tells all paths of a shared Variable.
      rules: a function `(path, value) -> label`, where the path is a string like
        "layers/0/kernel"; or a dict from rules to labels (or its pairs), of which the first that
        matches wins. A rule is a regular expression searched for in the path, or an nnx filter, such
        as a Variable type. A shared Variable is matched by any of its paths.
      wrt: which Variables of a model are parameters; as given to `nnx.Optimizer`.
      default: the label of parameters that no rule of a dict matches; None to refuse them.

    Returns:
      Nested plain dicts of labels, with the structure of the state.

    Raises:
      ValueError: if a parameter matches no rule; if a rule matches no parameter (the one that shadows
        it is named); if rules contradict each other at a shared Variable. Lists the paths.
      TypeError: if the rules are neither a function, a dict nor pairs.

    Example:
      >>> from flax import nnx
      >>> from optx_flax import label_params
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> label_params(model, {r"bias$": "biases", r"kernel$": "kernels"})
      {'bias': 'biases', 'kernel': 'kernels'}
    """
    params = _params("label_params", model_or_state, wrt)
    if callable(rules):
        labels = [_by_function(param, rules) for param in params]
    else:
        labels = _by_rules("label_params", params, _as_dict(rules), default)
    return _tree(params, labels)


def mask(model_or_state: Any, rules: Any, *, wrt: Any = nnx.Param) -> PyTree:
    """A mask that is True where a rule matches: for `optx_core.masked`, or an optimizer's `mask`.

    Args:
      model_or_state: an `nnx.Module`, or the state of its parameters.
      rules: a function `(path, value) -> bool`; a rule, or a list of rules, as in `label_params`, of
        which one must match. A shared Variable is matched by any of its paths.
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
    return mask_for("mask", model_or_state, rules, wrt)


def mask_for(where: str, model_or_state: Any, rules: Any, wrt: Any) -> PyTree:
    """`mask` for a function that is named in errors."""
    params = _params(where, model_or_state, wrt)
    is_filter = isinstance(rules, type) or type(rules).__module__.startswith("flax.")
    if callable(rules) and not is_filter:
        flags: list[Any] = [any(bool(rules(n, p.value)) for n in p.names) for p in params]
    else:
        listed = rules if isinstance(rules, list | tuple) else [rules]
        flags = _by_rules(where, params, dict.fromkeys(listed, True), False)
    return _tree(params, flags)


def _params(where: str, model_or_state: Any, wrt: Any) -> list[_Param]:
    state = params_of(where, model_or_state, wrt)
    shared = shared_paths(model_or_state)
    pairs, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_variable)
    others = {
        path: ["/".join(p) for p in shared.get(keys(path), ()) if p != keys(path)]
        for path, _ in pairs
    }
    return [_Param(path, [tree.show_path(path), *others[path]], value) for path, value in pairs]


def _tree(params: list[_Param], labels: list[Any]) -> PyTree:
    paths = [tuple(map(_plain_key, param.path)) for param in params]
    return nested(list(zip(paths, labels, strict=True)))


def _as_dict(rules: Any) -> dict[Any, Label]:
    if isinstance(rules, Mapping):
        return dict(rules)
    pairs: list[Any] = list(rules) if isinstance(rules, list | tuple) else [None]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            "label_params: the rules must be a function of path and value, a dict from rules to "
            f"labels, or (rule, label) pairs, not {rules!r}"
        )
    twice = [rule for k, (rule, _) in enumerate(pairs) if rule in [r for r, _ in pairs[:k]]]
    if twice:
        raise ValueError(f"label_params: the rule {twice[0]!r} is given twice")
    return dict(pairs)


def _by_function(param: _Param, rules: Callable[[str, Any], Label]) -> Label:
    labels = [rules(name, param.value) for name in param.names]
    for name, label in zip(param.names, labels, strict=True):
        if label != labels[0]:
            raise ValueError(
                f"label_params: {param.names[0]} and {name} are one Variable, and the function labels "
                f"it {labels[0]!r} and {label!r}; return the same label for both paths"
            )
    return labels[0]


def _by_rules(
    where: str, params: list[_Param], rules: Mapping[Any, Label], default: Label | None
) -> list[Label]:
    tests = {rule: _predicate(where, rule) for rule in rules}
    labels, missing = [], []
    wins: dict[Any, int] = dict.fromkeys(rules, 0)
    shadowed_by: dict[Any, Any] = {}
    for param in params:
        hits = {
            rule: [name for name in param.names if holds(name, param.value)]
            for rule, holds in tests.items()
        }
        matching = [rule for rule in rules if hits[rule]]
        if not matching:
            missing.append(param.names[0])
            labels.append(default)
            continue
        winner = matching[0]
        _check_agreement(where, rules, hits, matching)
        wins[winner] += 1
        for rule in matching[1:]:
            shadowed_by.setdefault(rule, winner)
        labels.append(rules[winner])
    if missing and default is None:
        raise ValueError(
            f"{where}: no rule of {list(rules)} matches {', '.join(missing)}; add a rule, or "
            "pass default="
        )
    unused = [rule for rule, count in wins.items() if not count]
    if unused:
        reasons = [
            f"{rule!r}" + (f" (shadowed by {shadowed_by[rule]!r})" if rule in shadowed_by else "")
            for rule in unused
        ]
        raise ValueError(
            f"{where}: the rule {', '.join(reasons)} matches no parameter; the parameters are "
            f"{', '.join(name for param in params for name in param.names)}"
        )
    return labels


def _check_agreement(
    where: str, rules: Mapping[Any, Label], hits: Mapping[Any, list[str]], matching: list[Any]
) -> None:
    """Refuses rules that match a shared Variable by different paths and give it different labels.

    A rule that also matches where the first one does, such as a last rule for the rest, comes after it by
    the order of the rules.
    """
    first = matching[0]
    for rule in matching[1:]:
        if rules[rule] != rules[first] and not set(hits[rule]) & set(hits[first]):
            raise ValueError(
                f"{where}: {hits[first][0]} and {hits[rule][0]} are one Variable; the rule {first!r} "
                f"labels it {rules[first]!r}, the rule {rule!r} {rules[rule]!r}. Put a rule that "
                "matches both paths before them"
            )


def _predicate(where: str, rule: Any) -> Callable[[str, Any], bool]:
    if isinstance(rule, str | re.Pattern):
        pattern = re.compile(rule)
        return lambda name, value: pattern.search(name) is not None
    if isinstance(rule, tuple | list):
        raise TypeError(
            f"{where}: a rule is a regular expression or an nnx filter, not {rule!r}; use nnx.Any for "
            "several filters"
        )
    holds = nnx.filterlib.to_predicate(rule)
    return lambda name, value: holds(tuple(name.split("/")), value)


def _plain_key(key: Any) -> Any:
    for name in ("key", "name", "idx"):
        if hasattr(key, name):
            return getattr(key, name)
    return key
