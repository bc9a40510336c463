"""optx-flax: the bridge between optx and Flax NNX."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _checkpoints: RestoreReport abstract_state restore_into
    _compile_step: CompiledStep compile_step
    _control: eval_params hyperparams learning_rates metrics set_hyperparam
    _create_sharded: create_sharded
    _digest: digest
    _find_learning_rate: find_learning_rate
    _freeze: freeze
    _labels: label_params mask
    _late_start: LateStartState late_start
    _lookahead: SlowWeightsState lookahead
    _max_logits: MaxLogits largest_logits record_max_logits take_max_logits
    _micro_batches: micro_value_and_grad
    _migrate: MigrationReport migrate_opt_state
    _param_groups: param_groups
    _place_opt_state: place_opt_state
    _shard_state: shard_state
    _summarize: summarize
    _to_optax: to_optax
    _trainable: trainable
    _value_fn: value_fn
    """,
)
