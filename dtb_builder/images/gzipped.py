"""Files that may or may not be compressed with gzip."""

import gzip
import zlib
from pathlib import Path

from dtb_builder.errors import ImagesError

__all__ = ["read_gzipped"]


def read_gzipped(path: Path) -> bytes:
    """A file's content, unpacked and checked against gzip's checksum where it is compressed."""
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImagesError(f"{path} is a damaged gzip file of {len(data)} bytes: {error}") from error
