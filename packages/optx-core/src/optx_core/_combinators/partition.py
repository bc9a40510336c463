"""One transformation per group of leaves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax

from optx_core import Params, PyTree, build, tree
from optx_core._combinators.masked import masked
from optx_core._engine.labels import plain_path, prefix_of, show_path, spread
from optx_core._engine.seen import sees_all
from optx_core._engine.staged import staged


class PartitionState(NamedTuple):
    """State of `partition`.

    Attributes:
      inner_states: the state of each group's transformation by label, each a `MaskedState`.
    """

    inner_states: build.InnerState


@build.recorded
def partition(
    transforms: Mapping[Hashable, Any],
    param_labels: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> build.Transformation:
    """Applies a separate transformation to each group of leaves.

    Args:
      transforms: the transformation of each label.
      param_labels: a tree of labels (such as strings) with the structure of the parameters; a prefix of
        it; the same in other containers, matched by path; or a function from the parameters to one
        of these.
      mask_compatible_extra_args: whether extra arguments with the structure of the updates are
        restricted to the group before they are passed to its transformation.

    Returns:
      A transformation. Each part keeps state for its own group only.

    Raises:
      ValueError: if a label has no transformation, or a transformation no leaf; lists the paths.
      TypeError: if a value of `transforms` is not a transformation.

    Example:
      >>> from optx_core import partition, scale
      >>> tx = partition({"fast": scale(-1.0), "slow": scale(-0.1)}, {"a": "fast", "b": "slow"})
      >>> updates, _ = tx.update({"a": 1.0, "b": 1.0}, tx.init({"a": 0.0, "b": 0.0}))
      >>> float(updates["a"]), round(float(updates["b"]), 3)
      (-1.0, -0.1)
    """
    return parted("partition", transforms, param_labels, mask_compatible_extra_args)


def parted(
    where: str,
    transforms: Mapping[Hashable, Any],
    param_labels: PyTree | Callable[[Params], PyTree],
    mask_compatible_extra_args: bool = False,
    all_used: bool = True,
) -> build.Transformation:
    """`partition` for authors: an optimizer with a separate rule for each group of leaves.

    Args:
      where: the function to name in errors.
      transforms, param_labels, mask_compatible_extra_args: as for `optx_core.partition`.
      all_used: whether a transformation without leaves is an error.

    Returns:
      A transformation with a `PartitionState`.

    Example:
      >>> from optx_core import scale
      >>> from optx_core.build import parted
      >>> groups = {"matrix": scale(2.0), "other": scale(3.0)}
      >>> tx = parted("mine", groups, lambda params: "other", all_used=False)
      >>> float(tx.update(1.0, tx.init(1.0))[0])
      3.0
    """
    if not isinstance(transforms, Mapping):
        raise TypeError(f"{where}: transforms must be a dict by label, not {transforms!r}")
    for label, tx in transforms.items():
        build.check_transformation_like(f"{where}: {label!r}: a partition", tx)
    transforms = dict(transforms)

    def groups(like: PyTree) -> dict[Hashable, build.Transformation]:
        leaves, structure = tree.flatten(prefix_of(param_labels, like, where))
        return {
            label: masked(
                tx,
                structure.unflatten([leaf == label for leaf in leaves]),
                mask_compatible_extra_args=mask_compatible_extra_args,
            )
            for label, tx in transforms.items()
        }

    def init(params: Params) -> PartitionState:
        _check_labels(spread(param_labels, params, where), params, transforms, all_used)
        return PartitionState({label: tx.init(params) for label, tx in groups(params).items()})

    def stages(
        flow: build.Flow, state: PartitionState, params: Params = None, **extra_args: Any
    ) -> Callable[[], PartitionState]:
        finishers = {
            label: flow.through(tx, state.inner_states[label], params, **extra_args)
            for label, tx in groups(flow.skeleton if params is None else params).items()
        }
        return lambda: PartitionState({label: finish() for label, finish in finishers.items()})

    return staged(init, stages)


def _check_labels(
    labels: PyTree, params: Params, transforms: Mapping[Hashable, Any], all_used: bool
) -> None:
    pairs, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_placeholder)
    where: dict[Hashable, list[str]] = {}
    for (path, leaf), label in zip(pairs, tree.flatten(labels)[0], strict=True):
        if not tree.is_placeholder(leaf):
            where.setdefault(label, []).append(show_path(plain_path(path)))
    unknown = [label for label in where if label not in transforms]
    if unknown:
        listed = "; ".join(f"{label!r} at {', '.join(where[label][:3])}" for label in unknown)
        raise ValueError(
            f"partition: no transformation for the label {listed}. The transforms are for "
            f"{list(transforms)}"
        )
    unused = [label for label in transforms if label not in where]
    if unused and where and all_used and sees_all():
        raise ValueError(
            f"partition: no parameter is labelled {', '.join(map(repr, unused))}; the labels are "
            f"{list(where)}. A label function that tests `'bias' in path` on jax's key path is "
            "always False, as the path holds key objects: test jax.tree_util.keystr(path), or use "
            "optx_flax.label_params. Remove a transform that is meant to be unused."
        )
