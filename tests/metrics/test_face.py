import subprocess
import sys

from dtb_builder import metrics


def test_the_face_of_the_metrics_is_pinned() -> None:
    assert metrics.__all__ == [
        "Agreement",
        "Atoms",
        "Comparison",
        "Interval",
        "Moments",
        "ProbeImages",
        "ReferenceSample",
        "activation_units",
        "agreement",
        "bootstrap",
        "choose_probe",
        "compare",
        "das",
        "distinguishing_ability",
        "find_reference",
        "kendall_tau",
        "linear",
        "log_rank",
        "max_distinguishing_ability",
        "mean_hamming_distance",
        "partial_tau",
        "rank_sum",
        "shipped_references",
        "spearman_rho",
        "top_overlap",
        "training_speed",
        "wot",
        "z_sum",
    ]


def test_ranking_needs_no_torch() -> None:
    code = "import sys, dtb_builder.metrics; print({'torch', 'ray', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
