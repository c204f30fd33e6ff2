"""Sizes in bytes as text."""

__all__ = ["byte_text"]


def byte_text(num_bytes: float) -> str:
    """A number of bytes with a unit.

    >>> byte_text(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
