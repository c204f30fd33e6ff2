"""Parsing untrusted JSON: it must be an object, neither too long nor too deep."""

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
        where: the text's place, for the error.
        most: the largest allowed number of characters.

    Raises:
        DamagedFileError: the text is not JSON, not an object, or too long or deep.
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
    """Check the type of a JSON value and, in an object, of its parts.

    Args:
        value: a value parsed from JSON.
        shape: the expected types.
        where: the value's place, for the error.
        whole: whether every key of ``shape`` must be present.

    Raises:
        DamagedFileError: a type is wrong, or a key is missing.
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
