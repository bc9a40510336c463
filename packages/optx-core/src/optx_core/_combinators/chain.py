"""Transformations in sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optx_core import OptState, Params, build, with_extra_args_support
from optx_core._engine.staged import staged


@build.recorded
def chain(*transformations: Any) -> build.Transformation:
    """Applies transformations in sequence.

    Adjacent transformations that process each array separately run as one pass over each array.

    Args:
      *transformations: any objects with `init` and `update`, in the order in which they are applied;
        chains may be nested. An empty chain is the identity.

    Returns:
      A transformation whose state is the tuple of their states.

    Raises:
      TypeError: if an argument is not a transformation; names its index.

    Example:
      >>> from optx_core import chain, clip_by_global_norm, scale
      >>> chain(clip_by_global_norm(1.0), scale(-0.1))
      chain(clip_by_global_norm(max_norm=1.0), scale(step_size=-0.1))
    """
    for place, tx in enumerate(transformations):
        build.check_transformation_like(f"chain: argument {place}: a chain", tx)
    members = tuple(map(with_extra_args_support, transformations))

    def init(params: Params) -> tuple[OptState, ...]:
        return tuple(tx.init(params) for tx in members)

    def stages(
        flow: build.Flow, state: tuple[OptState, ...], params: Params = None, **extra_args: Any
    ) -> Callable[[], tuple[OptState, ...]]:
        _check_state(flow.trail, state, len(members))
        finishers = [
            flow.through(tx, part, params, **extra_args)
            for tx, part in zip(members, state, strict=True)
        ]
        return lambda: tuple(finish() for finish in finishers)

    return staged(init, stages)


@build.recorded
def named_chain(*transformations: tuple[str, Any]) -> build.Transformation:
    """Applies transformations in sequence, and names their states.

    Args:
      *transformations: pairs `(name, transformation)` with distinct names.

    Returns:
      A transformation whose state is the dict of their states by name.

    Raises:
      TypeError: if an argument is not a pair of a name and a transformation.
      ValueError: if a name is given twice.

    Example:
      >>> from optx_core import named_chain, scale, trace
      >>> tx = named_chain(("momentum", trace(0.9)), ("step", scale(-0.1)))
      >>> list(tx.init({}))
      ['momentum', 'step']
    """
    for place, pair in enumerate(transformations):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise TypeError(
                f"named_chain: argument {place} must be (name, transformation), not {pair!r}"
            )
        build.check_transformation_like(f"named_chain: {pair[0]!r}: a chain", pair[1])
    names = [name for name, _ in transformations]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"named_chain: the name {twice!r} is given twice")
    members = {name: with_extra_args_support(tx) for name, tx in transformations}

    def init(params: Params) -> dict[str, OptState]:
        return {name: tx.init(params) for name, tx in members.items()}

    def stages(
        flow: build.Flow, state: dict[str, OptState], params: Params = None, **extra_args: Any
    ) -> Callable[[], dict[str, OptState]]:
        finishers = {
            name: flow.through(tx, state[name], params, **extra_args)
            for name, tx in members.items()
        }
        return lambda: {name: finish() for name, finish in finishers.items()}

    return staged(init, stages)


def _check_state(where: str, state: Any, length: int) -> None:
    if not isinstance(state, tuple | list) or len(state) != length:
        shown = f"{len(state)} parts" if isinstance(state, tuple | list) else type(state).__name__
        raise ValueError(
            f"{'chain' if where == 'update' else where}: the state has {shown}, but there are "
            f"{length} transformations: it was made by the init of another chain"
        )
