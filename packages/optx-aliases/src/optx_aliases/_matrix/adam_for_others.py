"""An optimizer of matrices, with AdamW for all other leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_aliases._transforms.adam import scale_by_adam
from optx_core import (
    Params,
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    scale_by_learning_rate,
)


def adam_for_others(
    where: str,
    matrices: Any,
    is_own: Callable[[Params], PyTree],
    *,
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule,
    b2: ScalarOrSchedule,
    eps: ScalarOrSchedule,
    eps_root: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule,
    mu_dtype: Any,
    nesterov: bool,
) -> build.Transformation:
    """Returns a partition into the leaves of an optimizer of matrices and those of AdamW.

    Args:
      where: the name of the optimizer, its label too; the other label is "adam".
      matrices: the optimizer of matrices.
      is_own: a function from the parameters to a tree of bools, True for its leaves.
      learning_rate: Adam's; the other arguments too.
    """
    others = chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay),
        scale_by_learning_rate(learning_rate),
    )

    def labels(params: Params) -> PyTree:
        return jax.tree.map(lambda own: where if own else "adam", is_own(params))

    return build.parted(where, {where: matrices, "adam": others}, labels, all_used=False)
