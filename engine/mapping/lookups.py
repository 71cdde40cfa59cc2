"""Value maps: small CSV files that rules join as `lookups.NAME`."""
from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from engine.errors import Terminal
from engine.mapping.findings import Findings, nearest


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
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        text = data.decode("utf-8")
    except OSError as error:
        raise Terminal(f"the file {path} cannot be read: {error.strerror}", where=where, fix="correct `file` under [lookups]") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Terminal(f"the file {path} is not UTF-8 (line {line})", where=where, fix="save it as UTF-8") from error
    if not text.strip():
        raise Terminal(f"the file {path} is empty", where=where, fix="write a header such as `name,code` and the rows below it")
    header = next(csv.reader(io.StringIO(text)))
    columns = tuple(column.strip() for column in header)
    _check_header(where, path, columns)
    return Lookup(name=name, columns=columns, rows=_rows(where, path, data, header).rename_columns(list(columns)))


def _check_header(where: str, path: Path, columns: Sequence[str]) -> None:
    if not all(columns):
        raise Terminal(f"the first line of {path} must name every column", where=where, fix="write a header such as `name,code`")
    folded = [column.lower() for column in columns]
    for column in columns:
        if folded.count(column.lower()) > 1:
            raise Terminal(f"the header of {path} names the column {column!r} twice", where=where, fix="rename one of them")


def _rows(where: str, path: Path, data: bytes, header: Sequence[str]) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False
    )
    try:
        return pa.csv.read_csv(pa.BufferReader(data), parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=convert)
    except pa.ArrowInvalid as error:
        what = f"the file {path} is no regular CSV: a row has another number of fields than the header"
        raise Terminal(what, where=where, fix="put fields that hold commas or quotes into quotes") from error


def find_lookup(name: str, lookups: Mapping[str, Lookup], findings: Findings) -> Lookup | None:
    """By its name as a rule writes it; None, with the finding told, when there is none."""
    folded = {other.lower(): lookup for other, lookup in lookups.items()}
    found = lookups.get(name) or folded.get(name.lower())
    if found is None:
        hint = nearest(name, lookups) if lookups else f"add [lookups.{name}] to the configuration"
        findings.error(f"there is no lookup {name}", hint)
    return found
