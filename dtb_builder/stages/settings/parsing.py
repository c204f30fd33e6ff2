"""Make checked dataclasses of plain settings, as in YAML and JSON."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from dtb_builder.errors import ConfigError
from dtb_builder.stages.settings.plain import flat

__all__ = ["parse"]

T = TypeVar("T")


def parse(kind: type[T], settings: Mapping[str, Any]) -> T:
    """The dataclass of this kind with these settings.

    Raises:
        ConfigError: a setting is missing, unknown, of the wrong type or out of range.
    """
    import dacite  # here, since a reader's installation has no dacite

    hooks = {float: _float, int: _whole}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"the configuration must be keys with values, got {settings!r}")
    try:
        return dacite.from_dict(
            kind, _tuples(settings), dacite.Config(strict=True, type_hooks=hooks)
        )
    except dacite.WrongTypeError as error:
        given = flat(settings).get(error.field_path or "", error.value)
        raise ConfigError(
            f"{error.field_path} must be {_described(error.field_type)}, got {given!r}"
        ) from error
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise ConfigError(f"the configuration is not valid: {error}") from error


def _described(kind: Any) -> str:
    """A type in words, for error messages.

    >>> _described(Literal["all"] | tuple[int, ...])
    "'all' or a list of int"
    """
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, choices))
    if get_origin(kind) is tuple:
        return f"a list of {_described(choices[0])}"
    if choices:
        return " or ".join(map(_described, choices))
    return "null" if kind is type(None) else kind.__name__


def _float(value: Any) -> Any:
    """Converts an int to a float; the type check refuses other types."""
    return float(value) if type(value) in (int, float) else _whole(value)


def _whole(value: Any) -> Any:
    """Converts whole floats such as 1e9 to ints, and booleans to text, which is then refused."""
    if isinstance(value, bool):
        return str(value).lower()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuples(value: Any) -> Any:
    """The same settings with every list as a tuple."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
