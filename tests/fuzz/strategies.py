"""How bytes and JSON are changed."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["changed_bytes", "changed_json"]

_DEEP, _HUGE = "nested deep", "many digits"
_IN_PLACE = {f'"{_DEEP}"': "[" * 5000 + "]" * 5000, f'"{_HUGE}"': "9" * 5000}
_ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308),
    *(float("nan"), float("inf"), "", "x", "../../etc/passwd", "é\x1b[2J\r\n\u202e", "a" * 300),
    *([], {}, [[]], ["x"], [1, 2], {"a": {}}, {"": None}, _DEEP, _HUGE),
]


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON text of a value in which one to three parts are others."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value)
    text = json.dumps(value)
    for sign, instead in _IN_PLACE.items():
        text = text.replace(sign, instead)
    return text.encode()


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with one part replaced, gone or new; deep parts are as likely as others."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return _odd(draw)
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    how = draw(st.sampled_from(["inside", "inside", "inside", "gone", "new"]))
    if how == "inside":
        value[key] = _changed(draw, value[key])
    elif how == "gone":
        del value[key]
    elif isinstance(value, dict):
        value[draw(st.sampled_from(["", "new", "*", "a" * 300]))] = _odd(draw)
    else:
        value.insert(key, _odd(draw))
    return value


def _odd(draw: st.DrawFn) -> Any:
    return copy.deepcopy(draw(st.sampled_from(_ODD)))  # a part may be changed again


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three places flipped, overwritten, cut, repeated or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        length = draw(st.sampled_from([1, 1, 2, 4, 8, 64]))
        how = draw(st.sampled_from(["flip", "flip", "write", "gone", "again", "cut", "new"]))
        part = changed[at : at + length]
        if how == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            changed[at : at + length] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f"])) * length
        elif how == "gone":
            del changed[at : at + length]
        elif how == "again":
            changed[at:at] = part * draw(st.sampled_from([1, 2, 500]))
        elif how == "cut":
            del changed[at:]
        else:
            changed[at:at] = draw(st.binary(min_size=1, max_size=length))
    return bytes(changed)
