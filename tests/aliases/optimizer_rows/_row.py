"""What a row of the table says of an optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """An optimizer, and what is expected of it.

    Attributes:
      make: `make()` builds it.
      parts: the public `scale_by_*` it is made of.
      paper: a NumPy transcription of the paper's update for one array, `paper(p, grads) -> p`, where
        each of `grads` is a function of the parameters; run in double precision. None where the
        update needs more than gradients; then a test of its own compares it.
      optax: `optax(module)` builds the same one from optax's names; None where optax has none.
      extra_args: `extra_args(params, updates)` returns what `update` needs besides gradients.
      floor: the bytes per float32 parameter that a step must read and write (g, p and the slots once
        each); None where the equations are not element by element.
      beats_optax: the bytes of a compiled step, at most this times optax's.
      evaluated: `evaluated(state, params)` gives the parameters the loss is to be small at, where
        they are not `params` themselves.
      options: options of `check_transformation`.
    """

    make: Callable[[], Any]
    parts: tuple[str, ...] = ()
    paper: Callable[..., Any] | None = None
    optax: Callable[[Any], Any] | None = None
    extra_args: Callable[[Any, Any], dict[str, Any]] | None = None
    floor: float | None = None
    beats_optax: float = 1.0
    evaluated: Callable[[Any, Any], Any] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
