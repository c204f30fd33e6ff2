"""OnceNAS-Bench's genotypes, each trained for 50 epochs on CIFAR-10.

Format: data-545.csv of OnceNAS-Bench/OnceNAS-Bench. Two rows of three have the operation none
and lie outside the space; the accuracy on valid images is that on the test images; several
genotypes stand there twice. Latencies are not read.
"""

import csv
import io

from dtb_builder.errors import GenotypeError, TableError
from dtb_builder.space import Genotype
from dtb_builder.tables.trained import Outsider, TrainedGenotype, accuracy_of

__all__ = ["read_oncenas"]

_CHANNELS, _LAYERS = 36, 20  # its column of parameters is reproduced by these


def read_oncenas(text: str) -> tuple[tuple[TrainedGenotype, ...], tuple[Outsider, ...]]:
    """The networks of the file's text, and those that are outside the space.

    Raises:
        TableError: the text is not in the format; the message has the row.
    """
    trained: list[TrainedGenotype] = []
    outside: list[Outsider] = []
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise TableError(f"wanted CSV with a row for each network: {error}") from error
    for number, row in enumerate(rows):
        try:
            accuracy = accuracy_of(row["test_acc50"])
            genotype = Genotype.parse(row["architecture"])
        except GenotypeError as error:
            outside.append(Outsider(number, str(error)))
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"row {number} is not one of OnceNAS-Bench: {error!r}") from error
        else:
            trained.append(TrainedGenotype(number, genotype, _CHANNELS, _LAYERS, False, accuracy))
    return tuple(trained), tuple(outside)
