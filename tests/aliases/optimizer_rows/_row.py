"""What a row of the table says of an optimizer."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

# The problems that every optimizer is run on, for `Row.not_for`.
PROBLEMS = {"quadratic", "rosenbrock", "classification"}


@dataclasses.dataclass(frozen=True)
class Row:
    """An optimizer, and what is expected of it.

    A name without a comma is the optimizer as it is usually called: it goes through all tests. What
    follows a comma is an option: such a row goes through the paper's and optax's numbers, the count of
    bytes, the layout of its state, and the promises of the protocol that an option can break.

    Attributes:
      make: `make()` builds it.
      parts: the public `scale_by_*` it is made of.
      paper: a NumPy transcription of the paper's update for one array, `paper(p, grads) -> p`, where
        each of `grads` is a function of the parameters; run in double precision. None where the
        update needs more than gradients; then a test of its own compares it.
      optax: `optax(module)` builds the same one from optax's names; None where optax has none.
      same_numbers: whether optax's numbers are to be ours; False where the table of differences says
        why they are not (another random stream, another formula).
      same_state: likewise, whether the state's fields, shapes and dtypes are to be optax's.
      extra_args: `extra_args(params, updates)` returns what `update` needs besides gradients. Where
        a loss is at hand (`value`, `grad`, `value_fn`, `grad_fn`) the tests pass it anyway.
      floor: the bytes per float32 parameter that a step must read and write (g, p and the slots once
        each); None where the equations are not element by element.
      over_floor: the bytes of a compiled step, at most this times the floor; more than 1.45 only where
        XLA:CPU, which makes one pass for each array it writes, cannot do with less: say why.
      copies: temporaries of a compiled step in bytes, at most this times the parameters'.
      beats_optax: the bytes of a compiled step, at most this times optax's.
      evaluated: `evaluated(state, params)` gives the parameters the loss is to be small at, where
        they are not `params` themselves.
      rates: the learning rates that are tried on the problems; the best one counts. Without a
        `learning_rate` among the arguments of `make()`, or with a schedule, it runs as it is made.
      steps: how many steps it has for the problems.
      not_for: the problems it is not meant for: "quadratic", "rosenbrock", "classification".
      same_on_devices: whether sharded parameters move as on one device, to 1e-4; False where the
        rounding of a sum decides (which of two equal eigenvectors, which of two codes).
      promises: the promises checked; None for all of them, or a variant's share.
      options: options of `check_transformation`.
    """

    make: Callable[[], Any]
    parts: tuple[str, ...] = ()
    paper: Callable[..., Any] | None = None
    optax: Callable[[Any], Any] | None = None
    same_numbers: bool = True
    same_state: bool = True
    extra_args: Callable[[Any, Any], dict[str, Any]] | None = None
    floor: float | None = None
    over_floor: float = 1.45
    copies: float = 0.05
    beats_optax: float = 1.0
    evaluated: Callable[[Any, Any], Any] | None = None
    rates: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    steps: int = 1000
    not_for: Iterable[str] = ()
    same_on_devices: bool = True
    promises: tuple[int, ...] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
