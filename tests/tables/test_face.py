import subprocess
import sys

from dtb_builder import tables


def test_the_face_of_the_tables_is_pinned() -> None:
    assert tables.__all__ == [
        "EvaluationData",
        "Outsider",
        "TrainedCell",
        "TrainedGenotype",
        "read_nasbench101",
        "read_nds",
        "read_oncenas",
        "read_retrained",
        "read_run301",
    ]


def test_reading_a_table_needs_no_torch() -> None:
    code = "import sys, dtb_builder.tables; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
