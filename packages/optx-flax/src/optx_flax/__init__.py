"""optx-flax: the bridge between optx and Flax NNX."""

from optx_flax._labels import label_params, mask

__all__ = ["label_params", "mask"]
