"""The tiny plan of the stages' tests."""

from stages.conftest import content, dtb, finished, torch_as_it_was

__all__ = ["content", "dtb", "finished", "torch_as_it_was"]
