"""Adapters to other NAS packages; each module needs the package that it adapts to."""

__all__: list[str] = []
