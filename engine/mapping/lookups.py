"""Value maps: small CSV files that rules join as `lookups.NAME`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from engine.errors import Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """`rows`: one string column per name of `columns`. An empty field is NULL, a quoted empty field (`""`) is the empty text."""

    name: str
    columns: tuple[str, ...]
    rows: pa.Table


def read_lookup(name: str, path: Path) -> Lookup:
    """Reads a CSV file (RFC 4180, UTF-8, a header row). Terminal when it cannot be read, has no header, or names a column twice."""
    where = f"lookup {name}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Terminal(f"the file {path} cannot be read: {error.strerror}", where=where, fix="correct `file` under [lookups]") from error
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Terminal(f"the file {path} is not UTF-8 (line {line})", where=where, fix="save it as UTF-8") from error
    return Lookup(name=name, columns=_header(where, path, data), rows=_rows(where, path, data))


def _header(where: str, path: Path, data: bytes) -> tuple[str, ...]:
    columns = tuple(_parse(where, path, data).column_names)
    folded = [column.strip().lower() for column in columns]
    if not all(folded):
        raise Terminal(f"the first line of {path} must name every column", where=where, fix="write a header such as `name,code`")
    for column, fold in zip(columns, folded, strict=True):
        if folded.count(fold) > 1:
            raise Terminal(f"the header of {path} names the column {column!r} twice", where=where, fix="rename one of them")
    return tuple(column.strip() for column in columns)


def _rows(where: str, path: Path, data: bytes) -> pa.Table:
    table = _parse(where, path, data)
    return table.rename_columns([name.strip() for name in table.column_names])


def _parse(where: str, path: Path, data: bytes) -> pa.Table:
    text = data.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise Terminal(f"the file {path} is empty", where=where, fix="write a header such as `name,code` and the rows below it")
    names = pa.csv.open_csv(pa.BufferReader(text), parse_options=pa.csv.ParseOptions(newlines_in_values=True)).schema.names
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False
    )
    try:
        return pa.csv.read_csv(pa.BufferReader(text), parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise Terminal(f"the file {path} is no regular CSV: a row has another number of fields than the header", where=where,
                       fix="quote fields that hold commas") from error
