"""The place in optx of each public name of optax.

`TABLE` has a line for each package of optx and module of optax: the names that it holds, `theirs=ours`
where it is another one. `MISSING` says what to use for the names that have no counterpart, `DIFFERS` what
differs in those that do.
"""

from __future__ import annotations

OPTAX = "0.2.8"
"""The version of optax whose names these are; names of older versions are in `OLDER`."""

_TABLE = {
    "optax": """
        optx_compat._as_optax: as_optax
        optx_compat._adapters: init_empty_state microbatch ntxent
        optx_compat._table: __version__=OPTAX
        collections.abc: ShouldSkipUpdateFunction=Callable
        optx_aliases: DifferentiallyPrivateAggregateState FactoredState ScaleByAdaDeltaState
            ScaleByAdamState ScaleByAdanState ScaleByAmsgradState
            ScaleByBacktrackingLinesearchState ScaleByBeliefState ScaleByLBFGSState
            ScaleByLionState ScaleByNovogradState ScaleByRStdDevState ScaleByRmsState
            ScaleByRpropState ScaleByRssState ScaleBySM3State ScaleByZoomLinesearchState
            ZoomLinesearchInfo adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan
            amsgrad differentially_private_aggregate dpsgd fromage lamb lars lbfgs lion
            matrix_inverse_pth_root nadam nadamw noisy_sgd novograd optimistic_adam
            optimistic_adam_v2 optimistic_gradient_descent per_example_global_norm_clip
            per_example_layer_norm_clip polyak_sgd power_iteration radam rmsprop rprop
            scale_by_adadelta scale_by_adam scale_by_adamax scale_by_adan scale_by_amsgrad
            scale_by_backtracking_linesearch scale_by_belief scale_by_distance_over_gradients
            scale_by_factored_rms scale_by_lbfgs scale_by_lion scale_by_novograd
            scale_by_optimistic_gradient scale_by_param_block_norm scale_by_param_block_rms
            scale_by_polyak scale_by_radam scale_by_rms scale_by_rprop scale_by_rss scale_by_sign
            scale_by_sm3 scale_by_stddev scale_by_trust_ratio scale_by_yogi
            scale_by_zoom_linesearch sgd sign_sgd signum sm3 value_and_grad_from_state yogi
        optx_core: AddNoiseState ApplyEvery ApplyIfFiniteState ConditionallyMaskState
            ConditionallyTransformState EmaState EmptyState GradientTransformation
            GradientTransformationExtraArgs InjectStatefulHyperparamsState LookaheadParams
            LookaheadState MaskedNode MaskedState MonitorState MultiSteps MultiStepsState OptState
            Params PartitionState ScalarOrSchedule ScaleByScheduleState Schedule SnapshotState
            TraceState TransformInitFn TransformUpdateFn Updates ZeroNansState adaptive_grad_clip
            add_decayed_weights add_noise apply_every apply_if_finite apply_updates centralize
            chain clip clip_by_block_rms clip_by_global_norm conditionally_mask
            conditionally_transform ema flatten freeze global_norm identity incremental_update
            inject_hyperparams inject_stateful_hyperparams keep_params_nonnegative lookahead
            masked measure_with_ema monitor named_chain normalize_by_update_norm partition
            periodic_update safe_increment safe_norm safe_root_mean_squares scale
            scale_by_learning_rate scale_by_schedule scale_gradient selective_transform
            set_to_zero skip_large_updates skip_not_finite snapshot stateless
            stateless_with_tree_map trace with_extra_args_support zero_nans
            AdaptiveGradClipState=EmptyState AddDecayedWeightsState=EmptyState
            ClipByGlobalNormState=EmptyState ClipState=EmptyState
            InjectHyperparamsState=InjectStatefulHyperparamsState
            MaybeUpdateState=ConditionallyTransformState MultiTransformState=PartitionState
            NonNegativeParamsState=EmptyState ScaleByTrustRatioState=EmptyState
            ScaleState=EmptyState TransformUpdateExtraArgsFn=TransformUpdateFn
            maybe_update=conditionally_transform multi_transform=partition
            safe_int32_increment=safe_increment
        optx_core.build: MaskOrFn=Mask
        optx_core.tree: bias_correction tree_map_params=map_params update_infinity_moment
            update_moment update_moment_per_elem_norm
        optx_estimators: multi_normal
        optx_losses: convex_kl_divergence cosine_distance cosine_similarity ctc_loss
            ctc_loss_with_forward_probs generalized_kl_divergence hinge_loss huber_loss
            kl_divergence l2_loss log_cosh safe_softmax_cross_entropy sigmoid_binary_cross_entropy
            sigmoid_focal_loss smooth_labels softmax_cross_entropy
            softmax_cross_entropy_with_integer_labels squared_error
        optx_schedules: WrappedSchedule constant_schedule cosine_decay_schedule
            cosine_onecycle_schedule exponential_decay join_schedules linear_onecycle_schedule
            linear_schedule piecewise_constant_schedule piecewise_interpolate_schedule
            polynomial_schedule sgdr_schedule warmup_constant_schedule
            warmup_cosine_decay_schedule warmup_exponential_decay_schedule
        """,
    "optax.assignment": """
        optx_losses: hungarian_algorithm base_hungarian_algorithm=hungarian_algorithm
        """,
    "optax.contrib": """
        optx_compat._adapters: hutchinson_estimator_diag_hessian sophia
        optx_aliases: COCOBState DAdaptAdamWState DifferentiallyPrivateAggregateState DoGState
            DoWGState GaLoreDimensionNumbers GaLoreState MadgradState MechanicState MomoAdamState
            MomoState MuonDimensionNumbers MuonState NormalizeState ProdigyState SAMState
            ScaleByAdemamixState ScaleBySimplifiedAdEMAMixState ScheduleFreeState SophiaState
            SplitRealAndImaginaryState acprop ademamix adopt cocob dadapt_adamw
            differentially_private_aggregate dog dowg dpsgd galore madgrad mechanize momo
            momo_adam muon normalize prodigy sam scale_by_acprop scale_by_ademamix scale_by_adopt
            scale_by_cocob scale_by_galore scale_by_madgrad scale_by_muon
            scale_by_simplified_ademamix schedule_free schedule_free_adamw
            schedule_free_eval_params schedule_free_sgd simplified_ademamix
            split_real_and_imaginary
        optx_schedules: ReduceLROnPlateauState reduce_on_plateau
        optx_second_order: HutchinsonState=DiagEstimatorState
        """,
    "optax.experimental": "",
    "optax.experimental.aggregating": "",
    "optax.losses": """
        optx_compat._adapters: multiclass_generalized_dice_loss ntxent ranking_softmax_loss
        optx_losses: binary_dice_loss convex_kl_divergence cosine_distance cosine_similarity
            ctc_loss ctc_loss_with_forward_probs dice_loss generalized_kl_divergence hinge_loss
            huber_loss kl_divergence kl_divergence_with_log_targets l2_loss log_cosh
            make_fenchel_young_loss multiclass_hinge_loss multiclass_perceptron_loss
            multiclass_sparsemax_loss perceptron_loss poly_loss_cross_entropy
            safe_softmax_cross_entropy sigmoid_binary_cross_entropy sigmoid_focal_loss
            smooth_labels softmax_cross_entropy softmax_cross_entropy_with_integer_labels
            sparsemax_loss squared_error triplet_margin_loss
        """,
    "optax.microbatching": """
        optx_compat._adapters: AccumulationType micro_grad microbatch
        optx_core: Accumulator reshape_batch_axis
        """,
    "optax.monte_carlo": """
        optx_estimators: control_delta_method control_variates_jacobians measure_valued_jacobians
            moving_avg_baseline pathwise_jacobians score_function_jacobians
        """,
    "optax.perturbations": """
        optx_estimators: Gumbel Normal make_perturbed_fun
        """,
    "optax.projections": """
        optx_projections: projection_box projection_halfspace projection_hypercube
            projection_hyperplane projection_l1_ball projection_l1_sphere projection_l2_ball
            projection_l2_sphere projection_linf_ball projection_non_negative projection_simplex
            projection_vector
        """,
    "optax.schedules": """
        optx_core: InjectStatefulHyperparamsState Schedule inject_hyperparams
            inject_stateful_hyperparams InjectHyperparamsState=InjectStatefulHyperparamsState
        optx_schedules: StatefulSchedule WrappedSchedule constant_schedule cosine_decay_schedule
            cosine_onecycle_schedule exponential_decay join_schedules linear_onecycle_schedule
            linear_schedule piecewise_constant_schedule piecewise_interpolate_schedule
            polynomial_schedule sgdr_schedule warmup_constant_schedule
            warmup_cosine_decay_schedule warmup_exponential_decay_schedule
        """,
    "optax.second_order": """
        optx_second_order: fisher_diag hessian_diag hvp
        """,
    "optax.transforms": """
        collections.abc: ConditionFn=Callable ShouldSkipUpdateFunction=Callable
        optx_aliases: per_example_global_norm_clip per_example_layer_norm_clip
        optx_core: AddNoiseState ApplyIfFiniteState ConditionallyMaskState
            ConditionallyTransformState EmaState MaskedNode MaskedState MonitorState MultiSteps
            MultiStepsState PartitionState SnapshotState TraceState ZeroNansState
            adaptive_grad_clip add_decayed_weights add_noise apply_if_finite chain clip
            clip_by_block_rms clip_by_global_norm conditionally_mask conditionally_transform ema
            flatten freeze keep_params_nonnegative masked measure_with_ema monitor named_chain
            partition selective_transform skip_large_updates skip_not_finite snapshot trace
            unitwise_clip unitwise_norm zero_nans NonNegativeParamsState=EmptyState
        """,
    "optax.tree": """
        optx_core.tree: add add_scale allclose batch_shape bias_correction cast cast_like clip
            conj div dtype full_like get get_all_with_path map_params max min mul norm ones_like
            random_like real scale set size split_key_like sub sum unwrap_random_key_data
            update_infinity_moment update_moment update_moment_per_elem_norm vdot where zeros_like
        """,
    "optax.tree_utils": """
        optx_compat._adapters: tree_l1_norm tree_l2_norm tree_linf_norm
        optx_core.tree: NamedTupleKey tree_add_scalar_mul=add_scale tree_scalar_mul=scale
        """,
}

