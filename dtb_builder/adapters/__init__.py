"""Adapters to other packages of architecture search; each module needs its own package."""

__all__: list[str] = []
