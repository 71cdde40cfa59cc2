"""Canonical text as SQL literals that the server compares with a column by its own rules, so that the column's index is used.

A text that no row of the column can hold (`infinity` for a DATE, an emoji for latin1) becomes null: the caller leaves it out.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql.connection import quote
from adapters.mysql.schema import BINARY_OPAQUE, Described, data_type
from engine.model.types import Kind

_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"
_FLOAT = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
FORMS = {
    Kind.INT: r"^-?[0-9]+$",
    Kind.DECIMAL: _NUMBER,
    Kind.FLOAT: _FLOAT,
    Kind.BOOL: r"^[tf]$",
    Kind.BYTES: r"^\\x([0-9a-f][0-9a-f])*$",
    Kind.DATE: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    Kind.TIME: r"^-?([0-7]?[0-9][0-9]|8[0-2][0-9]|83[0-8]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$",
    Kind.DATETIME: r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$",
    Kind.INSTANT: r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?\+00$",
    Kind.UUID: r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
}
_CHARACTERS = {
    "ascii": r"^[\x00-\x7f]*$",
    "utf8": r"^[\x{0}-\x{ffff}]*$",
    "utf8mb3": r"^[\x{0}-\x{ffff}]*$",
    # MySQL's latin1 is cp1252 with the five bytes that are free there: https://dev.mysql.com/doc/refman/8.4/en/charset-we-sets.html
    "latin1": "^[\\x00-\\x7f\\x{a0}-\\x{ff}\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c\u201d"
    "\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178\\x{81}\\x{8d}\\x{8f}\\x{90}\\x{9d}]*$",
}


def compared(column: Described) -> str:
    """The expression that stands for the column in a comparison with `literals`."""
    if column.charset and column.charset not in _CHARACTERS and column.charset != "utf8mb4":
        return f"CONVERT({quote(column.name)} USING utf8mb4)"
    return quote(column.name)


def literals(column: Described, values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """One literal per value; null where no row can hold the value."""
    kind = data_type(column)
    text = _one(values)
    form = FORMS.get(kind.kind)
    if kind.kind is Kind.OPAQUE and kind.name in BINARY_OPAQUE:
        form = FORMS[Kind.BYTES]
    if form is not None:
        text = pc.if_else(pc.match_substring_regex(text, form), text, None)
    match kind.kind:
        case Kind.INT | Kind.DECIMAL:
            return text
        case Kind.FLOAT:
            # the exact value as a double: that is how the server compares a FLOAT
            return pc.cast(pc.cast(pc.cast(text, pa.float32() if kind.bits == 32 else pa.float64()), pa.float64()), pa.string())
        case Kind.BOOL:
            return pc.if_else(pc.equal(text, "t"), "1", "0")
        case Kind.INSTANT:
            return _quoted(pc.utf8_slice_codeunits(text, 0, -3))
        case Kind.BYTES | Kind.OPAQUE if form is not None:
            digits = pc.utf8_slice_codeunits(text, 2)
            if kind.padded and kind.length:
                digits = pc.utf8_rpad(digits, 2 * kind.length, "0")
            return pc.binary_join_element_wise("x'", digits, "'", "")
        case Kind.ENUM:
            text = pc.if_else(pc.is_in(text, pa.array([*kind.labels, ""], type=pa.string())), text, None)
    characters = _CHARACTERS.get(column.charset)
    if characters is not None:
        text = pc.if_else(pc.match_substring_regex(text, characters), text, None)
    return _quoted(text)


def ordered(column: Described) -> str:
    """The expression by whose order the server sorts the column, comparable with `place`."""
    return f"{quote(column.name)} + 0" if column.base in ("enum", "set") else compared(column)


def place(column: Described, value: str) -> str | None:
    """The literal of one value for `ordered`. ENUM and SET sort by number, not by label."""
    kind = data_type(column)
    if kind.kind is Kind.ENUM:
        return str(kind.labels.index(value) + 1) if value in kind.labels else "0"
    if kind.kind is Kind.SET:
        return str(sum(1 << kind.labels.index(label) for label in value.split(",") if label in kind.labels))
    made: str | None = literals(column, pa.array([value], type=pa.string()))[0].as_py()
    return made


def _quoted(text: pa.StringArray) -> pa.StringArray:
    escaped = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "'", "\\'")
    return pc.binary_join_element_wise("'", pc.replace_substring(escaped, "\0", "\\0"), "'", "")


def _one(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    if isinstance(values, pa.ChunkedArray):
        return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=pa.string())
    return values
