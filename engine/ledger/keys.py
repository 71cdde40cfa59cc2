"""Row keys as bytes: how identity values name a row in the ledger, for batches of rows.

One column: the UTF-8 of its canonical text. Several: joined by 0x1F, with 0x1E as escape. Long keys are replaced by a digest, since LMDB's keys end at
511 bytes, of which the name of a rule needs some; their text is kept beside (`Ledger.long_key`).
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

LIMIT = 384
# No UTF-8 text begins with 0xFF, so these cannot be a key's own text.
DIGEST = b"\xffsha256:"
NO_KEY = b"\xffnull:"
"""Begins the key of a row whose identity is NULL; the log's key of the row follows."""
_LENGTHS = [bytes((length,)) for length in range(255)]
_JOIN, _ESCAPE = "\x1f", "\x1e"


def encode(columns: Sequence[pa.Array], remember: Callable[[bytes, bytes], None] | None = None) -> list[bytes | None]:
    """One key per row; None where a value is null. `remember(digest key, whole key)` is called for keys that were too long."""
    if len(columns) == 1:
        joined = columns[0]
    else:
        joined = pc.binary_join_element_wise(*[_escaped(c) for c in columns], _JOIN, null_handling="emit_null")
    texts: list[bytes | None] = pc.cast(joined, pa.binary()).to_pylist()
    longest = pc.max(pc.binary_length(joined)).as_py() or 0
    if longest < len(_LENGTHS):
        return [None if text is None else _LENGTHS[len(text)] + text for text in texts]
    return [None if text is None else one(text, remember) for text in texts]


def one(text: bytes, remember: Callable[[bytes, bytes], None] | None = None) -> bytes:
    """The key whose joined text is `text`."""
    if len(text) <= LIMIT:
        return _LENGTHS[min(len(text), len(_LENGTHS) - 1)] + text
    key = DIGEST + hashlib.sha256(text).digest()
    if remember is not None:
        remember(key, text)
    return key


def decode(keys: Sequence[bytes], columns: Sequence[str], long_key: Callable[[bytes], bytes] | None = None) -> pa.Table:
    """The inverse: string columns called `columns`."""
    whole = [_whole(key, long_key) for key in keys]
    text = pa.array(whole, type=pa.binary()).cast(pa.string())
    if len(columns) == 1:
        return pa.table({columns[0]: text})
    parts: list[list[str]] = [[] for _ in columns]
    for value in text.to_pylist():
        for place, part in enumerate(_split(value)):
            parts[place].append(part)
    return pa.table({name: pa.array(part, type=pa.string()) for name, part in zip(columns, parts, strict=True)})


def display(key: bytes, columns: Sequence[str], long_key: Callable[[bytes], bytes] | None = None) -> dict[str, str]:
    """A key as a person and JSON see it: column name to text."""
    if key.startswith(NO_KEY):
        log_key = key.removeprefix(NO_KEY)
        named = log_key.removeprefix(DIGEST).hex() if log_key.startswith(DIGEST) else _whole(log_key, None).decode(errors="replace")
        return {"row": named.replace(_JOIN, ", ")}
    row: dict[str, str] = decode([key], columns, long_key).to_pylist()[0]
    return row


def _whole(key: bytes, long_key: Callable[[bytes], bytes] | None) -> bytes:
    if key.startswith(DIGEST):
        return long_key(key) if long_key is not None else b"?"
    return key[1:]


def _escaped(column: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring_regex(column, f"[{_JOIN}{_ESCAPE}]")).as_py():
        return column
    return pc.replace_substring(pc.replace_substring(column, _ESCAPE, _ESCAPE + "e"), _JOIN, _ESCAPE + "u")


def _split(value: str) -> list[str]:
    return [part.replace(_ESCAPE + "u", _JOIN).replace(_ESCAPE + "e", _ESCAPE) for part in value.split(_JOIN)]