MISSING = {
    "optax.nnls": "use scipy.optimize.nnls",
    "optax.microbatching.micro_vmap": (
        "call optx_core.micro_vmap(function, microbatch_size, argnums=..., reduction=...); examples are on "
        "the leading axis, and keyword arguments are shared"
    ),
    **{
        f"optax.experimental.aggregating.{name}": reason
        for name, reason in {
            "AccumulateAvgUpdatesState": "optx_core.multi_steps has a state of its own",
            "AggregatedUpdates": "a type of theirs; write optx_core.Updates",
            "Aggregator": "a transformation of optx_core.build.wrapping(..., per_example=True)",
            "AggregatorUpdateFn": "a type of theirs; write optx_core.TransformUpdateFn",
            "MaybeAxis": "a type of theirs; write int or None",
            "PerElementMeanAndSumSqDiffGradsState": (
                "optx_core.micro_grad(reduction='statistics') has no state"
            ),
            "PerElementMeanAndVarianceEMAState": (
                "optx_core.micro_grad(reduction='statistics') has no state"
            ),
            "PerElementUpdates": "a type of theirs; write optx_core.Updates",
            "accumulate_avg_updates": "use optx_core.multi_steps",
            "add_mean_variance_to_opt": (
                "use optx_core.micro_grad(reduction='statistics'), then optx_core.ema"
            ),
            "average_incrementally_updates": (
                "use optx_core.multi_steps, with gradients of optx_core.micro_grad"
            ),
            "average_per_element_updates": "use optx_core.micro_grad",
            "get_batch_size_from_per_elt_updates": "the size of the leading axis",
            "get_per_element_mean_and_sum_sq_diff_grads": (
                "use optx_core.micro_grad(reduction='statistics')"
            ),
            "get_unbiased_mean_and_variance_ema": (
                "use optx_core.micro_grad(reduction='statistics'), then optx_core.ema"
            ),
            "process": "use optx_core.chain: gradients of single examples may begin any chain",
            "track_per_element_mean_and_variance_with_ema": (
                "use optx_core.ema on the result of optx_core.micro_grad(reduction='statistics')"
            ),
        }.items()
    },
}

