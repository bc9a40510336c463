"""optx-flax: the bridge between optx and Flax NNX."""

# Written by tools/write_stubs.py.

from optx_flax._checkpoints import RestoreReport as RestoreReport
from optx_flax._checkpoints import abstract_state as abstract_state
from optx_flax._checkpoints import restore_into as restore_into
from optx_flax._compile_step import CompiledStep as CompiledStep
from optx_flax._compile_step import compile_step as compile_step
from optx_flax._control import eval_params as eval_params
from optx_flax._control import hyperparams as hyperparams
from optx_flax._control import learning_rates as learning_rates
from optx_flax._control import metrics as metrics
from optx_flax._control import set_hyperparam as set_hyperparam
from optx_flax._create_sharded import create_sharded as create_sharded
from optx_flax._digest import digest as digest
from optx_flax._find_learning_rate import find_learning_rate as find_learning_rate
from optx_flax._freeze import freeze as freeze
from optx_flax._labels import label_params as label_params
from optx_flax._labels import mask as mask
from optx_flax._late_start import LateStartState as LateStartState
from optx_flax._late_start import late_start as late_start
from optx_flax._lookahead import SlowWeightsState as SlowWeightsState
from optx_flax._lookahead import lookahead as lookahead
from optx_flax._max_logits import MaxLogits as MaxLogits
from optx_flax._max_logits import largest_logits as largest_logits
from optx_flax._max_logits import record_max_logits as record_max_logits
from optx_flax._max_logits import take_max_logits as take_max_logits
from optx_flax._micro_batches import micro_value_and_grad as micro_value_and_grad
from optx_flax._migrate import MigrationReport as MigrationReport
from optx_flax._migrate import migrate_opt_state as migrate_opt_state
from optx_flax._param_groups import param_groups as param_groups
from optx_flax._place_opt_state import place_opt_state as place_opt_state
from optx_flax._shard_state import shard_state as shard_state
from optx_flax._summarize import summarize as summarize
from optx_flax._to_optax import to_optax as to_optax
from optx_flax._trainable import trainable as trainable
from optx_flax._value_fn import value_fn as value_fn
