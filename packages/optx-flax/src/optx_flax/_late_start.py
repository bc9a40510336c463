"""Parameters that join the training later, with counts of their own.

m̂ = m / (1 − bᵗ) corrects the bias of an average that started at zero t steps ago. An optimizer has one t
for all its parameters, so the zero moments of a parameter that joins at t = 1,000 are not corrected: it
moves about (1 − b1)/√(1 − b2), three times the learning rate. Here the optimizer is run with the counts of
each cohort of parameters, and each parameter takes the results of its own. Whatever the optimizer measures
over the whole tree is the same in each run. Under `jit` the unused results are not computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax import nnx
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    TreeMismatchError,
    Updates,
    tree,
    with_extra_args_support,
)
from optx_core.build import (
    InnerState,
    Slot,
    call_of,
    check_transformation_like,
    is_count,
    kinds_of,
    recorded,
    wrapping,
)
from optx_flax._paths import Path, flatten, is_variable, keys, leaves_with_paths, nested

Cohorts = tuple[tuple[str, ...], ...]
Ages = dict[Path, dict[Path, int]]
"""The count of each parameter, by the path of the count and that of the parameter."""


class LateStartState(NamedTuple):
    """State of `late_start`.

    Attributes:
      inner_state: the optimizer's state; its counts are those of the parameters that were there first.
      counts: for each count of the state that stands beside moments, by its path, a tree of int32
        scalars: the counts of the parameters that joined later, by their paths. Nested dicts.
    """

    inner_state: InnerState
    counts: dict[str, Any]


@recorded
def late_start(tx: Any, *cohorts: str | Sequence[str]) -> GradientTransformationExtraArgs:
    """An optimizer in which some parameters start later than the others, with counts of their own.

    `migrate_opt_state` and `restore_into` put it around an optimizer where parameters without moments
    join others that have been trained. The first moves of such a parameter are those of a new optimizer;
    schedules go on as they are. What an optimizer measures over all parameters (the distance of
    `prodigy`), the weights that `schedule_free` sums and the first-step flag of the optimistic optimizers
    are not restarted. Under `jit` the cost is that
    of the optimizer alone, in tracing and without `jit` it is that of one optimizer for each cohort.

    Args:
      tx: the optimizer.
      *cohorts: the paths of the parameters that start together, such as "layers/0/kernel": a string or a
        list of strings for each cohort. All other parameters have the optimizer's own counts.

    Returns:
      A transformation with a `LateStartState`.

    Raises:
      TypeError: if `tx` is not a transformation.
      ValueError: if a parameter is in two cohorts; from `init`, if the state holds arrays that do not
        tell their parameter (the scales of `quantize_state`).
      TreeMismatchError: from `init` and `update`, if there is no such parameter.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import ema
      >>> from optx_flax import late_start
      >>> tx = late_start(ema(0.9, debias=True), "new")
      >>> state = tx.init({"new": jnp.zeros(1), "old": jnp.zeros(1)})
      >>> state.inner_state.count, state.counts
      (Array(0, dtype=int32), {'count': {'new': Array(0, dtype=int32)}})
    """
    check_transformation_like("late_start", tx)
    names = [(c,) if isinstance(c, str) else tuple(c) for c in cohorts]
    groups = [[tuple(name.split("/")) for name in group] for group in names]
    twice = [p for p, n in Counter(p for group in groups for p in group).items() if n > 1]
    if twice:
        raise ValueError(f"late_start: {'/'.join(twice[0])} is in two cohorts")
    inner = with_extra_args_support(tx)

    def init(params: Params) -> LateStartState:
        state = inner.init(params)
        known = _param_paths(params)
        _check_known(groups, known)
        pure = nnx.as_pure(state)
        own = own_counts(pure)
        _check_owned(pure, known)
        values = dict(leaves_with_paths(pure))
        late = [p for group in groups for p in group]
        pairs = [((*place, *p), jnp.zeros_like(values[place])) for place in own for p in late]
        return LateStartState(state, nested(pairs))

    def update(
        updates: Updates, state: LateStartState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, LateStartState]:
        known = _param_paths(updates if params is None else params)
        _check_known(groups, known)
        own = own_counts(state.inner_state)
        counts = dict(leaves_with_paths(state.counts))
        steps, states = [], []
        for group in [[], *groups]:
            theirs = {place: counts[(*place, *group[0])] for place in own} if group else {}
            step, new = inner.update(
                updates, _with_leaves(state.inner_state, theirs), params, **extra_args
            )
            steps.append(step)
            states.append(new)
        run = {p: k for k, group in enumerate(groups, start=1) for p in group}
        renewed = [dict(leaves_with_paths(new)) for new in states]
        pairs = [
            ((*place, *p), renewed[k][place]) for place in own for p, k in run.items()
        ]  # fmt: skip
        return (
            _chosen(steps, lambda path: run.get(path, 0)),
            LateStartState(
                _chosen(states, lambda path: run.get(owner(path, known), 0)), nested(pairs)
            ),
        )

    return wrapping(init, update)


def owner(path: Path, params: set[Path]) -> Path:
    """The parameter whose path ends a slot's path; () for a count and the like."""
    for k in range(1, len(path)):
        if path[k:] in params:
            return path[k:]
    return ()


