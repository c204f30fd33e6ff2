"""Download image files into the user's cache."""

from pathlib import Path

from dtb_builder.errors import ImagesError

__all__ = ["download"]


def download(url: str, *, md5: str, folder: Path | None = None) -> Path:
    """The local copy of a file, which is downloaded with a progress bar if there is none.

    Args:
        url: the file's address.
        md5: the publisher's checksum, in hexadecimal.
        folder: where to keep the file; by default the user's cache.

    Raises:
        ImagesError: the download failed, or its checksum differs.
    """
    import pooch  # here, since only downloads need it

    try:
        path = pooch.retrieve(
            url,
            known_hash=f"md5:{md5}",
            fname=url.rsplit("/", 1)[-1],
            path=folder or pooch.os_cache("darts-training-bench"),
            progressbar=True,
        )
    # OSError comes from the network or the disk; pooch raises ValueError for another checksum.
    except (OSError, ValueError) as error:
        raise ImagesError(
            f"cannot download {url} with md5 {md5}: {error}; "
            "if the machine is offline, set root to a local copy"
        ) from error
    return Path(path)
