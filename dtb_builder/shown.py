"""Making untrusted text safe to show in a terminal."""

import re

__all__ = ["masked", "shown", "shown_lines"]

_URL = re.compile(r"\b[A-Za-z][\w+.-]*://[^\s'\"<>]+")
_USER = re.compile(r"://[^/@]*@")
_QUERY = re.compile(r"\?.+")


def shown(text: object) -> str:
    r"""The text on one line, with control characters escaped and secrets in URLs masked.

    >>> shown("a title\x1b[2J\nanother line, https://me:secret@example.org/")
    'a title\\x1b[2J\\nanother line, https://***@example.org/'
    """
    said = masked(str(text))
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def shown_lines(text: str) -> str:
    """As `shown`, but keeps line breaks."""
    return "\n".join(map(shown, text.split("\n")))


def masked(text: str) -> str:
    """The text with user names, passwords and queries in URLs replaced by stars.

    >>> masked("there is no file https://me:secret@example.org/dtb.h5?token=1 any more")
    'there is no file https://***@example.org/dtb.h5?*** any more'
    """
    return _URL.sub(lambda url: _QUERY.sub("?***", _USER.sub("://***@", url[0])), text)
