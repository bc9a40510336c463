"""optx-aliases."""

from optx_aliases._adam import ScaleByAdamState, adam, adamw, scale_by_adam

__all__ = ["ScaleByAdamState", "adam", "adamw", "scale_by_adam"]