OLDER = {
    "optax": "DifferentiallyPrivateAggregateState MaybeUpdateState differentially_private_aggregate "
    "dpsgd maybe_update",
    "optax.monte_carlo": "control_delta_method control_variates_jacobians measure_valued_jacobians "
    "moving_avg_baseline pathwise_jacobians score_function_jacobians",
    "optax.tree_utils": "tree_add_scalar_mul tree_l1_norm tree_l2_norm tree_linf_norm "
    "tree_scalar_mul",
}
"""Names of optax 0.2.3 to 0.2.7 that optax 0.2.8 has removed, or gives with a warning alone."""

DIFFERS = {
    # those that an adapter serves: the tests list them
    "AccumulationType": "strings, as the reductions of optx_core; RUNNING_MEAN is MEAN",
    "hutchinson_estimator_diag_hessian": "optx_second_order.hutchinson_estimator, seeded by the key",
    "init_empty_state": "optx_core.identity().init",
    "micro_grad": "optx_core.micro_grad, in optax's order of arguments, sums by default, returns aux",
    "microbatch": "optx_core.microbatch, in optax's order of arguments, sums by default",
    "multiclass_generalized_dice_loss": (
        "the mean of optx_losses' one value per example, with the example's weights inside the quotient; "
        "optax weighs the losses of the classes by the batch's"
    ),
    "ntxent": "the mean over pairs of positives of optx_losses' one value per example",
    "ranking_softmax_loss": "the mean of optx_losses' one value per list, unless `reduce_fn` is given",
    "sophia": "optx_aliases.sophia with Hutchinson's estimator by default",
    "tree_l1_norm": "optx_core.tree.norm(tree, ord=1)",
    "tree_l2_norm": "optx_core.tree.norm(tree, squared=squared)",
    "tree_linf_norm": "optx_core.tree.norm(tree, ord='inf')",
    # the others
    "Accumulator": "`combine`, over devices, where optax has `aggregate`, over examples",
    "Gumbel": "`sample(shape, key)`",
    "HutchinsonState": "another state: raw key data",
    "InjectHyperparamsState": "one state for both kinds",
    "adabelief": "`weight_decay` is decoupled, with a mask",
    "adadelta": "descends without a learning rate, as with 1",
    "adaptive_grad_clip": "arrays of three axes: norms over all axes but the last",
    "adan": "differences of gradients have the weight b2, as in the paper; `look_ahead=1 - b2` gives optax's",
    "adopt": "equal to rounding; b2 = 0 needs `use_clipping=False`",
    "apply_if_finite": "`when_exceeded` says what happens after too many errors",
    "centralize": "the mean over all axes but the last",
    "clip_by_global_norm": "an infinite or NaN norm passes updates on as they are",
    "cosine_onecycle_schedule": "reaches the peak where boundaries coincide",
    "ctc_loss": "labels that cannot be aligned give an infinite loss; `log_epsilon` is -inf",
    "ctc_loss_with_forward_probs": "as `ctc_loss`; the last frame's probabilities are as the others'",
    "dadapt_adamw": "zero gradients at the start leave the estimate as it is",
    "dice_loss": "shapes must match; `apply_softmax=False` takes any probabilities",
    "differentially_private_aggregate": "a key or seed is needed",
    "flatten": "a buffer for each dtype",
    "fromage": "follows a schedule",
    "inject_hyperparams": "numbers are float32 for narrower parameters",
    "lbfgs": "pairs of negative or non-finite curvature are left out",
    "linear_onecycle_schedule": "as `cosine_onecycle_schedule`",
    "madgrad": "double precision of √(t + 1) with `jax_enable_x64`",
    "masked": "losses in extra arguments are called with all parameters",
    "maybe_update": "the function's argument is `should_transform_fn`",
    "mechanize": "`mask` says which leaves decay",
    "momo": "the step is divided by 1 + lr·λ too",
    "momo_adam": "as `momo`",
    "multi_normal": "parameters of one shape, or scalars",
    "MultiSteps": "a NaN micro-batch costs its own window alone",
    "muon": "embeddings and heads go to AdamW by their names; leaves of three axes are stacks of matrices",
    "Normal": "`sample(shape, key)`",
    "noisy_sgd": "another stream of noise",
    "novograd": "`mask` says which leaves decay",
    "partition": "a transformation without a label is an error",
    "multi_transform": "a transformation without a label is an error",
    "polyak_sgd": "`scaling=2` doubles the step",
    "prodigy": "as `dadapt_adamw`",
    "radam": "equal to some 1e-6 after 20 steps",
    "reshape_batch_axis": "the first argument is `batch`",
    "rprop": "each step is taken at once",
    "sam": "`sync_period=1` is the optimizer alone; optimizers run at their turns",
    "scale_by_ademamix": "`nu_dtype` sets the second moment's dtype",
    "scale_by_adan": "as `adan`",
    "scale_by_backtracking_linesearch": "`rtol` allows a rise for negative losses too",
    "scale_by_distance_over_gradients": "0-d arrays keep their shape",
    "scale_by_factored_rms": "t = 1 before `step_offset`",
    "scale_by_lbfgs": "as `lbfgs`",
    "scale_by_muon": "as `muon`",
    "scale_by_polyak": "as `polyak_sgd`",
    "scale_by_rprop": "as `rprop`",
    "scale_by_zoom_linesearch": "never ascends",
    "schedule_free": "the learning rate of this step is the weight",
    "schedule_free_eval_params": "finds the state at any depth",
    "selective_transform": "frozen leaves own no state",
    "set": "several matches are an error",
    "sm3": "0-d arrays have one sum",
    "tree_set": "several matches are an error",
    "unitwise_norm": "arrays of three axes: norms over all axes but the last",
}


