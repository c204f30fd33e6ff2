import subprocess
import sys

from dtb_builder import scores, statistics


def test_the_face_of_the_scores_is_pinned() -> None:
    assert scores.__all__ == [
        "Agreement",
        "Atoms",
        "ProbeImages",
        "ReferenceSample",
        "Scale",
        "activation_units",
        "agreement",
        "cell_depth",
        "choose_probe",
        "das",
        "das3",
        "distinguishing_ability",
        "find_reference",
        "input_edges",
        "linear",
        "log_rank",
        "max_distinguishing_ability",
        "mean_hamming_distance",
        "rank_sum",
        "shipped_references",
        "standardised_input_edges",
        "training_speed",
        "wot",
        "z_sum",
    ]


def test_the_face_of_the_statistics_is_pinned() -> None:
    assert statistics.__all__ == [
        "Interval",
        "kendall_tau",
        "ndcg",
        "partial_tau",
        "spearman_rho",
        "top_overlap",
    ]


def test_ranking_needs_no_torch() -> None:
    code = (
        "import sys, dtb_builder.scores, dtb_builder.statistics; "
        "print({'torch', 'ray', 'hydra'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
