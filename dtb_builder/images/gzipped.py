"""Read files that may be compressed with gzip."""

import gzip
import zlib
from pathlib import Path

from dtb_builder.errors import ImagesError

__all__ = ["read_gzipped"]


def read_gzipped(path: Path) -> bytes:
    """A file's content; a compressed file is unpacked and its checksum is verified.

    Raises:
        ImagesError: the compressed file is damaged.
    """
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImagesError(f"{path} is a damaged gzip file of {len(data)} bytes: {error}") from error