def _parse(table: str) -> dict[str, str]:
    """The homes, such as `optx_core:partition`, of the names of one module."""
    homes: dict[str, str] = {}
    module = ""
    for line in filter(None, map(str.strip, table.splitlines())):
        left, colon, right = line.rpartition(":")
        module = left if colon else module
        for entry in right.split():
            theirs, _, ours = entry.partition("=")
            homes[theirs] = f"{module}:{ours or theirs}"
    return homes


TABLE = {module: _parse(table) for module, table in _TABLE.items()}
TABLE["optax.tree_utils"] |= {f"tree_{name}": home for name, home in TABLE["optax.tree"].items()}


def submodules(module: str) -> list[str]:
    """The names of the submodules of a module of optax."""
    return [name.rpartition(".")[2] for name in TABLE if name.rpartition(".")[0] == module]


def why_missing(module: str, name: str) -> str:
    """Returns the replacement for a name of optax that has no counterpart."""
    full = f"{module}.{name}"
    if reason := MISSING.get(full):
        return f"optx has no {full}: {reason}"
    places = " and ".join(f"{place}.{name}" for place, homes in TABLE.items() if name in homes)
    problem = f"{full} is private" if "._" in full else f"optax {OPTAX} has no {full}"
    return f"{problem}; it is {places}" if places else problem
