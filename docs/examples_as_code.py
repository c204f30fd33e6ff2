"""For the site: the examples of docstrings, shown as code."""

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["ExamplesAsCode"]

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\n|\Z)", flags=re.DOTALL | re.MULTILINE)


class ExamplesAsCode(Extension):
    """Puts each example into a code block; griffe would do so only under ``Examples:``."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("```pycon\n\\g<0>\n```", obj.docstring.value)
