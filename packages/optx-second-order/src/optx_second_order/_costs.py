"""What probes cost: multiplications and bytes, counted from the traced operations.

Products count their multiplications, everything else one for each number made. Bytes are those of
what a derivative keeps: the results of all operations but views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optx_second_order._graph import Graph, Operation, Variable, is_literal

_VIEWS = frozenset({"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "copy_p"})
CHUNKED_CHUNK = 64
"""Unit vectors at once where a loss is a black box."""
_UNIT_BYTES = 1 << 19
"""Unit probes at once are as many as keep their work within this."""
_CHAIN_BYTES = 5 << 18
"""Examples at once along a chain are as many as keep its blocks within this..."""
_HEAD_BYTES = 3 << 16
"""... and within this, or the bytes of the weights, where only the head's block travels."""


def multiplications(operation: Operation) -> int:
    """How many an operation does on one example."""
    made = sum(v.size for v in operation.results)
    if operation.name == "dot_general":
        (lhs_c, _), _ = operation.params["dimension_numbers"]
        shape = operation.operands[0].aval.shape
        return made * math.prod(shape[d] for d in lhs_c)
    if operation.name == "conv_general_dilated":
        spec, kernel = operation.params["dimension_numbers"], operation.operands[1].aval
        return made * (kernel.size // max(kernel.shape[spec.rhs_spec[0]], 1))
    inner = operation.params.get("length", 1)
    return made * int(inner)


class Downstream:
    """What depends on a variable, in a graph.

    Attributes:
      work: multiplications on one example.
      bytes: bytes kept for a derivative, for one example; not those of the sources.
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
    """How many unit probes to run at once."""
    return max(1, min(64, _UNIT_BYTES // max(1, size * downstream.bytes)))


def chain_examples(held: int, weights: int, size: int, *, expanded: bool) -> int:
    """How many examples to take along a chain at once: a divisor of their number.

    Args:
      held: floats that one example's blocks hold.
      weights: floats of the matrices along the chain, read again for each part of the batch.
      size: the number of examples.
      expanded: whether residuals travel.
    """
    budget = _CHAIN_BYTES if expanded else max(_HEAD_BYTES, 4 * weights)
    at_once = max(1, min(size, budget // max(1, 4 * held)))
    while size % at_once:
        at_once -= 1
    return at_once
