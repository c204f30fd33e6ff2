"""The arguments of compiled code, as its own declarations name and order them."""

import re
from collections.abc import Mapping

__all__ = ["ADDRESS", "declared_arguments", "declared_kernels"]

ADDRESS = "*"
"""The kind of an argument that is a tensor or None; that of a number is the name of its C type."""


def declared_arguments(text: str) -> Mapping[str, str]:
    """The name and the kind of each argument, in order.

    >>> declared_arguments("long C, const float *x, double eps")
    {'C': 'long', 'x': '*', 'eps': 'double'}
    """
    kinds: dict[str, str] = {}
    for argument in text.split(","):
        *of_type, name = re.findall(r"\w+|\*", argument)
        kinds[name] = of_type[-1]
    return kinds


def declared_kernels(source: str) -> dict[str, Mapping[str, str]]:
    """The arguments of each CUDA kernel; those of one template stand under its name alone.

    >>> declared_kernels("BOUNDED(64) scale_##N(float *x, int size) {")
    {'scale': {'x': '*', 'size': 'int'}}
    """
    kernel = r"^ *(?:KERNEL|BOUNDED\(.*\)) (\w+?)_?(?:##\w+)*\(([^)]*)\)"
    found = re.findall(kernel, source, re.MULTILINE)
    return {name: declared_arguments(text.replace("\\\n", "")) for name, text in found}
