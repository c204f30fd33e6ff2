"""The names, kinds and order of the arguments of compiled functions, read from their source."""

import re
from collections.abc import Mapping

__all__ = ["ADDRESS", "declared_arguments", "declared_kernels"]

ADDRESS = "*"
"""The kind of a pointer argument (a tensor or None); the kind of a number is its C type's name."""


def declared_arguments(text: str) -> Mapping[str, str]:
    """The name and the kind of each argument, in the order of the declaration.

    >>> declared_arguments("long C, const float *x, double eps")
    {'C': 'long', 'x': '*', 'eps': 'double'}
    """
    kinds: dict[str, str] = {}
    for argument in text.split(","):
        *of_type, name = re.findall(r"\w+|\*", argument)
        kinds[name] = of_type[-1]
    return kinds


def declared_kernels(source: str) -> dict[str, Mapping[str, str]]:
    """The arguments of each CUDA kernel, by its name without the numbers of a template.

    >>> declared_kernels("BOUNDED(64) scale_##N(float *x, int size) {")
    {'scale': {'x': '*', 'size': 'int'}}
    """
    kernel = r"^ *(?:KERNEL|BOUNDED\(.*\)) (\w+?)_?(?:##\w+)*\(([^)]*)\)"
    kernels = re.findall(kernel, source, re.MULTILINE)
    return {name: declared_arguments(text.replace("\\\n", "")) for name, text in kernels}
