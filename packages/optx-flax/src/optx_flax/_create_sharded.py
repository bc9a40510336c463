"""A model and its optimizer, created on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax import nnx
from optx_flax._layout import Rule, annotation, layout_of, trimmed
from optx_flax._paths import is_variable
from optx_flax._shard_state import constrain, shard_state


def create_sharded(
    model_fn: Callable[[], Any],
    tx: Any,
    mesh: Mesh,
    *,
    wrt: Any = nnx.Param,
    param_rule: Rule | None = None,
    rule: Rule | None = None,
) -> tuple[Any, nnx.Optimizer]:
    """Creates a model and its `nnx.Optimizer` in one jitted call, each array on its own devices.

    No array is materialized on one device or on the host, unless its layout says so.

    Args:
      model_fn: a function without arguments that returns the model. Its annotations (`out_sharding`)
        are the layouts of the parameters; parameters without one are replicated.
      tx: the optimizer, to be wrapped in `shard_state`.
      mesh: the mesh.
      wrt: which Variables of the model are parameters.
      param_rule: `rule(shape, spec) -> spec`, which changes the layout of the parameters, annotated or
        not: `optx_core.zero1_rule("data", mesh.shape["data"])` here is FSDP.
      rule: the same for the optimizer's state alone, as for `shard_state`: ZeRO-1.

    Returns:
      `(model, optimizer)`.

    Raises:
      ValueError: if an annotation does not fit the mesh.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from optx_core import trace, zero1_rule
      >>> from optx_flax import create_sharded
      >>> mesh = jax.make_mesh((1,), ("data",))
      >>> model, optimizer = create_sharded(
      ...     lambda: nnx.Linear(4, 2, rngs=nnx.Rngs(0)), trace(0.9), mesh,
      ...     param_rule=zero1_rule("data", 1),
      ... )
      >>> tuple(model.kernel.sharding.spec)
      ('data',)
    """
    with jax.set_mesh(mesh):
        abstract = nnx.eval_shape(model_fn)
        own = layout_of("create_sharded", nnx.state(abstract, wrt), mesh, param_rule)
        specs = dict(zip(own.paths, own.specs, strict=True))

        def annotate(model: Any) -> Any:
            if param_rule is not None:
                for path, variable in nnx.iter_graph(model):
                    spec = specs.get(tuple(map(str, path)))
                    if spec is not None:
                        sharding = NamedSharding(mesh, trimmed(spec))
                        variable.set_value(_laid(variable.get_value(), sharding))
                        variable.set_metadata(out_sharding=tuple(sharding.spec), mesh=mesh)
            return model

        placed = shard_state(tx, nnx.state(annotate(abstract), wrt), mesh=mesh, rule=rule)

        def make() -> tuple[Any, nnx.Optimizer]:
            model = annotate(model_fn())
            return model, nnx.Optimizer(model, placed, wrt=wrt)

        def make_arrays() -> list[jax.Array]:
            return jax.tree.leaves(nnx.state(make()))

        graphdef, shapes = nnx.split(nnx.eval_shape(make))
        specs_of_all = jax.tree.map(
            lambda v: trimmed(annotation(v) or PartitionSpec()), shapes, is_leaf=is_variable
        )
        is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
        shardings = [
            NamedSharding(mesh, spec, memory_kind=_memory_kind(aval))
            for spec, aval in zip(
                jax.tree.leaves(specs_of_all, is_leaf=is_spec),
                jax.make_jaxpr(make_arrays)().out_avals,
                strict=True,
            )
        ]
        arrays = jax.jit(make_arrays, out_shardings=shardings)()
        model, optimizer = nnx.merge(
            graphdef, jax.tree.unflatten(jax.tree.structure(shapes), arrays)
        )
    return model, optimizer


def _memory_kind(aval: Any) -> str | None:
    """The memory kind of what `optx_core.offload` keeps on the host; None for the device's."""
    return "pinned_host" if aval.memory_space == jax.memory.Space.Host else None


def _laid(value: Any, sharding: NamedSharding) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
    return constrain(value, sharding)
