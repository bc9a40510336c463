"""Distillation of a last layer: divergences of a student S from a teacher T, without all the logits.

forward: KL(T‖S) = Σ_c t_c·(log t_c − log s_c)       dKL/dx_c = s_c − t_c
reverse: KL(S‖T) = Σ_c s_c·(log s_c − log t_c)       dKL/dx_c = s_c·(log s_c − log t_c − KL(S‖T))
jsd:     JSD = β·KL(T‖M) + (1 − β)·KL(S‖M)           dJSD/dx_c = (1 − β)·s_c·(log s_c − log m_c − KL(S‖M))
M = β·T + (1 − β)·S

where s_c, t_c and m_c are the probabilities of class c under S, T and their mixture M, x_c are the
student's logits, and β is `beta`.

References: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Agarwal et al., "On-Policy
Distillation of Language Models", 2024, section 2 (GKD).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import common_real_dtype
from optx_losses._chunks import recomputed, with_unit_gradients
from optx_losses._inputs import (
    as_floats,
    as_mask,
    check_number,
    check_number_or_none,
    has_shape,
    keep,
)
from optx_losses._linear_layer import (
    bounds_of,
    chunk_size_of,
    linear_layer,
    values_of,
)
from optx_losses._rounding import not_negative
from optx_losses._row_losses import log_normalizer
from optx_losses._rows import Bounds, Held, Plan, bounded, logits

_CHUNKS = 8  # by default; each holds several arrays of the size of its logits
Divergence = Literal["forward", "reverse", "jsd"]


def linear_distillation_loss(
    features: ArrayLike,
    weights: ArrayLike,
    teacher_features: ArrayLike | None = None,
    teacher_weights: ArrayLike | None = None,
    *,
    teacher_logits: ArrayLike | None = None,
    divergence: Divergence = "forward",
    beta: Scalar | None = None,
    temperature: Scalar | None = None,
    bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    soft_cap: Scalar | None = None,
    teacher_soft_cap: Scalar | None = None,
    chunk_size: int | None = None,
    recompute: bool = False,
    precision: Any = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence of each row's distribution under a student from that under a teacher.

    The logits of both exist for one chunk of rows at a time, forward and backward. The teacher has no
    gradient. As the gradients of a divergence at temperature τ shrink with 1 / τ², Hinton et al. multiply
    the loss by τ²; it is not done here.

    Args:
      features: the inputs of the student's last layer, shape [..., features].
      weights: of the student, shape [features, classes], as for `linear_softmax_cross_entropy`.
      teacher_features: the inputs of the teacher's last layer, shape [..., teacher's features].
      teacher_weights: of the teacher, shape [teacher's features, classes].
      teacher_logits: shape [..., classes], in the place of the two.
      divergence: "forward", KL(T‖S), which covers the teacher's modes; "reverse", KL(S‖T), which seeks
        one of them; "jsd", the generalized Jensen-Shannon divergence.
      beta: β, the share of the teacher in the mixture M of "jsd", in (0, 1), by default 0.5; for "jsd" only.
      temperature: τ, the divisor of both logits, greater than 0; None for 1.
      bias: of the student, shape [classes]; −inf excludes a class. For a finite divergence the teacher has
        to exclude it too in "forward", and the student the teacher's in "reverse".
      teacher_bias: of the teacher, shape [classes].
      soft_cap: the bound of the student's logits, as for `linear_softmax_cross_entropy`.
      teacher_soft_cap: that of the teacher's, if they come from its features.
      chunk_size: the number of rows of a chunk; by default an eighth of the rows, or more if there are few
        logits.
      recompute, precision: as for `linear_softmax_cross_entropy`.
      where: boolean mask of the rows' shape; rows that are False give 0 and no gradient, whatever they
        hold.

    Returns:
      The divergence of each row in nats, shape [...], at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, a number is out of range, or the teacher is not given once.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import linear_distillation_loss
      >>> features, weights = jnp.ones((1, 2)), jnp.zeros((2, 2))
      >>> linear_distillation_loss(features, weights, teacher_logits=jnp.array([[0.0, -jnp.inf]]))
      Array([0.6931472], dtype=float32)
    """
    name = "linear_distillation_loss"
    if divergence not in ("forward", "reverse", "jsd"):
        raise ValueError(
            f"{name}: divergence must be 'forward', 'reverse' or 'jsd', not {divergence!r}"
        )
    if beta is not None and divergence != "jsd":
        raise ValueError(
            f"{name}: beta is the share of the teacher in 'jsd', not in {divergence!r}"
        )
    beta = 0.5 if beta is None else beta
    check_number(name, above=0, below=1, beta=beta)
    check_number_or_none(
        name, above=0, temperature=temperature, soft_cap=soft_cap, teacher_soft_cap=teacher_soft_cap
    )
    student = linear_layer(name, features, weights, bias)
    mask = as_mask(name, where, jnp.zeros(student.shape), "the rows")
    given_as_layer = teacher_features is not None or teacher_weights is not None
    if given_as_layer == (teacher_logits is not None):
        raise ValueError(
            f"{name}: give the teacher as teacher_features and teacher_weights, or as teacher_logits"
        )
    no_layer: tuple[Any, Any, Any] = (None, None, None)
    if teacher_logits is not None:
        if teacher_bias is not None or teacher_soft_cap is not None:
            raise ValueError(f"{name}: teacher_logits include teacher_bias and teacher_soft_cap")
        (x,) = as_floats(name, teacher_logits=teacher_logits)
        shape = (*student.shape, student.w.shape[1])
        has_shape(name, "teacher_logits", x, shape, "one for each row and class")
        per_row, shared = x.reshape(student.rows, shape[-1]), no_layer
    else:
        teacher = linear_layer(name, teacher_features, teacher_weights, teacher_bias, "teacher_")
        if teacher.shape != student.shape:
            raise ValueError(
                f"{name}: features has rows {student.shape}, teacher_features has rows {teacher.shape}; "
                "they must be the same"
            )
        classes = (teacher.w.shape[0], student.w.shape[1])
        has_shape(name, "teacher_weights", teacher.w, classes, "the student's classes")
        cap = bounds_of(teacher, teacher_soft_cap).cap
        per_row, shared = teacher.f, (teacher.w, teacher.b, cap)
    dtype = common_real_dtype(student.f.dtype, per_row.dtype)
    student = jax.tree.map(lambda a: a.astype(dtype), student._replace(shape=()))._replace(
        shape=student.shape
    )
    if not student.rows:
        return jnp.zeros(student.shape, dtype)
    included = None if mask is None else mask.reshape(student.rows)
    if included is not None:
        per_row = keep(included[:, None], per_row)
    per_row, shared = lax.stop_gradient(jax.tree.map(lambda a: a.astype(dtype), (per_row, shared)))
    bounds = bounds_of(student, soft_cap, temperature)
    numbers = (jnp.asarray(beta, dtype), bounds.temperature, *shared)
    plan = Plan(
        chunk_size_of(name, chunk_size, student, _CHUNKS), Distillation(divergence), precision
    )
    chunked = recomputed if recompute else with_unit_gradients
    loss = values_of(chunked, plan, student, (bounds, numbers, (per_row,)), included)
    return loss.reshape(student.shape)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The divergence as a rule.

    Its numbers are β, the temperature, and the weights, bias and cap of the teacher, or None for
    teacher's logits; its rows are the features or the logits of the teacher.

    Attributes:
      divergence: of the student and the teacher.
    """

    divergence: Divergence

    def values(self, plan: Plan, x: jax.Array, numbers: Any, rows: Any) -> jax.Array:
        """The divergences."""
        return self.hold(plan, x, numbers, rows, True)[0]

    def hold(
        self, plan: Plan, x: jax.Array, numbers: Any, rows: Any, exact: bool
    ) -> tuple[jax.Array, Held]:
        """The divergences; and the logits of both, their normalizers, and KL(S‖T) or KL(S‖M)."""
        del exact
        (beta, temperature, w, b, cap), (of_teacher,) = numbers, rows
        if w is None:
            x_t = bounded(of_teacher, Bounds(cap, temperature))
        else:
            x_t = logits(plan, of_teacher, w, b, Bounds(cap, temperature))
        log_z, log_z_t = log_normalizer(x), log_normalizer(x_t)
        s, log_s = _probabilities(x, log_z)
        t, log_t = _probabilities(x_t, log_z_t)
        student = None
        if self.divergence == "forward":
            value = _mean(t, log_t, log_s)
        elif self.divergence == "reverse":
            value = student = _mean(s, log_s, log_t)
        else:
            log_m = _log_mixture(beta, s, t)
            student = _mean(s, log_s, log_m)
            value = beta * _mean(t, log_t, log_m) + (1 - beta) * student
        return not_negative(value), Held((x, x_t), (log_z, log_z_t, student))

    def slopes(
        self, numbers: Any, rows: Any, held: Held, classes: jax.Array, g: jax.Array | None
    ) -> jax.Array:
        """g·ddivergence/dx."""
        del rows, classes
        beta, (x, x_t), (log_z, log_z_t, student) = numbers[0], *held
        s, log_s = _probabilities(x, log_z)
        t, log_t = _probabilities(x_t, log_z_t)
        if self.divergence == "forward":
            slope = s - t
        elif self.divergence == "reverse":
            slope = s * (_difference(s, log_s, log_t) - student[:, None])
        else:
            difference = _difference(s, log_s, _log_mixture(beta, s, t))
            slope = (1 - beta) * s * (difference - student[:, None])
        return slope if g is None else slope * g[:, None]


def _probabilities(x: jax.Array, log_z: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = x - log_z[:, None]
    return jnp.exp(log_p), log_p


def _difference(p: jax.Array, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """log p − log q, and 0 where p is 0, whatever q is."""
    return jnp.where(p == 0, 0, log_p - log_q)


def _mean(p: jax.Array, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Σ_c p_c·(log p_c − log q_c)."""
    # Not a plain sum of products: XLA takes it for a matrix product and writes out both factors.
    return jnp.sum(jnp.where(p == 0, 0, p * _difference(p, log_p, log_q)), axis=1)


def _log_mixture(beta: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
    """log m, 0 where m is 0."""
    m = beta * t + (1 - beta) * s
    return jnp.log(jnp.where(m == 0, 1, m))
