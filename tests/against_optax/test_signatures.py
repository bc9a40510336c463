"""Every public function of the installed optax: where ours is, and the arguments that it does not take."""

import importlib
import inspect
import types

import pytest

MODULES = (
    "optax", "optax.assignment", "optax.contrib", "optax.experimental._aggregating", "optax.losses", "optax.microbatching",
    "optax.perturbations", "optax.projections", "optax.schedules", "optax.second_order",
    "optax.transforms", "optax.tree", "optax.tree_utils",
)  # fmt: skip
OURS = (
    "optx_core", "optx_aliases", "optx_schedules", "optx_losses", "optx_second_order",
    "optx_estimators", "optx_projections", "optx_core.build",
)  # fmt: skip

NOT_HERE = {
    "AccumulationType": "the names of reductions are strings, such as microbatch(reduction='sum')",
    "AdaptiveGradClipState": "an EmptyState",
    "ConditionFn": "a type of theirs",
    "HutchinsonState": "hutchinson_estimator of optx_second_order keeps another one",
    "InjectHyperparamsState": "one state serves both kinds, InjectStatefulHyperparamsState",
    "AccumulateAvgUpdatesState": "multi_steps has a state of its own",
    "Aggregator": "a transformation of wrapping(..., per_example=True)",
    "AggregatorUpdateFn": "a type of theirs",
    "PerElementMeanAndSumSqDiffGradsState": "micro_grad(reduction='statistics') has no state",
    "PerElementMeanAndVarianceEMAState": "micro_grad(reduction='statistics') has no state",
    "accumulate_avg_updates": "multi_steps",
    "add_mean_variance_to_opt": "micro_grad(reduction='statistics'), then ema",
    "average_incrementally_updates": "multi_steps, of gradients of micro_grad",
    "average_per_element_updates": "micro_grad",
    "get_batch_size_from_per_elt_updates": "the leading axis",
    "get_per_element_mean_and_sum_sq_diff_grads": "micro_grad(reduction='statistics')",
    "get_unbiased_mean_and_variance_ema": "micro_grad(reduction='statistics'), then ema",
    "process": "chain: gradients of single examples may begin any chain",
    "track_per_element_mean_and_variance_with_ema": "ema of micro_grad(reduction='statistics')",
    "MaskOrFn": "the type is optx_core.build.Mask",
    "MultiTransformState": "PartitionState",
    "ShouldSkipUpdateFunction": "a type of theirs",
    "TransformUpdateExtraArgsFn": "a type of theirs",
    "base_hungarian_algorithm": "hungarian_algorithm is the faster one",
    "hutchinson_estimator_diag_hessian": "hutchinson_estimator of optx_second_order",
    "init_empty_state": "lambda params: EmptyState()",
    "multi_transform": "partition",
    "nnls": "a solver; jax.scipy and SciPy have them",
    "tree_map_params": "optx_core.tree.map_params",
}
# Moments stand in optx_core.tree.
TREES = {
    "bias_correction",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
}

NOT_TAKEN = {
    "microbatch": {"fun": "function", "accumulator": "reduction"},
    "micro_grad": {"fun": "loss_fn", "accumulator": "reduction"},
    "micro_vmap": {
        "fun": "function",
        "in_axes": "argnums; examples are on the leading axis",
        "out_axes": "optax takes 0 alone",
        "vmap_fn": "jax.vmap",
        "accumulator": "reduction",
    },
    "reshape_batch_axis": {"tree": "batch"},
}


def public():
    seen = set()
    for module in MODULES:
        theirs = importlib.import_module(module)
        for name in dir(theirs):
            value = getattr(theirs, name)
            hidden = name.startswith("_") or isinstance(value, types.ModuleType)
            foreign = not getattr(value, "__module__", "optax").startswith("optax")
            if hidden or foreign or not callable(value) or id(value) in seen:
                continue
            seen.add(id(value))
            in_tree = module in ("optax.tree", "optax.tree_utils")
            name = name.removeprefix("tree_") if module == "optax.tree_utils" else name
            yield pytest.param(name, value, in_tree or name in TREES, id=f"{module}.{name}")


@pytest.mark.parametrize(("name", "theirs", "in_tree"), [*public()])
def test_ours_takes_the_arguments_of_optaxs_or_the_table_says_why_not(name, theirs, in_tree):
    places = ("optx_core.tree",) if in_tree else OURS
    homes = [importlib.import_module(place) for place in places]
    ours = next((getattr(home, name) for home in homes if name in home.__all__), None)
    if name in NOT_HERE:
        assert ours is None, f"{name} is here: take it out of the table"
        return
    assert ours is not None, f"optax.{name} has no counterpart: write it, or say why not"
    if inspect.isclass(theirs) or not inspect.isfunction(theirs):
        return
    taken = inspect.signature(ours).parameters
    missing = {
        argument.name
        for argument in inspect.signature(theirs).parameters.values()
        if argument.name not in taken and argument.kind not in (2, 4)
    }
    assert missing == NOT_TAKEN.get(name, {}).keys()
