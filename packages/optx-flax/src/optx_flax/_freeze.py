"""An optimizer that leaves some parameters of a model alone."""

from __future__ import annotations

from typing import Any

from flax import nnx
from optx_core import GradientTransformationExtraArgs, selective_transform
from optx_core.build import short_repr
from optx_flax._labels import mask_for


def freeze(
    model_or_state: Any, rules: Any, tx: Any, *, wrt: Any = nnx.Param
) -> GradientTransformationExtraArgs:
    """An optimizer with frozen parameters, which do not move, own no state and cost no work.

    It is `optx_core.selective_transform` with a mask by path. To save the gradients of the frozen
    parameters too, leave them out of `wrt` of both `nnx.grad` and `nnx.Optimizer`.

    Args:
      model_or_state: an `nnx.Module`, or the state of its parameters.
      rules: which parameters are frozen: a rule, a list of rules, or a function, as for `mask`. A
        Variable that is shared between several places is frozen if one of its paths is matched.
      tx: the optimizer of the other parameters.
      wrt: which Variables of a model are parameters; as given to `nnx.Optimizer`.

    Returns:
      A transformation with a `PartitionState`, labels "train" and "freeze".

    Raises:
      ValueError: if a rule matches no parameter.
      TypeError: if the arguments are in another order.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from optx_core import trace
      >>> from optx_flax import freeze
      >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, freeze(model, r"kernel$", trace(0.9)), wrt=nnx.Param)
      >>> [x.shape for x in jax.tree.leaves(optimizer.opt_state)]
      [(3,)]
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"freeze: tx must be a transformation, not {short_repr(tx)}; call freeze(model, rules, tx)"
        )
    return selective_transform(tx, freeze_mask=mask_for("freeze", model_or_state, rules, wrt))
