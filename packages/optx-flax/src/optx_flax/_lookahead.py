"""`optx_core.lookahead`, which keeps the slow weights in the state: for `nnx.Optimizer` too."""

from optx_core import SlowWeightsState, lookahead

__all__ = ["SlowWeightsState", "lookahead"]
