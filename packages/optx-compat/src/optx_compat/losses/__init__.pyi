"""The names of `optax.losses`: losses."""

# Written by tools/write_stubs.py.

from optx_compat._adapters import multiclass_generalized_dice_loss as multiclass_generalized_dice_loss
from optx_compat._adapters import ntxent as ntxent
from optx_compat._adapters import ranking_softmax_loss as ranking_softmax_loss
from optx_losses import binary_dice_loss as binary_dice_loss
from optx_losses import convex_kl_divergence as convex_kl_divergence
from optx_losses import cosine_distance as cosine_distance
from optx_losses import cosine_similarity as cosine_similarity
from optx_losses import ctc_loss as ctc_loss
from optx_losses import ctc_loss_with_forward_probs as ctc_loss_with_forward_probs
from optx_losses import dice_loss as dice_loss
from optx_losses import generalized_kl_divergence as generalized_kl_divergence
from optx_losses import hinge_loss as hinge_loss
from optx_losses import huber_loss as huber_loss
from optx_losses import kl_divergence as kl_divergence
from optx_losses import kl_divergence_with_log_targets as kl_divergence_with_log_targets
from optx_losses import l2_loss as l2_loss
from optx_losses import log_cosh as log_cosh
from optx_losses import make_fenchel_young_loss as make_fenchel_young_loss
from optx_losses import multiclass_hinge_loss as multiclass_hinge_loss
from optx_losses import multiclass_perceptron_loss as multiclass_perceptron_loss
from optx_losses import multiclass_sparsemax_loss as multiclass_sparsemax_loss
from optx_losses import perceptron_loss as perceptron_loss
from optx_losses import poly_loss_cross_entropy as poly_loss_cross_entropy
from optx_losses import safe_softmax_cross_entropy as safe_softmax_cross_entropy
from optx_losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from optx_losses import sigmoid_focal_loss as sigmoid_focal_loss
from optx_losses import smooth_labels as smooth_labels
from optx_losses import softmax_cross_entropy as softmax_cross_entropy
from optx_losses import softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels
from optx_losses import sparsemax_loss as sparsemax_loss
from optx_losses import squared_error as squared_error
from optx_losses import triplet_margin_loss as triplet_margin_loss

__all__ = [
    "binary_dice_loss",
    "convex_kl_divergence",
    "cosine_distance",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dice_loss",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "log_cosh",
    "make_fenchel_young_loss",
    "multiclass_generalized_dice_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
    "perceptron_loss",
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sparsemax_loss",
    "squared_error",
    "triplet_margin_loss",
]
