"""A traced function as a flat list of primitive operations.

The function is traced once on one example, and calls of `jit` are inlined. The list can be run again with
perturbations added to intermediate values, which measures curvature at a layer without annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"})


class Variable:
    """An intermediate value.

    Attributes:
      aval: its shape and dtype.
    """

    __slots__ = ("aval",)

    def __init__(self, aval: Any) -> None:
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(self.aval.shape)

    @property
    def size(self) -> int:
        """The number of entries of the value."""
        return int(self.aval.size)

    @property
    def dtype(self) -> Any:
        """The dtype of the value."""
        return self.aval.dtype


class Operation(NamedTuple):
    """A primitive with its operands (variables or JAX literals) and results."""

    equation: Any
    operands: tuple[Any, ...]
    results: tuple[Variable, ...]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return str(self.equation.primitive.name)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the primitive."""
        return self.equation.params

    def __call__(self, *values: Any) -> list[Any]:
        """Applies the primitive to values."""
        primitive = self.equation.primitive
        bound = primitive.get_bind_params(self.params)  # a dict since jax 0.9.2, a pair before
        functions, params = ((), bound) if isinstance(bound, dict) else bound
        with self.equation.ctx.manager:
            out = primitive.bind(*functions, *values, **params)
        return list(out) if primitive.multiple_results else [out]


def is_literal(operand: Any) -> bool:
    """Whether an operand is a literal of the program."""
    return isinstance(operand, jex.Literal)


def inner_jaxpr(operation: Operation) -> Any | None:
    """Returns the jaxpr inside a call, or None."""
    for key in ("call_jaxpr", "jaxpr", "fun_jaxpr"):
        inner = operation.params.get(key)
        if inner is not None:
            return getattr(inner, "jaxpr", inner)
    return None


class Graph:
    """A traced function.

    Attributes:
      inputs: the variables of the flat arguments.
      outputs: the flat results, variables or literals.
      operations: the operations in order of execution.
      constants: the values of constant variables.
      uses: for each variable, the (operation index, operand position) pairs that read it.
      producer: for each result of an operation, the index of the operation.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        self.out_structure = jax.tree.structure(shapes)
        self.operations: list[Operation] = []
        self.constants: dict[Variable, Any] = {}
        names: dict[Any, Any] = {}
        self.inputs = [Variable(v.aval) for v in closed.jaxpr.invars]
        names.update(zip(closed.jaxpr.invars, self.inputs, strict=True))
        self._open(closed.jaxpr, closed.consts, names)
        self.outputs = [_look_up(names, v) for v in closed.jaxpr.outvars]
        self.uses: dict[Variable, list[tuple[int, int]]] = {}
        self.producer: dict[Variable, int] = {}
        for i, operation in enumerate(self.operations):
            for position, operand in enumerate(operation.operands):
                if not is_literal(operand):
                    self.uses.setdefault(operand, []).append((i, position))
            for result in operation.results:
                self.producer[result] = i

    def _open(self, jaxpr: Any, consts: Sequence[Any], names: dict[Any, Any]) -> None:
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            fresh = Variable(variable.aval)
            names[variable] = fresh
            self.constants[fresh] = value
        for equation in jaxpr.eqns:
            operands = tuple(_look_up(names, v) for v in equation.invars)
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            if equation.primitive.name in _CALLS and inner is not None:
                body, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                local: dict[Any, Any] = dict(zip(body.invars, operands, strict=True))
                self._open(body, inner_consts, local)
                for outer, result in zip(equation.outvars, body.outvars, strict=True):
                    names[outer] = _look_up(local, result)
                continue
            results = tuple(Variable(v.aval) for v in equation.outvars)
            names.update(zip(equation.outvars, results, strict=True))
            self.operations.append(Operation(equation, operands, results))

    def dependents(self, sources: Sequence[Variable]) -> set[Variable]:
        """Returns all variables that depend on the sources, including the sources."""
        moving = set(sources)
        for operation in self.operations:
            if any(v in moving for v in operation.operands if not is_literal(v)):
                moving.update(operation.results)
        return moving

    def run(
        self,
        args: Sequence[Any],
        perturbations: Mapping[Variable, Any] | None = None,
        replaced: Mapping[Variable, Any] | None = None,
        wanted: Sequence[Any] | None = None,
    ) -> list[Any]:
        """Runs the function.

        Args:
          args: the flat arguments.
          perturbations: values to add to variables when they are computed.
          replaced: values of variables that are then not computed.
          wanted: the variables to return; the outputs by default.
        """
        perturbations, replaced = perturbations or {}, replaced or {}
        env: dict[Variable, Any] = {**self.constants, **replaced}
        env.update(zip(self.inputs, args, strict=True))
        wanted = self.outputs if wanted is None else wanted
        needed = self._needed(wanted, set(env))
        for i in needed:
            operation = self.operations[i]
            values = operation(*[_value(env, v) for v in operation.operands])
            for variable, value in zip(operation.results, values, strict=True):
                if variable in replaced:
                    continue
                change = perturbations.get(variable)
                env[variable] = value if change is None else value + change
        return [_value(env, v) for v in wanted]

    def _needed(self, wanted: Sequence[Any], known: set[Variable]) -> list[int]:
        live = {v for v in wanted if not is_literal(v) and v not in known}
        chosen = []
        for i in range(len(self.operations) - 1, -1, -1):
            operation = self.operations[i]
            if any(v in live for v in operation.results):
                chosen.append(i)
                live.update(v for v in operation.operands if not is_literal(v) and v not in known)
        return chosen[::-1]


def _look_up(names: Mapping[Any, Any], operand: Any) -> Any:
    return operand if is_literal(operand) else names[operand]


def _value(env: Mapping[Variable, Any], operand: Any) -> Any:
    return operand.val if is_literal(operand) else env[operand]
