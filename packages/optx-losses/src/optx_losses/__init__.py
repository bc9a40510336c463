"""optx-losses: losses, one value per example, finite where it matters."""

from optx_losses._contrastive import info_nce_loss, ntxent, supervised_contrastive_loss
from optx_losses._cosine import cosine_distance, cosine_similarity
from optx_losses._ctc import ctc_loss, ctc_loss_with_forward_probs
from optx_losses._dice import (
    binary_dice_loss,
    dice_loss,
    multiclass_generalized_dice_loss,
    tversky_loss,
)
from optx_losses._fenchel_young import make_fenchel_young_loss
from optx_losses._focal import sigmoid_focal_loss, softmax_focal_loss
from optx_losses._hinge import (
    hinge_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    perceptron_loss,
)
from optx_losses._huber import huber_loss
from optx_losses._hungarian import hungarian_algorithm
from optx_losses._integer_labels import softmax_cross_entropy_with_integer_labels
from optx_losses._kl import (
    convex_kl_divergence,
    generalized_kl_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
)
from optx_losses._likelihood import gaussian_nll_loss, poisson_nll_loss
from optx_losses._linear_cross_entropy import linear_softmax_cross_entropy
from optx_losses._log_cosh import log_cosh
from optx_losses._lovasz import lovasz_hinge_loss, lovasz_softmax_loss
from optx_losses._margin import arcface_loss, cosface_loss
from optx_losses._poly import poly_loss_cross_entropy
from optx_losses._preference import dpo_loss, ipo_loss, kto_loss, orpo_loss, simpo_loss, slic_loss
from optx_losses._quantile import quantile_loss
from optx_losses._ranking import (
    lambda_rank_loss,
    list_mle_loss,
    pairwise_logistic_loss,
    ranking_softmax_loss,
)
from optx_losses._redundancy import barlow_twins_loss, vicreg_loss
from optx_losses._sigmoid import sigmoid_binary_cross_entropy
from optx_losses._smoothing import smooth_labels
from optx_losses._softmax import safe_softmax_cross_entropy, softmax_cross_entropy
from optx_losses._sparsemax import multiclass_sparsemax_loss, sparsemax_loss
from optx_losses._squared import l2_loss, squared_error
from optx_losses._triplet import triplet_margin_loss
from optx_losses._z_loss import z_loss

__all__ = [
    "arcface_loss",
    "barlow_twins_loss",
    "binary_dice_loss",
    "convex_kl_divergence",
    "cosface_loss",
    "cosine_distance",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dice_loss",
    "dpo_loss",
    "gaussian_nll_loss",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "hungarian_algorithm",
    "info_nce_loss",
    "ipo_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "kto_loss",
    "l2_loss",
    "lambda_rank_loss",
    "linear_softmax_cross_entropy",
    "list_mle_loss",
    "log_cosh",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "make_fenchel_young_loss",
    "multiclass_generalized_dice_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
    "orpo_loss",
    "pairwise_logistic_loss",
    "perceptron_loss",
    "poisson_nll_loss",
    "poly_loss_cross_entropy",
    "quantile_loss",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "simpo_loss",
    "slic_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "sparsemax_loss",
    "squared_error",
    "supervised_contrastive_loss",
    "triplet_margin_loss",
    "tversky_loss",
    "vicreg_loss",
    "z_loss",
]
