"""Chains of nodes in which each depends on the next through one matrix product only.

A link leads from a node a to a node b = W·f(a), with f elementwise, if a is used nowhere else. Consecutive
links form a chain. Its last node is the head, which any operation may follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_second_order._graph import Graph, Operation, Variable, inner_jaxpr, is_literal
from optx_second_order._piecewise import is_piecewise_linear, tangent_program

_ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma",
    "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt",
    "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min",
    "mul", "name", "ne", "neg", "nextafter", "not", "or", "pow", "rem", "round", "rsqrt",
    "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
    "xor",
})  # fmt: skip
_REORDERING_NOTHING = frozenset({"reshape", "squeeze", "expand_dims"})


class Link(NamedTuple):
    """A link from a node a to a node b = W·f(a).

    Attributes:
      source: the node a.
      activation: the variable f(a), of a's size and order.
      target: the node b.
      weight: the variable W.
      fan_in: the size of f(a).
      fan_out: the size of b.
      contracted: the axes of W that are contracted with f(a).
      linear: whether f is piecewise linear.
    """

    source: Variable
    activation: Variable
    target: Variable
    weight: Variable
    fan_in: int
    fan_out: int
    contracted: tuple[int, ...]
    linear: bool

    def matrix(self, weight: jax.Array) -> jax.Array:
        """Returns W as a matrix [fan_in, fan_out]."""
        free = [d for d in range(weight.ndim) if d not in self.contracted]
        order = (*self.contracted, *free)
        return jnp.transpose(weight, order).reshape(self.fan_in, self.fan_out)


def find_link(graph: Graph, node: Variable, fixed: set[Variable]) -> Link | None:
    """Returns the link that starts at a node, or None.

    Args:
      graph: the traced function.
      node: the node a.
      fixed: the variables that depend on the example; W must not be one of them.
    """
    moving = {node}
    link: Link | None = None
    if any(v is node for v in graph.outputs):
        return None
    for operation in graph.operations[graph.producer[node] + 1 :]:
        read = [i for i, v in enumerate(operation.operands) if _in(v, moving)]
        if not read:
            continue
        if link is not None and any(operation.operands[i] is not link.target for i in read):
            return None  # another operation reads it
        if link is not None:
            continue
        if _is_elementwise(operation, read, node.size):
            moving.update(operation.results)
            continue
        link = _product_link(graph, operation, read, node, fixed)
        if link is None:
            return None
        moving.add(link.target)
    if any(_in(v, moving) and (link is None or v is not link.target) for v in graph.outputs):
        return None
    return link


def find_chain(graph: Graph, nodes: Sequence[Variable], fixed: set[Variable]) -> list[Link]:
    """Returns the longest chain from any of the nodes, its links in order of execution."""
    best: list[Link] = []
    for node in nodes:
        links, at = [], node
        while (link := find_link(graph, at, fixed)) is not None:
            links.append(link)
            at = link.target
        if len(links) > len(best):
            best = links
    return best


def _in(operand: Any, variables: set[Variable]) -> bool:
    return not is_literal(operand) and operand in variables


def _is_elementwise(operation: Operation, moving: Sequence[int], size: int) -> bool:
    if any(result.size != size for result in operation.results):
        return False
    if operation.name in _REORDERING_NOTHING:
        return True
    if operation.name == "custom_jvp_call":  # its derivative rule need not follow from its value
        rule = tangent_program(operation.equation, moving)
        if not all(_elementwise_inside(e) or _fills(e) for e in rule.eqns):
            return False
    return _elementwise_inside(operation.equation)


def _elementwise_inside(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _ELEMENTWISE:
        return True
    if name in {"custom_jvp_call", "jit", "pjit"}:
        inner = inner_jaxpr(Operation(equation, (), ()))
        return inner is not None and all(_elementwise_inside(e) or _fills(e) for e in inner.eqns)
    return False


def _fills(equation: Any) -> bool:
    """Whether an operation fills an array with a scalar."""
    if equation.primitive.name not in {"broadcast_in_dim", "reshape", "squeeze"}:
        return False
    return equation.invars[0].aval.size == 1


def _product_link(
    graph: Graph, operation: Operation, read: Sequence[int], node: Variable, fixed: set[Variable]
) -> Link | None:
    if operation.name != "dot_general" or len(read) != 1:
        return None
    (lhs_c, rhs_c), (lhs_b, _) = operation.params["dimension_numbers"]
    position = read[0]
    activation, weight = operation.operands[position], operation.operands[1 - position]
    if lhs_b or is_literal(weight) or weight in fixed:
        return None
    a_c, w_c = (lhs_c, rhs_c) if position == 0 else (rhs_c, lhs_c)
    free = [n for d, n in enumerate(activation.shape) if d not in a_c]
    if list(a_c) != sorted(a_c) or any(n != 1 for n in free):
        return None
    target = operation.results[0]
    if not all(jnp.issubdtype(v.dtype, jnp.floating) for v in (activation, target)):
        return None
    return Link(
        source=node,
        activation=activation,
        target=target,
        weight=weight,
        fan_in=node.size,
        fan_out=target.size,
        contracted=tuple(w_c),
        linear=is_piecewise_linear(graph, node, activation),
    )
