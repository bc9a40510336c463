"""Whether samples move with the parameters, from the traced program.

The derivative of one sample in the direction of one parameter is traced; if no operation leads from the
direction to the result, the derivative is zero for all values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import PyTree
from optx_estimators._errors import NotReparameterizedError
from optx_estimators._opaque import draw_sample
from optx_estimators._problem import Problem, fixed


def moves(function: Callable[[Any], Any], leaf: Any) -> bool:
    """Whether the derivative of a function of one array is not a structural zero."""

    def derivative(x: jax.Array, direction: jax.Array) -> list[Any]:
        _, tangents = jax.jvp(function, (x,), (direction,))
        return [t for t in jax.tree_util.tree_leaves(tangents) if t.dtype != jax.dtypes.float0]

    spec = jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
    jaxpr = jax.make_jaxpr(derivative)(spec, spec).jaxpr
    reached = {id(jaxpr.invars[1])}
    for equation in jaxpr.eqns:
        if any(id(v) in reached for v in equation.invars):
            reached.update(id(v) for v in equation.outvars)
    return any(id(v) in reached for v in jaxpr.outvars)


def check_reparameterized(where: str, problem: Problem, params: PyTree) -> None:
    """Refuses parameters on which the density depends but the sample does not.

    Raises:
      NotReparameterizedError: if there is such a parameter; the error names it.
    """
    leaves, structure = jax.tree_util.tree_flatten(params)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    key = jax.random.key(0)
    sample = draw_sample(problem.dist_fn(fixed(params)), key)
    for i, leaf in enumerate(leaves):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            continue

        def dist_at(x: Any, i: int = i) -> Any:
            return problem.dist_fn(
                jax.tree_util.tree_unflatten(structure, [*leaves[:i], x, *leaves[i + 1 :]])
            )

        def path(x: Any, dist_at: Callable[[Any], Any] = dist_at) -> Any:
            return draw_sample(dist_at(x), key)

        def density(x: Any, dist_at: Callable[[Any], Any] = dist_at) -> Any:
            return dist_at(x).log_prob(sample)

        if not moves(path, leaf) and moves(density, leaf):
            name = type(problem.dist_fn(params)).__name__
            shown = f"params{paths[i]}"
            raise NotReparameterizedError(
                f"{where}: the density of {name} depends on {shown} but its samples do not move with "
                "it; the gradient would be 0. Use score_function(leave_one_out())"
            )
