"""Python numbers and strings <-> JSON, exactly."""

import struct
from typing import Any

SCALARS = (bool, int, float, complex, str)

# Readers of JSON may keep numbers as float64; an integer beyond this is written in hexadecimal.
_EXACT = 2**53


def _float_to_text(value: float) -> str:
    # `repr` gives back every float but the payload of a NaN.
    return repr(value) if value == value else f"nan:{struct.pack('>d', value).hex()}"


def _float_from_text(text: str) -> float:
    if text.startswith("nan:") and len(text) == 20:
        return struct.unpack(">d", bytes.fromhex(text[4:]))[0]
    return float(text)


def to_json(value: bool | int | float | complex | str) -> dict[str, Any]:
    """Return `{type: value}`, for example `{"float": "0.5"}`."""
    match value:
        case bool() | str():
            content = value
        case int():
            content = value if abs(value) < _EXACT else hex(value)
        case float():
            content = _float_to_text(value)
        case complex():
            content = [_float_to_text(value.real), _float_to_text(value.imag)]
    return {type(value).__name__: content}


def from_json(item: Any) -> bool | int | float | complex | str:
    """Return the value that `to_json` wrote.

    Raises:
      ValueError: It wrote no such thing.
    """
    match item:
        case {"bool": bool(value)} | {"str": str(value)}:
            return value
        case {"int": bool()}:
            pass
        case {"int": int(value)}:
            return value
        case {"int": str(text)}:
            return int(text, 16)
        case {"float": str(text)}:
            return _float_from_text(text)
        case {"complex": [str(real), str(imag)]}:
            return complex(_float_from_text(real), _float_from_text(imag))
    raise ValueError(f"{str(item)[:40]} as a Python value")


def value_text(value: Any) -> str:
    """Return a Python value as text: in hexadecimal where Python refuses to print an integer for its length."""
    try:
        return repr(value)
    except ValueError:
        return hex(value)
