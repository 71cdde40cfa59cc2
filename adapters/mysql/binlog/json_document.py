"""MySQL's binary JSON to text (mysql-server sql-common/json_binary.h describes the format). One document per call; every offset is checked."""

from __future__ import annotations

import base64
import json
import math
import struct
from decimal import Decimal

_DEPTH = 110


def document(data: bytes) -> bytes:
    """The document as JSON text in UTF-8, keys in stored order. An empty value is JSON null. ValueError when it is not a document."""
    if not data:
        return b"null"
    out: list[str] = []
    _value(data[0], data, 1, out, 0)
    return "".join(out).encode()


def _value(kind: int, data: bytes, at: int, out: list[str], depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError("too deep")
    if kind in (0, 1, 2, 3):
        _container(data, at, kind < 2, 4 if kind & 1 else 2, out, depth)
    elif kind == 4:
        out.append(_literal(_bytes(data, at, 1)[0]))
    elif kind in _FORMS:
        (number,) = struct.unpack(_FORMS[kind], _bytes(data, at, struct.calcsize(_FORMS[kind])))
        out.append(_double(number) if kind == 11 else str(number))
    elif kind == 12:
        size, at = _size(data, at)
        out.append(json.dumps(_bytes(data, at, size).decode("utf-8"), ensure_ascii=False))
    elif kind == 15:
        inner = _bytes(data, at, 1)[0]
        size, at = _size(data, at + 1)
        out.append(_opaque(inner, _bytes(data, at, size)))
    else:
        raise ValueError("unknown type")


_FORMS = {5: "<h", 6: "<H", 7: "<i", 8: "<I", 9: "<q", 10: "<Q", 11: "<d"}
_INLINE = {4: 2, 5: 2, 6: 2, 7: 4, 8: 4}


def _container(data: bytes, start: int, is_object: bool, width: int, out: list[str], depth: int) -> None:
    """Count, size, then places of the keys and of the values; small values stand in the place of their offset."""
    count, size = _number(data, start, width), _number(data, start + width, width)
    if start + size > len(data) or count * (1 + width) > size:
        raise ValueError("container past the end")
    at = start + 2 * width
    keys = []
    if is_object:
        for _ in range(count):
            place, length = _number(data, at, width), _number(data, at + width, 2)
            keys.append(json.dumps(_bytes(data, start + place, length).decode("utf-8"), ensure_ascii=False))
            at += width + 2
    out.append("{" if is_object else "[")
    for k in range(count):
        if k:
            out.append(", ")
        if is_object:
            out.append(keys[k] + ": ")
        kind = _bytes(data, at, 1)[0]
        inline = _INLINE.get(kind, 99) <= width
        place = at + 1 if inline else start + _number(data, at + 1, width)
        if not inline and place <= start:
            raise ValueError("value inside of its container's head")
        _value(kind, data, place, out, depth + 1)
        at += 1 + width
    out.append("}" if is_object else "]")


def _double(number: float) -> str:
    """As MySQL prints a double in JSON (my_gcvt): shortest digits, without an exponent from 1e-15 up to 15 whole digits, always with a point or an e."""
    if not math.isfinite(number):
        raise ValueError("no number of JSON")
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    place = len(digits) - 1 + exponent if number else 0
    minus = "-" if sign else ""
    if place < -15 or place > 15 or (place == 15 and len(shown) < 17):
        return f"{minus}{shown[0]}{'.' + shown[1:] if shown[1:] else ''}e{place}"
    if place < 0:
        return f"{minus}0.{'0' * (-place - 1)}{shown}"
    return f"{minus}{shown[: place + 1]:0<{place + 1}}.{shown[place + 1 :] or '0'}"


def _literal(code: int) -> str:
    return {0: "null", 1: "true", 2: "false"}[code] if code < 3 else _wrong()


def _wrong() -> str:
    raise ValueError("unknown literal")


def _opaque(kind: int, data: bytes) -> str:
    """A value of an SQL type inside of a document, as MySQL prints it."""
    if kind == 246 and len(data) >= 2:
        return _decimal(data[0], data[1], data[2:])
    if kind in (7, 10, 11, 12) and len(data) == 8:
        return json.dumps(_moment(kind, struct.unpack("<q", data)[0]))
    lines = base64.encodebytes(data).decode().rstrip("\n")  # MySQL too breaks after 76 characters
    return json.dumps(f"base64:type{kind}:{lines}")


def _moment(kind: int, packed: int) -> str:
    sign = "-" if packed < 0 else ""
    packed = abs(packed)
    micro, rest = packed & 0xFFFFFF, packed >> 24
    clock = f"{rest & 63:02d}.{micro:06d}"
    if kind == 11:
        return f"{sign}{rest >> 12 & 1023:02d}:{rest >> 6 & 63:02d}:{clock}"
    months = rest >> 22
    date = f"{months // 13:04d}-{months % 13:02d}-{rest >> 17 & 31:02d}"
    return date if kind == 10 else f"{date} {rest >> 12 & 31:02d}:{rest >> 6 & 63:02d}:{clock}"


def _decimal(precision: int, scale: int, data: bytes) -> str:
    if not 0 < precision <= 65 or scale > precision or not data:
        raise ValueError("decimal of no known size")
    digits = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    whole = precision - scale
    groups = [g for g in [whole % 9, *[9] * (whole // 9)] if g], [g for g in [*[9] * (scale // 9), scale % 9] if g]
    if len(data) != sum(digits[g] for part in groups for g in part):
        raise ValueError("decimal of another size")
    negative = not data[0] & 0x80
    raw = bytes([data[0] ^ 0x80]) + data[1:]
    if negative:
        raw = bytes(byte ^ 0xFF for byte in raw)
    at, texts = 0, ["", ""]
    for part in (0, 1):
        for group in groups[part]:
            value = int.from_bytes(raw[at : at + digits[group]], "big")
            texts[part] += f"{value:0{group}d}"
            at += digits[group]
    return ("-" if negative else "") + (texts[0].lstrip("0") or "0") + (f".{texts[1]}" if scale else "")


def _size(data: bytes, at: int) -> tuple[int, int]:
    """7 bits per byte, low part first, the top bit says that more follows."""
    value = 0
    for k in range(5):
        byte = _bytes(data, at + k, 1)[0]
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, at + k + 1
    raise ValueError("size without end")


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(_bytes(data, at, width), "little")


def _bytes(data: bytes, at: int, size: int) -> bytes:
    if at < 0 or at + size > len(data):
        raise ValueError("past the end")
    return data[at : at + size]
