"""optx-aliases: the named optimizers, and the `scale_by_*` each is made of."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _elementwise.acprop: acprop scale_by_acprop
    _elementwise.adabelief: adabelief
    _elementwise.adadelta: ScaleByAdaDeltaState adadelta scale_by_adadelta
    _elementwise.adagrad: ScaleByRssState adagrad scale_by_rss
    _elementwise.adam: adam adamw
    _elementwise.adamax: adamax adamaxw scale_by_adamax
    _elementwise.adan: ScaleByAdanState adan scale_by_adan
    _elementwise.ademamix: ScaleByAdemamixState ademamix ademamix_alpha_schedule
        ademamix_b3_schedule scale_by_ademamix
    _elementwise.adopt: adopt scale_by_adopt
    _elementwise.amsgrad: ScaleByAmsgradState amsgrad scale_by_amsgrad
    _elementwise.grams: grams scale_by_grams
    _elementwise.lion: ScaleByLionState lion scale_by_lion
    _elementwise.madgrad: MadgradState madgrad scale_by_madgrad
    _elementwise.mars: ScaleByMarsState mars scale_by_mars
    _elementwise.nadam: nadam nadamw
    _elementwise.noisy_sgd: noisy_sgd
    _elementwise.optimistic: ScaleByOptimisticGradientState optimistic_adam optimistic_adam_v2
        optimistic_gradient_descent scale_by_optimistic_gradient
    _elementwise.radam: radam scale_by_radam
    _elementwise.rmsprop: rmsprop
    _elementwise.rprop: ScaleByRpropState rprop scale_by_rprop
    _elementwise.sgd: sgd
    _elementwise.sign_sgd: scale_by_sign sign_sgd signum
    _elementwise.simplified_ademamix: ScaleBySimplifiedAdEMAMixState
        scale_by_simplified_ademamix simplified_ademamix
    _elementwise.sophia: SophiaState scale_by_sophia sophia
    _elementwise.yogi: scale_by_yogi yogi
    _layerwise.fromage: fromage
    _layerwise.lamb: lamb
    _layerwise.lars: lars
    _layerwise.novograd: ScaleByNovogradState novograd scale_by_novograd
    _line_search.backtracking_linesearch: BacktrackingLinesearchInfo
        ScaleByBacktrackingLinesearchState scale_by_backtracking_linesearch
    _line_search.lbfgs: lbfgs
    _line_search.polyak: polyak_sgd scale_by_polyak
    _line_search.scale_by_lbfgs: ScaleByLBFGSState scale_by_lbfgs
    _line_search.value_and_grad_from_state: value_and_grad_from_state
    _line_search.zoom_linesearch: ScaleByZoomLinesearchState ZoomLinesearchInfo
        scale_by_zoom_linesearch
    _low_memory.adafactor: adafactor
    _low_memory.adam_mini: ScaleByAdamMiniState adam_mini scale_by_adam_mini
    _low_memory.came: ScaleByCameState came scale_by_came
    _low_memory.quantize_state: QuantizeState quantize_state
    _low_memory.sm3: ScaleBySM3State scale_by_sm3 sm3
    _matrix.apollo: ScaleByApolloState apollo_mini scale_by_apollo
    _matrix.dimension_numbers: GaLoreDimensionNumbers MuonDimensionNumbers
    _matrix.dion2: dion2
    _matrix.galore: GaLoreState galore scale_by_galore
    _matrix.kl_shampoo: ScaleByKlShampooState kl_shampoo scale_by_kl_shampoo
    _matrix.kron: ScaleByKronState kron scale_by_kron
    _matrix.linear_algebra: matrix_inverse_pth_root power_iteration
    _matrix.muon: muon
    _matrix.newton_schulz: newton_schulz
    _matrix.polynomials: polar_express_coefficients
    _matrix.qk_clip: qk_clip
    _matrix.scale_by_dion2: Dion2State scale_by_dion2
    _matrix.scale_by_muon: MuonSecondMomentState MuonState scale_by_muon
    _matrix.scale_by_shape: scale_by_shape
    _matrix.scion: scion
    _matrix.shampoo: ScaleByShampooState scale_by_shampoo shampoo
    _matrix.soap: ScaleBySoapState scale_by_soap soap
    _minimize.minimize: minimize
    _minimize.result: MinimizeResult MinimizeStatus
    _parameter_free.cocob: COCOBState cocob scale_by_cocob
    _parameter_free.dadapt_adamw: DAdaptAdamWState dadapt_adamw
    _parameter_free.dadapt_sgd: DAdaptSGDState dadapt_sgd
    _parameter_free.dog: DoGState DoWGState dog dowg scale_by_dog scale_by_dowg
    _parameter_free.ldog: ScaleByDistanceOverGradientsState scale_by_distance_over_gradients
    _parameter_free.mechanize: MechanicState mechanize
    _parameter_free.momo: MomoState momo
    _parameter_free.momo_adam: MomoAdamState momo_adam
    _parameter_free.prodigy: ProdigyState prodigy
    _transforms.adam: ScaleByAdamState scale_by_adam
    _transforms.belief: ScaleByBeliefState scale_by_belief
    _transforms.factored: FactoredState scale_by_factored_rms
    _transforms.param_block: scale_by_param_block_norm scale_by_param_block_rms
    _transforms.rms: ScaleByRmsState ScaleByRmsWithCountState scale_by_rms
    _transforms.stddev: ScaleByRStdDevState ScaleByRStdDevWithCountState scale_by_stddev
    _transforms.trust_ratio: scale_by_trust_ratio
    _wrappers.cautious: CautiousState cautious
    _wrappers.complex: SplitRealAndImaginaryArrays SplitRealAndImaginaryState
        split_real_and_imaginary
    _wrappers.hyperball: HyperballState hyperball
    _wrappers.per_example_clip: per_example_global_norm_clip per_example_layer_norm_clip
    _wrappers.privacy: DifferentiallyPrivateAggregateState differentially_private_aggregate
        dpsgd
    _wrappers.sam: NormalizeState SAMState normalize sam
    _wrappers.schedule_free: ScheduleFreeState schedule_free schedule_free_eval_params
    _wrappers.schedule_free_optimizers: schedule_free_adamw schedule_free_radam
        schedule_free_sgd
    """,
)
