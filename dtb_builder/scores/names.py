"""The names of the scores of a network, with a line on each; needs no torch."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ARCHITECTURE_SCORES", "KERNEL_SCORES", "RANKED_BESIDE", "SCORES"]

SCORES: Mapping[str, str] = MappingProxyType(
    {
        "wot": "log det K_H, the score of NASWOT",
        "distinguishing_ability": "D = log det(K_H / N_A)",
        "activation_units": "N_A, ReLU units that one image passes",
        "mean_hamming_distance": "share of the units that two images differ in",
        "num_parameters": "trainable parameters, an auxiliary head's included",
        "multiply_accumulates": "of convolutions and matrix products for one image",
        "input_edges": "I, edges of the normal cell that read its own inputs",
        "cell_depth": "longest path through the normal cell; in the DARTS space less is better",
        "l2_norm": "sum of the norms of the weights of layers",
        "gradient_norm": "sum of the norms of the gradients of layers",
        "snip": "sum of |w dL/dw|",
        "plain": "sum of w dL/dw",
        "fisher": "sum over channels of the mean square of maps times their gradients",
        "grasp": "minus the sum of w (H g)",
        "synflow": "sum of w dR/dw of a flow of ones",
        "jacob_cov": "how little the gradients by different images are correlated",
        "epe_nas": "how little the gradients by different images of a class are correlated",
        "swap": "different patterns that units show",
        "swap_regularised": "SWAP, less for sizes far from the space's mean",
        "sahd": "log det of a kernel of Hamming distances, rescaled by how many units fire",
        "zico": "sum over layers of log sum of mean |g| / deviation of |g|, of two batches",
        "zen": "change of random networks' maps with random changes of images",
        "rbflex": "log det of kernels of activations and of last maps, of 16 images",
        "meco": "how little channels are correlated, for one random image",
        "ntk_condition": "minus the condition number of the tangent kernel of 16 images",
        "linear_regions": "different activation codes of 3000 small crops",
        "az_expressivity": "entropy of the maps between cells, of random networks",
        "az_progressivity": "least growth of that entropy from one cell to the next",
        "az_trainability": "how well random networks' cells pass gradients back",
    }
)
"""Every score of a network; a larger score predicts a better network."""

KERNEL_SCORES: frozenset[str] = frozenset(
    {"wot", "distinguishing_ability", "activation_units", "mean_hamming_distance"}
)
"""The scores that come from the agreement kernel, computed once for all of them."""

ARCHITECTURE_SCORES: frozenset[str] = frozenset(
    {
        "activation_units",
        "num_parameters",
        "multiply_accumulates",
        "input_edges",
        "cell_depth",
        "zen",
        "az_expressivity",
        "az_progressivity",
        "az_trainability",
    }
)
"""The scores that training does not change."""

RANKED_BESIDE: frozenset[str] = frozenset(
    {
        *("das", "das3", "z_sum", "z_sum3", "D_params", "params_I", "rank_sum", "log_rank"),
        *("linear_0.03", "linear_0.1", "linear_0.3", "az_nas", "te_nas"),
        *("training_speed", "train_loss", "valid_accuracy", "valid_loss"),
    }
)
"""What `dtb rank` ranks beside scores: their combinations, and figures of the training curves."""
