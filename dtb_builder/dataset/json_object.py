"""JSON that somebody else may have written: an object, of a length and depth that can be read."""

import json
from typing import Any

from dtb_builder.dataset.schema import Shape
from dtb_builder.errors import DamagedFileError

__all__ = ["check_shape", "json_object"]

_MOST_CHARACTERS = 2**22


def json_object(
    text: str | bytes, where: object, *, most: int = _MOST_CHARACTERS
) -> dict[str, Any]:
    """The keys and values of a JSON text.

    Args:
        text: the JSON.
        where: it stands, for the error.
        most: its longest length.

    Raises:
        DamagedFileError: it is no JSON, no object, or too long or deep.
    """
    if len(text) > most:
        raise DamagedFileError(f"{where}: JSON of {len(text)} characters, expected {most} at most")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DamagedFileError(f"{where}: expected a JSON object, got {value!r:.40}")
    return value


def check_shape(value: Any, shape: Shape, where: str, *, whole: bool = False) -> None:
    """See that a JSON value is of a kind, and so are the parts of an object.

    Args:
        value: as json gives it.
        shape: what it should be, as `schema.Shape`.
        where: it stands, for the error.
        whole: whether no key may be missing.

    Raises:
        DamagedFileError: it is not.
    """
    kind = dict if isinstance(shape, dict) else shape
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (kind in (int, float) and isinstance(value, bool)):
        raise DamagedFileError(f"{where} should be {_NAMES[kind]}, got {value!r:.40}")
    if not isinstance(shape, dict):
        return
    for key, of_part in shape.items():
        if key == "*":
            for name, part in value.items():
                check_shape(part, of_part, f"{where}, {name:.40}", whole=whole)
        elif key in value:
            check_shape(value[key], of_part, f"{where}, {key}", whole=whole)
        elif whole:
            raise DamagedFileError(f"{where} has no {key}")


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
