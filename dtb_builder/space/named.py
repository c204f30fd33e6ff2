"""Published genotypes of the DARTS space, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from dtb_builder.space.genotype import Genotype

__all__ = ["NAMED"]

NAMED: Mapping[str, Genotype] = MappingProxyType(
    {
        # github.com/quark0/darts, cnn/genotypes.py
        "DARTS_V1": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
                ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
            ],
            normal_concat=[2, 3, 4, 5],
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0),
            ],
            reduce_concat=[2, 3, 4, 5],
            )"""
        ),
        # github.com/quark0/darts, cnn/genotypes.py
        "DARTS_V2": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2),
            ],
            normal_concat=[2, 3, 4, 5],
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1),
            ],
            reduce_concat=[2, 3, 4, 5],
            )"""
        ),
        # github.com/yuhuixu1993/PC-DARTS, genotypes.py
        "PC_DARTS_cifar": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
                ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/yuhuixu1993/PC-DARTS, genotypes.py
        "PC_DARTS_image": Genotype.parse(
            """Genotype(
            normal=[
                ('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1),
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('dil_conv_5x5', 4),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
                ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 3),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/chenxin061/pdarts, genotypes.py
        "PDARTS": Genotype.parse(
            """Genotype(
            normal=[
                ('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
                ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/SNAS-Series/SNAS-Series, SNAS/genotypes.py
        "SNAS_mild": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 1),
                ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2),
                ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('dil_conv_5x5', 2),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/xiangning-chen/DrNAS, DARTS-space/genotypes.py
        "DrNAS_cifar10": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
                ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2), ('dil_conv_5x5', 3),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_5x5', 2), ('sep_conv_5x5', 1),
                ('sep_conv_5x5', 1), ('dil_conv_5x5', 3), ('skip_connect', 4), ('sep_conv_5x5', 1),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/xiangning-chen/DrNAS, DARTS-space/genotypes.py
        "DrNAS_imagenet": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                ('sep_conv_3x3', 0), ('dil_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 2), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/lightaime/sgas, cnn/genotypes.py, Cri1_CIFAR_3, which it calls Cri1_CIFAR_Best
        "SGAS": Genotype.parse(
            """Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                ('sep_conv_5x5', 1), ('sep_conv_5x5', 3), ('skip_connect', 0), ('dil_conv_5x5', 2),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
                ('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
        # github.com/automl/RobustDARTS, src/evaluation/archs.yaml, at f83f0a8, s1_cifar10_dp: 0.8
        # (searched on CIFAR-10 in its space S1 with a drop-path probability of 0.8;
        # results.yaml there gives 97.0 % test accuracy at 36 channels and 20 layers)
        "RobustDARTS": Genotype.parse(
            """Genotype(
            normal=[
                ('skip_connect', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('skip_connect', 0),
                ('dil_conv_3x3', 3), ('sep_conv_3x3', 2), ('dil_conv_3x3', 2), ('dil_conv_3x3', 4),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
                ('dil_conv_5x5', 3), ('max_pool_3x3', 0), ('dil_conv_5x5', 4), ('dil_conv_5x5', 3),
            ],
            reduce_concat=range(2, 6),
            )"""
        ),
    }
)
"""The genotypes in their published spelling, with which published weights load."""
