"""One 64-bit hash of a value in its column's type: the ledger's and reconcile's notion of "the same value".

`hash_column` is used for mapped, logged and fetched values alike. Kinds whose equal values may have different text (floats, unbounded decimals,
padded text, JSON) are brought to one form first. The hash is XXH64 of that text (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), seeded per
installation so that hashes say nothing outside of it.
"""
from __future__ import annotations

import json
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.model.types import DataType, Kind

Hashes = npt.NDArray[np.uint64]

UNKNOWN = 0
"""Hash of a cell that nobody has shown us yet."""
NULL = 1
"""Hash of SQL NULL. Values never hash to UNKNOWN or NULL."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_P1, _P2, _P3 = np.uint64(11400714785074694791), np.uint64(14029467366897019727), np.uint64(1609587929392839161)
_P4, _P5 = np.uint64(9650029242287828579), np.uint64(2870177450012600261)


def hash_column(kind: DataType, values: pa.Array | pa.ChunkedArray, seed: int) -> Hashes:
    """Hashes of canonical text `values`, shape (rows,). NULL for null."""
    return hash_text(comparable(kind, _one_array(values)), seed)


def hash_text(values: pa.StringArray, seed: int) -> Hashes:
    """XXH64 of each string's bytes."""
    out = np.empty(len(values), dtype=np.uint64)
    if len(values) == 0:
        return out
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32, count=len(values) + 1 + values.offset)[values.offset :]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, dtype=np.uint8)
    _xxh64(raw, starts, np.uint64(seed), out)
    if values.null_count:
        out[values.is_null().to_numpy(zero_copy_only=False)] = NULL
    return out


def comparable(kind: DataType, values: pa.StringArray) -> pa.StringArray:
    """The text that is equal exactly where two values of this type are equal."""
    match kind.kind:
        case Kind.FLOAT:
            return _floats(values, kind.bits)
        case Kind.DECIMAL if kind.scale is None:
            return _plain_decimals(values)
        case Kind.TEXT if kind.padded:
            return pc.utf8_rtrim(values, characters=" ")
        case Kind.JSON:
            return pa.array([None if v is None else canonical_json(v) for v in values.to_pylist()], type=pa.string())
        case _:
            return values


def canonical_json(text: str) -> str:
    """The document with sorted keys, no blanks and exact numbers in one form. Text that is no JSON stands for itself."""
    try:
        document = json.loads(text, parse_float=_number, parse_int=_number)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    if not canonical.isascii():
        try:
            canonical.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which PostgreSQL's json takes
            return json.dumps(document, sort_keys=True, separators=(",", ":"))
    return canonical


def _number(text: str) -> Any:
    """Equal for equal numbers, different for all others, whatever their length."""
    try:
        number = _EXACT.create_decimal(text)
        if abs(number.adjusted()) <= 400 and number == number.to_integral_value(context=_EXACT):
            return int(number)
        return f"number:{number.normalize(_EXACT)}"
    except ArithmeticError:  # an exponent of twenty digits
        return "number:" + text


def _floats(values: pa.StringArray, bits: int) -> pa.StringArray:
    numbers = pc.cast(values, pa.float32() if bits == 32 else pa.float64())
    return pc.cast(pc.add(numbers, pa.scalar(0.0, numbers.type)), pa.string())


def _plain_decimals(values: pa.StringArray) -> pa.StringArray:
    short = pc.replace_substring_regex(values, pattern=r"^(-?\d+)\.0*$", replacement=r"\1")
    short = pc.replace_substring_regex(short, pattern=r"^(-?\d+\.\d*[1-9])0+$", replacement=r"\1")
    return pc.replace_substring_regex(short, pattern=r"^-0$", replacement="0")


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=pa.string())
    return values if values.type == pa.string() else pc.cast(values, pa.string())


@nb.njit(cache=True, inline="always")
def _rotl(x: np.uint64, r: int) -> np.uint64:
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@nb.njit(cache=True, inline="always")
def _read64(b: npt.NDArray[np.uint8], i: np.signedinteger[Any]) -> np.uint64:
    v = np.uint64(0)
    for k in range(8):
        v |= np.uint64(b[i + k]) << np.uint64(8 * k)
    return v


@nb.njit(cache=True, inline="always")
def _round(acc: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotl(acc + lane * _P2, 31) * _P1


@nb.njit(cache=True, nogil=True)
def _xxh64(b: npt.NDArray[np.uint8], starts: npt.NDArray[np.int32], seed: np.uint64, out: Hashes) -> None:
    for row in range(len(out)):
        i, end = np.int64(starts[row]), np.int64(starts[row + 1])
        size = end - i
        if size >= 32:
            a1, a2, a3, a4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
            while i + 32 <= end:
                a1 = _round(a1, _read64(b, i))
                a2 = _round(a2, _read64(b, i + 8))
                a3 = _round(a3, _read64(b, i + 16))
                a4 = _round(a4, _read64(b, i + 24))
                i += 32
            h = _rotl(a1, 1) + _rotl(a2, 7) + _rotl(a3, 12) + _rotl(a4, 18)
            h = (h ^ _round(np.uint64(0), a1)) * _P1 + _P4
            h = (h ^ _round(np.uint64(0), a2)) * _P1 + _P4
            h = (h ^ _round(np.uint64(0), a3)) * _P1 + _P4
            h = (h ^ _round(np.uint64(0), a4)) * _P1 + _P4
        else:
            h = seed + _P5
        h += np.uint64(size)
        while i + 8 <= end:
            h = _rotl(h ^ _round(np.uint64(0), _read64(b, i)), 27) * _P1 + _P4
            i += 8
        if i + 4 <= end:
            word = np.uint64(0)
            for k in range(4):
                word |= np.uint64(b[i + k]) << np.uint64(8 * k)
            h = _rotl(h ^ (word * _P1), 23) * _P2 + _P3
            i += 4
        while i < end:
            h = _rotl(h ^ (np.uint64(b[i]) * _P5), 11) * _P1
            i += 1
        h = (h ^ (h >> np.uint64(33))) * _P2
        h = (h ^ (h >> np.uint64(29))) * _P3
        h ^= h >> np.uint64(32)
        out[row] = h if h > np.uint64(1) else h + np.uint64(2)
