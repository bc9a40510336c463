"""optx-losses: losses, one value per example, finite where it matters."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _advantages: generalized_advantage_estimate group_relative_advantages
    _answers: answer_log_probs
    _contrastive: info_nce_loss ntxent supervised_contrastive_loss
    _cosine: cosine_distance cosine_similarity
    _ctc: ctc_loss ctc_loss_with_forward_probs
    _dice: binary_dice_loss dice_loss multiclass_generalized_dice_loss tversky_loss
    _fenchel_young: make_fenchel_young_loss
    _focal: sigmoid_focal_loss softmax_focal_loss
    _hinge: hinge_loss multiclass_hinge_loss multiclass_perceptron_loss perceptron_loss
    _huber: huber_loss
    _hungarian: hungarian_algorithm
    _integer_labels: softmax_cross_entropy_with_integer_labels
    _kl: convex_kl_divergence generalized_kl_divergence kl_divergence
        kl_divergence_with_log_targets
    _kto: kto_kl kto_loss
    _likelihood: gaussian_nll_loss poisson_nll_loss
    _linear_cross_entropy: linear_softmax_cross_entropy
    _linear_distillation: linear_distillation_loss
    _linear_log_probs: linear_log_probs
    _log_cosh: log_cosh
    _lovasz: lovasz_hinge_loss lovasz_softmax_loss
    _margin: arcface_loss cosface_loss
    _next_tokens: next_token_labels
    _policy: policy_loss
    _policy_named: bnpo_loss cispo_loss dapo_loss dr_grpo_loss gspo_loss grpo_loss ppo_loss
        sapo_loss
    _poly: poly_loss_cross_entropy
    _preference: dpo_loss ipo_loss orpo_loss simpo_loss slic_loss
    _preference_variants: apo_down_loss apo_zero_loss exo_loss nca_loss robust_dpo_loss
        sppo_loss
    _quantile: quantile_loss
    _ranking: lambda_rank_loss list_mle_loss pairwise_logistic_loss ranking_softmax_loss
    _redundancy: barlow_twins_loss vicreg_loss
    _sigmoid: sigmoid_binary_cross_entropy
    _smoothing: smooth_labels
    _softmax: safe_softmax_cross_entropy softmax_cross_entropy
    _sparsemax: multiclass_sparsemax_loss sparsemax_loss
    _squared: l2_loss squared_error
    _triplet: triplet_margin_loss
    _z_loss: z_loss
    """,
)
