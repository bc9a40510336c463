"""optx-flax: the bridge between optx and Flax NNX."""

from optx_flax._checkpoints import RestoreReport, abstract_state, restore_into
from optx_flax._compile_step import CompiledStep, compile_step
from optx_flax._control import hyperparams, metrics, set_hyperparam
from optx_flax._create_sharded import create_sharded
from optx_flax._freeze import freeze
from optx_flax._labels import label_params, mask
from optx_flax._micro_batches import micro_value_and_grad
from optx_flax._migrate import MigrationReport, migrate_opt_state
from optx_flax._param_groups import param_groups
from optx_flax._place_opt_state import place_opt_state
from optx_flax._shard_state import shard_state
from optx_flax._trainable import trainable
from optx_flax._value_fn import value_fn

__all__ = [
    "CompiledStep",
    "MigrationReport",
    "RestoreReport",
    "abstract_state",
    "compile_step",
    "create_sharded",
    "freeze",
    "hyperparams",
    "label_params",
    "mask",
    "metrics",
    "micro_value_and_grad",
    "migrate_opt_state",
    "param_groups",
    "place_opt_state",
    "restore_into",
    "set_hyperparam",
    "shard_state",
    "trainable",
    "value_fn",
]
