import subprocess
import sys

from dtb_builder import space


def test_the_face_of_the_space_is_pinned() -> None:
    assert space.__all__ == [
        "NAMED",
        "NUM_GENOTYPES",
        "OPERATIONS",
        "Edge",
        "Genotype",
        "mutate",
        "read_genotypes",
        "sample_uniform",
    ]


def test_importing_the_space_loads_nothing_heavy() -> None:
    code = (
        "import sys, dtb_builder.space; "
        "print({'torch', 'ray', 'hydra', 'scipy'} & set(sys.modules), 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set() True\n"


def test_the_operations_are_in_the_order_of_the_darts_repository() -> None:
    assert space.OPERATIONS == (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
