"""The part of the updates that a transformation sees: all leaves, or those that a mask selects.

A subtree where the mask is False is replaced by one `MaskedNode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optx_core._protocol.absent import flatten, is_placeholder
from optx_core._protocol.types import MaskedNode, PyTree


class View(NamedTuple):
    """A tree whose leaves are some of the leaves of a larger one.

    Attributes:
      structure: its treedef; placeholders count as leaves.
      places: the index among all leaves for each leaf of the view; None for a masked subtree.
      active: whether the view contains a leaf, for each of all leaves; None if it contains all.
    """

    structure: Any
    places: Sequence[int | None]
    active: tuple[bool, ...] | None = None

    def unflatten(self, leaves: Sequence[Any]) -> PyTree:
        """Returns the view's tree, given all leaves, with a `MaskedNode` for each masked subtree."""
        if self.active is None:
            return self.structure.unflatten(leaves)
        return self.structure.unflatten(
            [MaskedNode() if k is None else leaves[k] for k in self.places]
        )

    def select(self, leaves: Sequence[Any]) -> PyTree:
        """Like `unflatten`, with a `MaskedNode` for each leaf that the view does not contain."""
        if self.active is None:
            return self.unflatten(leaves)
        return self.unflatten(
            [
                leaf if active or is_placeholder(leaf) else MaskedNode()
                for leaf, active in zip(leaves, self.active, strict=True)
            ]
        )

    def spread(self, leaves: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        """Returns all leaves: those of the view from `leaves`, the others from `others`."""
        everything = list(others)
        for leaf, place in zip(leaves, self.places, strict=True):
            if place is not None:
                everything[place] = leaf
        return everything

    def under(self, mask: PyTree) -> View:
        """Returns the view of the leaves where `mask`, a prefix of this view's tree, is True."""
        flags, prefix = flatten(mask)
        numbered = self.structure.unflatten(range(len(self.places)))
        parts = prefix.flatten_up_to(numbered)
        active = [False] * len(self.places if self.active is None else self.active)
        for flag, part in zip(flags, parts, strict=True):
            for number in flatten(part)[0] if flag is True else ():
                if (place := self.places[number]) is not None:
                    active[place] = self.active is None or self.active[place]
        if prefix == self.structure:
            return View(prefix, self.places, tuple(active))
        kept = [
            part if flag is True or isinstance(part, int) else _MASKED
            for flag, part in zip(flags, parts, strict=True)
        ]
        numbers, structure = flatten(prefix.unflatten(kept))
        places = [None if number is _MASKED else self.places[number] for number in numbers]
        return View(structure, places, tuple(active))


_MASKED = object()
