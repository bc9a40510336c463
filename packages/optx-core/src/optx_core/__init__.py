"""optx-core: the protocol of gradient transformations, and the elementary ones.

`optx_core.build` contains the tools to write transformations, `optx_core.tree` mathematics on trees.
"""

from optx_core._contents import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    .: build tree
    _combinators.chain: chain named_chain
    _combinators.masked: MaskedState masked
    _combinators.partition: PartitionState partition
    _engine.finite: all_finite
    _engine.norms: global_norm safe_norm safe_root_mean_squares
    _engine.numbers: safe_increment
    _engine.scheduled: ScheduledState
    _protocol.absent: TreeMismatchError
    _protocol.extra_args: with_extra_args_support
    _protocol.types: EmptyState GradientTransformation GradientTransformationExtraArgs
        MaskedNode OptState Params PyTree Scalar ScalarOrSchedule Schedule TransformInitFn
        TransformUpdateFn Updates
    _state.from_config: from_config
    _state.learning_rates: learning_rates
    _state.readout: hyperparams metrics
    _state.sharding: state_sharding zero1 zero1_rule
    _state.summary: Summary SummaryRow summarize
    _state.to_config: to_config
    _training.apply_updates: apply_updates incremental_update periodic_update
    _training.early_stopping: EarlyStopping
    _training.find_learning_rate: LearningRateSweep find_learning_rate
    _training.flat: Unravel ravel_params
    _training.accumulators: Accumulator RunningStatistics
    _training.merge_params: merge_params
    _training.micro_grad: MicroGradAux micro_grad micro_vmap
    _training.microbatching: microbatch reshape_batch_axis
    _training.scale_gradient: scale_gradient
    _transforms.add_decayed_weights: WeightDecaySchedule add_decayed_weights
    _transforms.add_noise: AddNoiseState add_noise
    _transforms.block_clip: adaptive_grad_clip clip_by_block_rms unitwise_clip unitwise_norm
    _transforms.centralize: centralize
    _transforms.clip: clip clip_by_global_norm
    _transforms.ema: EmaState ema
    _transforms.histogram: gradient_histogram log2_histogram
    _transforms.keep_params_nonnegative: keep_params_nonnegative
    _transforms.monitor: MonitorState SnapshotState measure_with_ema monitor snapshot
    _transforms.normalize: normalize_by_update_norm
    _transforms.scale: ScaleByScheduleState scale scale_by_learning_rate scale_by_schedule
    _transforms.stateless: identity set_to_zero stateless stateless_with_tree_map
    _transforms.trace: TraceState trace
    _transforms.weight_decays: CautiousDecay cautious_decay corrected_decay independent_decay
    _transforms.zero_nans: ZeroNansState zero_nans
    _wrappers.apply_every: ApplyEvery apply_every
    _wrappers.apply_if_finite: ApplyIfFiniteState apply_if_finite
    _wrappers.conditional: ConditionallyMaskState ConditionallyTransformState conditionally_mask
        conditionally_transform
    _wrappers.diloco: DilocoState diloco
    _wrappers.flatten: flatten
    _wrappers.freeze: freeze selective_transform
    _wrappers.inject_hyperparams: InjectStatefulHyperparamsState WrappedScheduleState
        inject_hyperparams inject_stateful_hyperparams
    _wrappers.lookahead: LookaheadParams LookaheadState SlowWeightsState lookahead
    _wrappers.loss_scale: LossScaleState dynamic_loss_scale loss_scale
    _wrappers.master_weights: MasterWeightsState RoundingErrorState master_weights
    _wrappers.multi_steps: MultiSteps MultiStepsState multi_steps skip_large_updates
        skip_not_finite
    _wrappers.offload: offload
    _wrappers.per_slice: per_slice
    _wrappers.skip_if: SkipIfState SkipIfWindowState skip_if
    _wrappers.slices: Slices
    _wrappers.stochastic_rounding: StochasticRoundingState stochastic_rounding
    _wrappers.with_ema: WithEmaState eval_params with_ema
    """,
)
