"""How values depend on a perturbation: locally constant, piecewise linear, or nonlinear.

Level 0: locally constant. Level 1: real and piecewise linear. Level 2: anything else. Where a network is
piecewise linear up to its outputs (ReLU, max pooling, absolute values, ...), its Hessian is the
Gauss–Newton matrix: the second derivative of the network itself is zero.

The rules below hold for real values. A complex value that is not constant is always at level 2, so that the
real value it is made from ends the piecewise linear part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from optx_second_order._graph import Graph, Operation, Variable, is_literal

_CONSTANT = frozenset({"sign", "floor", "ceil", "round", "stop_gradient"})
_LINEAR = frozenset({
    "add", "sub", "neg", "max", "min", "abs", "add_any", "reshape", "transpose", "squeeze",
    "expand_dims", "broadcast_in_dim", "reduce_sum", "reduce_max", "reduce_min", "concatenate",
    "pad", "slice", "rev", "copy", "copy_p", "cumsum", "cummax", "cummin", "reduce_window_max",
    "reduce_window_min", "reduce_window_sum", "optimization_barrier", "sharding_constraint",
    "reduce_precision", "name", "clamp", "convert_element_type",
})  # fmt: skip
_BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})
_INDEXED = frozenset({"gather", "dynamic_slice"})
_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"})


def levels_after(operation: Any, levels: Sequence[int], *, in_rule: bool = False) -> list[int]:
    """Returns the levels of an operation's results, given those of its operands.

    Args:
      operation: an equation of a traced program.
      levels: the levels of its operands.
      in_rule: whether the program is a derivative rule. Inside a rule, a function with a derivative
        rule of its own counts as nonlinear.
    """
    name, params = operation.primitive.name, operation.params
    if not any(levels):
        level = 0
    elif any(_has(jnp.complexfloating, v) for v in (*operation.invars, *operation.outvars)):
        level = 2
    elif name in _CONSTANT:
        level = 0
    elif name in _LINEAR:
        level = max(levels)
    elif name == "select_n":
        level = max(levels[1:])
    elif name in _BILINEAR:
        level = min(2, levels[0] + levels[1])
    elif name == "div":
        level = levels[0] if levels[1] == 0 else 2
    elif name in _INDEXED or (name == "integer_pow" and params["y"] == 1):
        level = levels[0]
    elif name in _CALLS:
        inner = params.get("jaxpr") or params.get("call_jaxpr")
        return jaxpr_levels(getattr(inner, "jaxpr", inner), levels, in_rule=in_rule)
    elif name == "custom_jvp_call" and not in_rule:
        return _custom_levels(operation, levels)
    else:
        level = 2
    return [level if _has(jnp.inexact, v) else 0 for v in operation.outvars]


def _has(kind: Any, operand: Any) -> bool:
    return jnp.issubdtype(operand.aval.dtype, kind)


def jaxpr_levels(jaxpr: Any, levels: Sequence[int], *, in_rule: bool = False) -> list[int]:
    """Returns the levels of a program's results, given those of its arguments."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, levels, strict=True))

    def level(v: Any) -> int:
        return 0 if isinstance(v, jex.Literal) else known.get(v, 0)

    for equation in jaxpr.eqns:
        after = levels_after(equation, [level(v) for v in equation.invars], in_rule=in_rule)
        known.update(zip(equation.outvars, after, strict=True))
    return [level(v) for v in jaxpr.outvars]


def tangent_program(equation: Any, moving: Sequence[int]) -> Any:
    """Returns the program (operands, tangents) ↦ tangents of a call with its own derivative rule.

    Args:
      equation: the call.
      moving: the positions of the operands that have a tangent.
    """
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    run = Operation(equation, (), ())

    def tangent(primals: list[Any], tangents: list[Any]) -> Any:
        def restricted(*parts: Any) -> list[Any]:
            full = list(primals)
            for i, part in zip(moving, parts, strict=True):
                full[i] = part
            return run(*full)

        return jax.jvp(restricted, [primals[i] for i in moving], tangents)[1]

    return jax.make_jaxpr(tangent)(avals, [avals[i] for i in moving]).jaxpr


def _custom_levels(equation: Any, levels: Sequence[int]) -> list[int]:
    """Returns the levels of a call with its own derivative rule, determined from that rule.

    The call is piecewise linear if its tangent is locally constant in the operands.
    """
    moving = [i for i, level in enumerate(levels) if level]
    given = [min(level, 1) for level in levels] + [0] * len(moving)
    slopes = jaxpr_levels(tangent_program(equation, moving), given, in_rule=True)
    return [2 if slope else max(levels) for slope in slopes]


def graph_levels(graph: Graph, nodes: Sequence[Variable]) -> dict[Variable, int]:
    """Returns the levels of all variables under perturbations of the nodes."""
    marked = set(nodes)
    known = {v: int(v in marked) for v in graph.inputs}
    for operation in graph.operations:
        given = [0 if is_literal(v) else known.get(v, 0) for v in operation.operands]
        after = levels_after(operation.equation, given)
        for result, level in zip(operation.results, after, strict=True):
            known[result] = max(level, 1) if result in marked else level
    return known


def frontier(graph: Graph, levels: dict[Variable, int]) -> list[Variable]:
    """Returns the piecewise linear values that nonlinear operations read."""
    border: dict[Variable, None] = {}
    for operation in graph.operations:
        if all(levels.get(v, 0) < 2 for v in operation.results):
            continue
        for v in operation.operands:
            if not is_literal(v) and levels.get(v, 0) == 1:
                border[v] = None
    return list(border)


def is_piecewise_linear(graph: Graph, source: Variable, target: Variable) -> bool:
    """Whether `target` depends on `source` piecewise linearly."""
    return graph_levels(graph, [source]).get(target, 0) < 2
