"""Values that MySQL would take but bend without a word: found before they are sent, and the few whose canonical text it reads otherwise.

MariaDB cuts fractions of a second (https://mariadb.com/kb/en/microseconds-in-mariadb/), '0' becomes the year 2000, a FLOAT keeps 24 bits of what
it is given, an ENUM takes a label in other letters, NULL becomes a timestamp or an automatic number. MySQL's own JSON keeps numbers in 64 bits and one
value of each member (https://dev.mysql.com/doc/refman/8.4/en/json.html); MariaDB's is text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql.literal import FORMS
from adapters.mysql.schema import BINARY_OPAQUE, Described
from engine.errors import Poison
from engine.model.schema import Column
from engine.model.types import DataType, Kind

_Bools = npt.NDArray[np.bool_]

_IN_BYTES = frozenset(("tinytext", "text", "mediumtext"))
"""Types whose length is counted in bytes; cut within a character the server takes the rest for wrong text."""
_UTF8 = frozenset(("utf8mb4", "utf8mb3", "utf8"))


def refuse_unfit(columns: Sequence[Column], described: Sequence[Described], values: pa.Table, decided: _Bools) -> None:
    """Poison naming the rows of the first column with values that do not fit. decided: (rows, columns of values)."""
    for place, (column, known) in enumerate(zip(columns, described, strict=True)):
        array = one_array(values.column(place))
        chosen = decided[:, place]
        if not column.nullable and array.null_count:
            _refuse(column, array.is_null().to_numpy(zero_copy_only=False) & chosen, "not_null", "must not be NULL")
        bad, reason, what = _unfit(column.type, known, array)
        if bad is not None:
            _refuse(column, pc.fill_null(bad, False).to_numpy(zero_copy_only=False) & chosen, reason, what)


def loaded(column: DataType, values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """The text as it is sent."""
    array = one_array(values)
    match column.kind:
        case Kind.BOOL:
            return pc.if_else(pc.equal(array, "t"), "1", "0")
        case Kind.INSTANT:
            return pc.utf8_slice_codeunits(array, 0, -3)
        case Kind.FLOAT if column.bits == 32:
            # all digits: the short text of the greatest FLOAT is above it when read as a DOUBLE
            return pc.cast(pc.cast(pc.cast(array, pa.float32()), pa.float64()), pa.string())
        case _:
            return array


def assignment(column: DataType, described: Described, variable: str) -> str | None:
    """The expression of LOAD DATA's SET for a sent text; None when the text itself is right."""
    if column.kind is Kind.BYTES or (column.kind is Kind.OPAQUE and column.name in BINARY_OPAQUE):
        return f"UNHEX(SUBSTR({variable}, 3))"
    if described.base in ("bit", "year"):
        return f"CAST({variable} AS UNSIGNED)"
    return None


def one_array(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    if isinstance(values, pa.ChunkedArray):
        return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=pa.string())
    return values