def own_counts(opt_state: Any) -> list[Path]:
    """The paths of the counts that stand beside slots of the parameters: those of bias corrections.

    The counts of schedules and of wrappers stand alone. A state whose class declares no fields (another
    library's) calls its own `count`.
    """
    found: list[Path] = []
    for path, node in _states(opt_state):
        kinds = kinds_of(type(node))
        if _has_slots(node):
            names = [n for n in node._fields if is_count(kinds.get(n)) and not kinds[n].measured]
        else:
            names = ["count"] if not kinds and {"count", "mu"} <= set(node._fields) else []
        found += [(*path, name) for name in names]
    return found


def _states(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The NamedTuples of a state with their paths, the outer ones first."""
    if is_variable(node) or not isinstance(node, tuple | list | dict | nnx.State):
        return
    if hasattr(node, "_fields"):
        yield path, node
        items: Any = zip(node._fields, node, strict=True)
    else:
        items = enumerate(node) if isinstance(node, tuple | list) else node.items()
    for key, child in items:
        yield from _states(child, (*path, str(key)))


def _has_slots(state: Any) -> bool:
    return any(isinstance(kind, Slot) for kind in kinds_of(type(state)).values())


def moments(opt_state: Any) -> dict[Path, dict[Path, list[Path]]]:
    """The slots that stand beside each count of `own_counts`: their paths, by that of the parameter."""
    found: dict[Path, dict[Path, list[Path]]] = {}
    own = set(own_counts(opt_state))
    for path, node in _states(opt_state):
        places = [(*path, name) for name in node._fields if (*path, name) in own]
        if not places:
            continue
        kinds = kinds_of(type(node))
        fields = [n for n in node._fields if isinstance(kinds.get(n), Slot)]
        fields = fields or [n for n in node._fields if (*path, n) not in own]
        of: dict[Path, list[Path]] = {}
        for name in fields:
            for p, _ in leaves_with_paths(nnx.as_pure(getattr(node, name))):
                of.setdefault(p, []).append((*path, name, *p))
        found.update(dict.fromkeys(places, of))
    return found


def base_of(tx: Any) -> Any:
    """The optimizer within `late_start`."""
    call = call_of(tx)
    return call.arguments["tx"] if call is not None and call.function is late_start else tx


def is_late(tx: Any) -> bool:
    """Returns whether a transformation comes from `late_start`."""
    return base_of(tx) is not tx


def set_ages(optimizer: Any, ages: Ages, common: Mapping[Path, int]) -> Cohorts:
    """Sets the counts of an `nnx.Optimizer`, and puts `late_start` around it where they differ.

    Args:
      optimizer: the `nnx.Optimizer`; changed in place.
      ages: the count that each parameter is to have, at each count beside moments.
      common: the optimizer's own counts, for the other parameters.

    Returns:
      The cohorts of the parameters whose counts are not the optimizer's own.
    """
    remove_late_start(optimizer)
    slots = dict(leaves_with_paths(optimizer.opt_state))
    for place, age in common.items():
        slots[place].set_value(_count_like(slots[place], age))
    groups: list[tuple[dict[Path, int], list[Path]]] = []
    for p in sorted({p for of in ages.values() for p in of}):
        own = {place: of[p] for place, of in ages.items() if p in of}
        if any(age != common[place] for place, age in own.items()):
            for known, members in groups:
                if all(known.get(place, age) == age for place, age in own.items()):
                    known.update(own)
                    members.append(p)
                    break
            else:
                groups.append((own, [p]))
    if not groups:
        return ()
    cohorts = tuple(tuple("/".join(p) for p in members) for _, members in groups)
    counts = {
        (*place, *p): nnx.optimizer.OptArray(_count_like(slots[place], known.get(place, age)))
        for known, members in groups
        for place, age in common.items()
        for p in members
    }
    optimizer.tx = late_start(optimizer.tx, *cohorts)
    optimizer.opt_state = nnx.data(LateStartState(optimizer.opt_state, nested([*counts.items()])))
    return cohorts


def inner_state_of(optimizer: Any) -> Any:
    """The state of the optimizer within `late_start`, or its own."""
    return optimizer.opt_state.inner_state if is_late(optimizer.tx) else optimizer.opt_state


def remove_late_start(optimizer: Any) -> None:
    """Takes `late_start` off an `nnx.Optimizer`; its counts are then one for all parameters."""
    if is_late(optimizer.tx):
        inner = inner_state_of(optimizer)
        optimizer.tx, optimizer.opt_state = base_of(optimizer.tx), nnx.data(inner)


def _count_like(slot: Any, value: int) -> Any:
    return jnp.full_like(slot.get_value(), value)


def _param_paths(params: Any) -> set[Path]:
    def stop(x: Any) -> bool:
        return is_variable(x) or tree.is_placeholder(x)

    pairs, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=stop)
    return {keys(path) for path, _ in pairs}


def _check_known(groups: list[list[Path]], known: set[Path]) -> None:
    unknown = ["/".join(p) for group in groups for p in group if p not in known]
    if unknown:
        raise TreeMismatchError(
            f"late_start: there is no parameter {unknown[0]}; the parameters are "
            f"{', '.join(sorted('/'.join(p) for p in known))}"
        )


def _check_owned(state: OptState, known: set[Path]) -> None:
    homes = dict(_states(state))
    for path, x in leaves_with_paths(state):
        if np.ndim(x) and not owner(path, known) and "hyperparams" not in path:
            home = max((p for p in homes if path[: len(p)] == p), key=len, default=None)
            if home is None or not _has_slots(homes[home]):
                raise ValueError(
                    f"late_start: opt_state/{'/'.join(path)} does not tell its parameter, so parameters "
                    "cannot join this optimizer later; give them one of their own (partition)"
                )


def _with_leaves(state: OptState, values: Mapping[Path, Any]) -> OptState:
    leaves, structure = flatten(state)
    paths = [path for path, _ in leaves_with_paths(state)]
    pairs = zip(paths, leaves, strict=True)
    return structure.unflatten([values.get(path, x) for path, x in pairs])


def _chosen(trees: list[Any], which: Any) -> Any:
    """Each leaf from the tree that `which(path)` names; all have one structure."""
    _, structure = flatten(trees[0])
    leaves = [[x for _, x in leaves_with_paths(one)] for one in trees]
    paths = [path for path, _ in leaves_with_paths(trees[0])]
    return structure.unflatten([leaves[which(path)][k] for k, path in enumerate(paths)])
