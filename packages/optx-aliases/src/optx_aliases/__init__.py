"""optx-aliases: the named optimizers, and the `scale_by_*` each is made of."""

from optx_aliases._adam import ScaleByAdamState, adam, adamw, scale_by_adam
from optx_aliases._rmsprop import (
    ScaleByRmsState,
    ScaleByRmsWithCountState,
    ScaleByRStdDevState,
    ScaleByRStdDevWithCountState,
    rmsprop,
    scale_by_rms,
    scale_by_stddev,
)
from optx_aliases._sgd import sgd

__all__ = [
    "ScaleByAdamState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "adam",
    "adamw",
    "rmsprop",
    "scale_by_adam",
    "scale_by_rms",
    "scale_by_stddev",
    "sgd",
]
