"""The names of `optax.microbatching`: large batches in slices."""

# Written by tools/write_stubs.py.

from optx_compat._adapters import AccumulationType as AccumulationType
from optx_compat._adapters import micro_grad as micro_grad
from optx_compat._adapters import microbatch as microbatch
from optx_core import Accumulator as Accumulator
from optx_core import reshape_batch_axis as reshape_batch_axis

__all__ = [
    "AccumulationType",
    "Accumulator",
    "micro_grad",
    "microbatch",
    "reshape_batch_axis",
]
