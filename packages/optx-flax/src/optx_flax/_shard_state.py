"""The layout of optimizer state inside `nnx.Optimizer`.

`nnx.Optimizer` copies a parameter's annotations to all slots made from it, so that a row sum or a stack of
memories has the layout of another array. Here `init` works on plain arrays, JAX derives the layout of each
slot (`optx_core.state_sharding`), and the slots carry their own annotations.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    PyTree,
    TreeMismatchError,
    Updates,
    state_sharding,
    tree,
    with_extra_args_support,
)
from optx_core.build import (
    call_of,
    check_transformation_like,
    keeps_inner_state,
    need_params,
    recorded,
    wrapping,
)
from optx_flax._layout import Layout, Rule, layout_of, trimmed
from optx_flax._paths import flatten, is_variable, keys, leaves_with_paths, params_of, structure_of


def shard_state(
    tx: Any,
    model_or_state: Any,
    *,
    mesh: Mesh | None = None,
    rule: Rule | None = None,
    wrt: Any = nnx.Param,
) -> GradientTransformationExtraArgs:
    """Lays out an optimizer's state on a mesh, inside `nnx.Optimizer` or outside.

    Args:
      tx: the optimizer.
      model_or_state: the `nnx.Module` (or an abstract one, from `nnx.eval_shape`), or the state of its
        parameters. The layout of a parameter is that of its array on a mesh, or else its annotation
        (`out_sharding`); without either it is replicated.
      mesh: the mesh; by default that of the parameters, or the current one (`jax.set_mesh`).
      rule: `rule(shape, spec) -> spec`, which returns the layout of a parameter's state; by default
        the parameter's own. `optx_core.zero1_rule("data", mesh.shape["data"])` makes it ZeRO-1.
        Gradients are resharded to it, and updates are resharded to the parameters' own layout, so
        that parameters do not move.
      wrt: which Variables of a model are parameters; as given to `nnx.Optimizer`.

    Returns:
      A transformation for these parameters and this mesh. Its state is that of `tx`.

    Raises:
      ValueError: if no mesh is known, or an annotation does not fit it.
      TreeMismatchError: from `init` and `update`, for other parameters.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import shard_state
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> with jax.set_mesh(mesh):
      ...     annotated = nnx.with_partitioning(nnx.initializers.zeros, ("data", None))
      ...     model = nnx.Linear(4, 2, kernel_init=annotated, rngs=nnx.Rngs(0))
      ...     tx = shard_state(trace(0.9), model)
      ...     optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
      >>> optimizer.opt_state.trace.kernel.out_sharding
      ('data',)
    """
    check_transformation_like("shard_state", tx)
    own = layout_of("shard_state", params_of("shard_state", model_or_state, wrt), mesh)
    return sharded(tx, own, own.laid_by(rule))


@keeps_inner_state
@recorded
def sharded(inner: Any, own: Layout, kept: Layout) -> GradientTransformationExtraArgs:
    """`shard_state` by layouts: that of the parameters and that of the state."""
    inner = with_extra_args_support(inner)
    mesh = own.mesh
    known: dict[Any, PyTree] = {}

    def shardings(params: PyTree) -> PyTree:
        """The sharding of each leaf of the state."""
        leaves, structure = flatten(params)
        if structure not in known:
            placed = [
                jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=NamedSharding(mesh, spec))
                for x, spec in zip(leaves, kept.specs, strict=True)
            ]
            known[structure] = state_sharding(inner, structure.unflatten(placed), mesh=mesh)
        return known[structure]

    def init(params: Params) -> OptState:
        _check_fits(own, params)
        has_variables = any(map(is_variable, jax.tree.leaves(params, is_leaf=is_variable)))
        params = nnx.as_pure(params)
        state = inner.init(_lay(params, kept))
        placed = jax.tree.map(constrain, state, shardings(params))
        return jax.tree.map(_annotated, placed, shardings(params)) if has_variables else placed

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        need_params("shard_state", params)
        _check_fits(own, params)
        extra_args = {
            name: _brought(value, structure_of(params), own, kept)
            for name, value in extra_args.items()
        }
        new, state = inner.update(_lay(updates, kept), state, _lay(params, kept), **extra_args)
        return _lay(new, own), jax.tree.map(constrain, state, shardings(params))

    return wrapping(init, update)


def is_sharded(tx: Any) -> bool:
    """Returns whether a transformation comes from `shard_state`."""
    call = call_of(tx)
    return call is not None and call.function is sharded


def constrain(x: Any, sharding: NamedSharding) -> Any:
    """Reshards an array, traced or not, on a mesh of Auto or Explicit axes."""
    sharding = NamedSharding(
        sharding.mesh, trimmed(sharding.spec), memory_kind=sharding.memory_kind
    )
    if all(kind == AxisType.Explicit for kind in sharding.mesh.axis_types):
        return jax.sharding.reshard(x, sharding)
    if isinstance(x, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(x, sharding)
    return jax.device_put(x, sharding)


def _lay(params: PyTree, layout: Layout) -> PyTree:
    """Reshards a tree of the parameters' structure; absent leaves stay absent."""

    def leaf(x: Any, spec: PartitionSpec | None) -> Any:
        if spec is None or tree.is_absent(x):
            return x
        return constrain(x, NamedSharding(layout.mesh, spec))

    specs = dict(zip(layout.paths, layout.specs, strict=True))
    pairs, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_placeholder)
    _, structure = tree.flatten(params)
    return structure.unflatten([leaf(x, specs.get(keys(path))) for path, x in pairs])


def _brought(value: Any, structure: Any, own: Layout, kept: Layout) -> Any:
    """Reshards an extra argument for the inner optimizer.

    A tree of the parameters' structure has their layout. So have the arguments of a function (the loss of a
    line search), and the trees it returns.
    """
    if own == kept:
        return value
    if callable(value):

        def call(*args: Any, **kwargs: Any) -> Any:
            back = [_brought(x, structure, kept, own) for x in args]
            return _brought(value(*back, **kwargs), structure, own, kept)

        return call
    return _lay(value, kept) if structure_of(value) == structure else value


def _annotated(x: Any, sharding: NamedSharding) -> Any:
    """A slot as a Variable annotated with its layout, which `nnx.Optimizer` keeps."""
    spec = trimmed(sharding.spec)
    if not spec:
        return x
    return nnx.Variable(x, out_sharding=tuple(spec), mesh=sharding.mesh)


def _check_fits(layout: Layout, params: PyTree) -> None:
    pairs = leaves_with_paths(nnx.as_pure(params))
    shapes = [tuple(np.shape(leaf)) for _, leaf in pairs]
    if [path for path, _ in pairs] == list(layout.paths) and shapes == list(layout.shapes):
        return
    known = dict(zip(layout.paths, layout.shapes, strict=True))
    given = dict(zip([path for path, _ in pairs], shapes, strict=True))
    wrong = [
        f"{'/'.join(path)}: {known.get(path, 'absent')} before, {given.get(path, 'absent')} now"
        for path in {**known, **given}
        if known.get(path) != given.get(path)
    ]
    raise TreeMismatchError(
        f"shard_state was made for other parameters ({'; '.join(wrong[:3]) or 'another order'}); "
        "call it with the model that the optimizer is for"
    )
