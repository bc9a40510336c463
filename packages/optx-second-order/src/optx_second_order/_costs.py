"""The cost of probes: multiplications and bytes, counted from the traced operations.

A product counts its multiplications, any other operation the size of its results. Bytes are those that
a derivative stores: the results of all operations except views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optx_second_order._graph import Graph, Operation, Variable, is_literal

_VIEWS = frozenset({"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "copy_p"})
CHUNKED_CHUNK = 64
"""The number of unit vectors at once for a black-box loss."""
_UNIT_BYTES = 1 << 19
"""The memory for the unit probes that run at once."""
_CHAIN_BYTES = 5 << 18
"""The memory for the blocks of the examples that run along a chain at once."""
_HEAD_BYTES = 3 << 16
"""The same if only the head's block is propagated; at least the bytes of the weights."""


def multiplications(operation: Operation) -> int:
    """Returns the multiplications of an operation on one example."""
    size = sum(v.size for v in operation.results)
    if operation.name == "dot_general":
        (lhs_c, _), _ = operation.params["dimension_numbers"]
        shape = operation.operands[0].aval.shape
        return size * math.prod(shape[d] for d in lhs_c)
    if operation.name == "conv_general_dilated":
        spec, kernel = operation.params["dimension_numbers"], operation.operands[1].aval
        return size * (kernel.size // max(kernel.shape[spec.rhs_spec[0]], 1))
    inner = operation.params.get("length", 1)
    return size * int(inner)


class Downstream:
    """The cost of everything that depends on some variables of a graph.

    Attributes:
      work: multiplications for one example.
      bytes: bytes stored for a derivative, for one example, without those of the sources.
    """

    def __init__(self, graph: Graph, sources: Sequence[Variable]) -> None:
        moving = graph.dependents(sources)
        self.work, self.bytes = 0, 0
        for operation in graph.operations:
            if any(not is_literal(v) and v in moving for v in operation.operands):
                self.work += multiplications(operation)
                if operation.name not in _VIEWS:
                    self.bytes += sum(v.size * v.dtype.itemsize for v in operation.results)


def unit_chunk(downstream: Downstream, size: int) -> int:
    """Returns the number of unit probes to run at once."""
    return max(1, min(64, _UNIT_BYTES // max(1, size * downstream.bytes)))


def chain_examples(held: int, weights: int, size: int, *, expanded: bool) -> int:
    """Returns the number of examples to propagate along a chain at once, a divisor of their number.

    Args:
      held: the number of floats in the blocks of one example.
      weights: the number of floats in the chain's matrices, which are read for each part of the batch.
      size: the number of examples.
      expanded: whether residuals are propagated.
    """
    budget = _CHAIN_BYTES if expanded else max(_HEAD_BYTES, 4 * weights)
    at_once = max(1, min(size, budget // max(1, 4 * held)))
    while size % at_once:
        at_once -= 1
    return at_once
