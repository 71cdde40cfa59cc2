"""Column types as the engine sees them, and the one text form ("canonical text") that values of each kind travel in.

Every value between a log and a target is text in an Arrow string array: a null is SQL NULL, "missing" (not in the event) is kept beside it.
The canonical text is what PostgreSQL prints under DateStyle=ISO, TimeZone=UTC, bytea_output=hex, extra_float_digits=1; adapters of other
databases convert to it and from it. So equal values have equal text, whatever side they were read on:

| kind | canonical text |
|---|---|
| BOOL | `t`, `f` |
| INT | decimal digits, `-` when negative; nothing padded |
| DECIMAL | exactly `scale` digits when the scale is declared, else as printed; no exponent; `NaN`, `Infinity`, `-Infinity` |
| FLOAT | shortest text that reads back as the same float of `bits` width; `NaN`, `Infinity`, `-Infinity` (compared as numbers, not as text) |
| TEXT | the characters; for `padded` types (CHAR(n)) without trailing blanks |
| ENUM, SET | the label; labels joined by `,` in the order of the definition |
| BYTES | `\\x` and lower-case hex |
| DATE | `YYYY-MM-DD`; as the database says it where it has more (`infinity`, `0044-03-15 BC`, `0000-00-00`) |
| TIME | `HH:MM:SS[.ffffff]`, trailing zeros of the fraction cut; MySQL's may be negative or past 24 h |
| DATETIME | `YYYY-MM-DD HH:MM:SS[.ffffff]`, no zone, trailing zeros of the fraction cut |
| INSTANT | the same in UTC followed by `+00` |
| UUID | lower-case with hyphens |
| JSON | the document as the database gives it (compared parsed, keys sorted) |
| OPAQUE | the database's own text (arrays, intervals, ranges, inet, geometry ...); goes only to a column of the same type name, or to text |
"""
from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    BOOL = "bool"
    INT = "int"
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    ENUM = "enum"
    SET = "set"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    INSTANT = "instant"
    UUID = "uuid"
    JSON = "json"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataType:
    """One column's type. Fields that do not concern the kind keep their default.

    bits: INT 8, 16, 24, 32, 64 or FLOAT 32, 64. precision, scale: DECIMAL; None where the database has no bound (PostgreSQL `numeric`).
    fraction: digits after the second for TIME, DATETIME, INSTANT. length: characters of TEXT, bytes of BYTES; None where unbounded.
    padded: CHAR(n) (blanks) or BINARY(n) (zero bytes). labels: ENUM and SET.
    """

    kind: Kind
    name: str
    bits: int = 0
    signed: bool = True
    precision: int | None = None
    scale: int | None = None
    fraction: int = 6
    length: int | None = None
    padded: bool = False
    labels: tuple[str, ...] = ()
