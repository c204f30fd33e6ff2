"""214 random genotypes of the DARTS space, each trained for 600 epochs on CIFAR-10.

Format: 214genotypes.pkl and 214_random_architectures.npy of antoyang/NAS-Benchmark. The first has
genotypes as texts, each with its best accuracy of all epochs; the second the test accuracies in
percent after each epoch, in the same order. Of these the last is taken, since the best one is
chosen on the test images. The pickle is never unpickled: texts are picked from its instructions.
"""

import pickletools

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import GenotypeError, TableError
from dtb_builder.space import Genotype
from dtb_builder.tables.trained import TrainedGenotype

__all__ = ["read_retrained"]

_CHANNELS, _LAYERS = 36, 20  # of DARTS' own evaluation


def read_retrained(pickled: bytes, accuracies: NDArray[np.float64]) -> tuple[TrainedGenotype, ...]:
    """The networks, in the order of the files.

    Args:
        pickled: the bytes of 214genotypes.pkl.
        accuracies: what 214_random_architectures.npy has, shape (networks, epochs), in percent.

    Raises:
        TableError: the files are not in the format, or not of the same networks.
    """
    try:
        instructions = [argument for _, argument, _ in pickletools.genops(pickled)]
        texts = [text for text in instructions if isinstance(text, str) and "Genotype(" in text]
        genotypes = [Genotype.parse(text) for text in texts]
    except (GenotypeError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise TableError(f"wanted a pickle with the texts of genotypes: {error}") from error
    if accuracies.dtype != np.float64 or accuracies.ndim != 2 or len(accuracies) != len(texts):
        raise TableError(
            f"wanted a curve of float64 for each of {len(texts)} genotypes, "
            f"got {accuracies.dtype} of shape {accuracies.shape}"
        )
    if not (accuracies.size and ((accuracies >= 0) & (accuracies <= 100)).all()):
        raise TableError("wanted accuracies in 0..100 percent")
    return tuple(
        TrainedGenotype(number, genotype, _CHANNELS, _LAYERS, True, float(curve[-1]) / 100)
        for number, (genotype, curve) in enumerate(zip(genotypes, accuracies, strict=True))
    )
