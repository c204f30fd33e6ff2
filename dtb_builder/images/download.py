"""Image files from the web, kept in the user's cache."""

from pathlib import Path

from dtb_builder.errors import ImagesError

__all__ = ["download"]


def download(url: str, *, md5: str, folder: Path | None = None) -> Path:
    """The local copy of a file, downloaded the first time, with a progress bar.

    Args:
        url: where the file is published.
        md5: the publisher's checksum, in hexadecimal; another file raises ImagesError.
        folder: where to keep it instead of the user's cache.
    """
    import pooch  # here, since training needs it only where images must be fetched

    try:
        path = pooch.retrieve(
            url,
            known_hash=f"md5:{md5}",
            fname=url.rsplit("/", 1)[-1],
            path=folder or pooch.os_cache("darts-training-bench"),
            progressbar=True,
        )
    # OSError is the network's or the disk's; ValueError is how pooch reports another checksum.
    except (OSError, ValueError) as error:
        raise ImagesError(
            f"cannot download {url} with md5 {md5}: {error}; "
            "where the machine is offline, point root at a local copy"
        ) from error
    return Path(path)
