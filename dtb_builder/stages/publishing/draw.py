"""Draw a genotype's two cells as SVG or PNG."""

from importlib.resources import as_file, files
from pathlib import Path

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.errors import ConfigError
from dtb_builder.space import Genotype

__all__ = ["draw"]

_FONT = "DejaVuSans.ttf"
"""PNG needs a font: many containers have none, and then a picture would have no text."""


def draw(genotype: Genotype, path: Path) -> None:
    """Write a picture of a genotype, as SVG or PNG by the file's suffix.

    Raises:
        ConfigError: the suffix is neither .svg nor .png, or resvg-py is not installed.
    """
    svg = genotype.to_svg()
    if path.suffix == ".svg":
        write_whole(path, svg.encode())
    elif path.suffix == ".png":
        try:
            from resvg_py import svg_to_bytes
        except ImportError as error:
            raise ConfigError(
                "PNG needs resvg-py, in the extra [report]; SVG needs nothing"
            ) from error
        with as_file(files("dtb_builder.stages.publishing") / _FONT) as font:
            png = svg_to_bytes(
                svg_string=svg,
                zoom=2,
                skip_system_fonts=True,
                font_files=[str(font)],
                sans_serif_family="DejaVu Sans",
            )
        write_whole(path, bytes(png))
    else:
        raise ConfigError(f"a picture's file must end with .svg or .png, got {path}")