def _unfit(kind: DataType, described: Described, array: pa.StringArray) -> tuple[pa.BooleanArray | None, str, str]:
    """Which values do not fit (null where NULL), reason, sentence."""
    match kind.kind:
        case Kind.BOOL:
            return _other_than(array, ("t", "f")), "type", "is neither t nor f"
        case Kind.ENUM:
            return _other_than(array, kind.labels), "type", "holds a label that the type does not have"
        case Kind.SET:
            distinct = pc.unique(array).drop_null().to_pylist()
            good = [text for text in distinct if text == ",".join(_in_order(text, kind.labels))]
            return _other_than(array, good), "type", "holds a label that the type does not have, or twice, or out of order"
        case Kind.DATE | Kind.TIME | Kind.DATETIME | Kind.INSTANT:
            wrong = pc.invert(pc.match_substring_regex(array, FORMS[kind.kind]))
            if kind.kind is not Kind.DATE and kind.fraction < 6:
                long = rf"\.[0-9]{{{kind.fraction + 1}}}"
                wrong = pc.or_kleene(wrong, pc.match_substring_regex(array, long))
            return wrong, "range", "cannot hold this date or time exactly"
        case Kind.BYTES:
            return pc.invert(pc.match_substring_regex(array, FORMS[Kind.BYTES])), "type", "is not given as bytes"
        case Kind.OPAQUE if kind.name in BINARY_OPAQUE:
            return pc.invert(pc.match_substring_regex(array, FORMS[Kind.BYTES])), "type", "is not given as bytes"
        case Kind.FLOAT if kind.bits == 32:
            return _inexact(array), "range", "is a 32-bit FLOAT and would lose digits"
        case Kind.TEXT if described.base in _IN_BYTES and described.charset in _UTF8 and kind.length:
            return pc.greater(pc.binary_length(array), kind.length), "too_long", "is shorter than the value"
        case Kind.INT if kind.name == "year":
            return pc.invert(pc.match_substring_regex(array, r"^(0|19(0[1-9]|[1-9][0-9])|20[0-9][0-9]|21([0-4][0-9]|5[0-5]))$")), "range", "is no YEAR"
        case Kind.JSON if described.base == "json":
            return _bent_json(array)
        case Kind.INT:
            # the server would round a fraction without a word
            return pc.invert(pc.match_substring_regex(array, FORMS[Kind.INT])), "type", "takes whole numbers"
        case _:
            return None, "", ""


def _other_than(array: pa.StringArray, allowed: Sequence[str]) -> pa.BooleanArray:
    known = pc.is_in(array, pa.array(list(allowed), type=pa.string()))
    return pc.and_(pc.invert(known), array.is_valid())


def _in_order(text: str, labels: Sequence[str]) -> list[str]:
    given = set(text.split(",")) if text else set()
    return [label for label in labels if label in given]


class _Bent(ValueError):
    """reason and sentence of `refuse_unfit`."""


def _bent_json(array: pa.StringArray) -> tuple[pa.BooleanArray | None, str, str]:
    """The documents that MySQL's binary JSON would refuse or change, as far as they are at fault alike."""
    found: dict[tuple[str, str], list[str]] = {}
    for text in pc.unique(array).drop_null().to_pylist():
        try:
            document = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_constant, object_pairs_hook=_members)
            if "\\u" in text:
                json.dumps(document, ensure_ascii=False).encode()  # an error for half of a surrogate pair
        except _Bent as bent:
            found.setdefault(bent.args, []).append(text)
        except (ValueError, RecursionError):
            found.setdefault(("type", "takes JSON only"), []).append(text)
    if not found:
        return None, "", ""
    (reason, what), texts = next(iter(found.items()))
    return pc.is_in(array, pa.array(texts, pa.string())), reason, what


def _number(text: str) -> None:
    """MySQL makes a 64-bit integer or a double of it."""
    if len(text) < 400:  # a double has no more digits
        if text.lstrip("-").isdecimal() and -(1 << 63) <= int(text) < 1 << 64:
            return
        with contextlib.suppress(ArithmeticError):  # an exponent of twenty digits
            if Decimal(text) == Decimal(repr(float(text))):
                return
    raise _Bent("range", "holds the numbers of its JSON in 64 bits, and one would lose digits")


def _constant(text: str) -> None:
    raise ValueError(text)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise _Bent("type", "keeps one value of each member of a JSON object, and one is named twice")
    return named


def _inexact(array: pa.StringArray) -> pa.BooleanArray:
    numeric = pc.if_else(pc.match_substring_regex(array, FORMS[Kind.FLOAT]), array, None)
    wide = pc.cast(numeric, pa.float64())
    shortest = pc.cast(pc.cast(pc.cast(wide, pa.float32()), pa.string()), pa.float64())
    return pc.if_else(array.is_valid(), pc.fill_null(pc.not_equal(shortest, wide), True), False)


def _refuse(column: Column, bad: _Bools, reason: str, what: str) -> None:
    if bad.any():
        rows = tuple(int(row) for row in np.flatnonzero(bad))
        mend = "give it a value in the rule, e.g. with coalesce()" if reason == "not_null" else "convert it in the rule, or change the column's type"
        raise Poison(f"the column {what}", reason=reason, rows=rows, where=f"column {column.name}", fix=mend)
