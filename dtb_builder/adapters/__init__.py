"""A benchmark as other packages of architecture search expect it; each module needs its own."""

__all__: list[str] = []
