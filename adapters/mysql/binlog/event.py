"""Names and fixed parts of binary log events (MySQL: mysql-server libs/mysql/binlog/event, MariaDB: sql/log_event.h), and small readers for the
events that come once in a while. Bytes in, values or `Terminal` out."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

from engine.errors import Terminal

QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR, FORMAT_DESCRIPTION, XID = 2, 3, 4, 5, 13, 14, 15, 16
BEGIN_LOAD_QUERY, EXECUTE_LOAD_QUERY, TABLE_MAP = 17, 18, 19
WRITE_ROWS_V1, UPDATE_ROWS_V1, DELETE_ROWS_V1 = 23, 24, 25
INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 26, 27, 28, 29, 30, 31, 32
GTID_LOG, ANONYMOUS_GTID_LOG, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, XA_PREPARE = 33, 34, 35, 36, 37, 38
PARTIAL_UPDATE_ROWS, TRANSACTION_PAYLOAD, HEARTBEAT_V2, GTID_TAGGED_LOG = 39, 40, 41, 42
ANNOTATE_ROWS, BINLOG_CHECKPOINT, GTID, GTID_LIST, START_ENCRYPTION, QUERY_COMPRESSED = 160, 161, 162, 163, 164, 165
WRITE_ROWS_COMPRESSED_V1, DELETE_ROWS_COMPRESSED_V1, WRITE_ROWS_COMPRESSED, DELETE_ROWS_COMPRESSED = 166, 168, 169, 171

HEADER = 19
ARTIFICIAL, IGNORABLE_FLAG = 0x20, 0x80
NO_CHECKSUM, CRC32 = 0, 1
PREPARED_XA, COMPLETED_XA, STANDALONE = 64, 128, 1


def damaged(what: str) -> Terminal:
    return Terminal(f"the log holds {what} that does not have the form it should have", fix="check the server's log for damage, then resync")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatDescription:
    server_version: str
    checksum: int


def format_description(body: bytes) -> FormatDescription:
    """`body` after the header, checksum included. The algorithm stands before the checksum, 5 bytes from the end, in servers since 5.6."""
    if len(body) < 62:
        raise damaged("a format description event")
    version, server = struct.unpack_from("<H50s", body)
    if version != 4 or body[56] != HEADER:
        raise Terminal(f"the log has format {version}, not 4", fix="use MySQL 5.6 or MariaDB 10.0, or a later one")
    lengths = body[57:-5]
    # of table ids in 6 bytes; 4-byte ones are from before MySQL 5.1.4
    if len(lengths) >= TABLE_MAP and lengths[TABLE_MAP - 1] not in (8, 0):
        raise Terminal("the log is of a server from before MySQL 5.1", fix="use MySQL 5.6 or MariaDB 10.0, or a later one")
    algorithm = body[-5]
    if algorithm not in (NO_CHECKSUM, CRC32):
        raise Terminal(f"the log uses checksum algorithm {algorithm}, which is not known here", fix="SET GLOBAL binlog_checksum = CRC32")
    return FormatDescription(server_version=server.rstrip(b"\0").decode("ascii", "replace"), checksum=algorithm)


def rotate(body: bytes) -> tuple[str, int]:
    """File and offset that come next."""
    if len(body) < 9:
        raise damaged("a rotate event")
    return body[8:].decode("utf-8", "replace"), int.from_bytes(body[:8], "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    database: str
    text: str


def query(kind: int, body: bytes) -> Query:
    """QUERY (also compressed by MariaDB) and EXECUTE_LOAD_QUERY."""
    post = 26 if kind == EXECUTE_LOAD_QUERY else 13
    if len(body) < post:
        raise damaged("a query event")
    database_size, status_size = body[8], int.from_bytes(body[11:13], "little")
    start = post + status_size
    text = body[start + database_size + 1 :]
    if start + database_size + 1 > len(body):
        raise damaged("a query event")
    if kind == QUERY_COMPRESSED:
        text = inflate(text)
    return Query(database=body[start : start + database_size].decode("utf-8", "replace"), text=text.decode("utf-8", "replace"))


def inflate(data: bytes) -> bytes:
    """MariaDB's compressed record: 1 byte 0x80 | algorithm << 4 | size of the length, the length (high byte first), zlib data."""
    if not data or data[0] & 0x80 == 0 or data[0] & 0x70 or not 1 <= data[0] & 7 <= 4:
        raise Terminal("the log holds an event compressed in a way that is not known here", fix="SET GLOBAL log_bin_compress = OFF")
    skip = 1 + (data[0] & 7)
    size = int.from_bytes(data[1:skip], "big")
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data[skip:], size + 1)
    except zlib.error as wrong:
        raise damaged("a compressed event") from wrong
    if len(text) != size:
        raise damaged("a compressed event")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Gtid:
    """MySQL. `sid` is empty for an anonymous transaction; commit_us is 0 where the server does not tell (before 8.0)."""

    sid: str
    tag: str
    number: int
    commit_us: int


def mysql_gtid(kind: int, body: bytes) -> Gtid:
    """GTID_LOG, ANONYMOUS_GTID_LOG: flags 1, sid 16, number 8, then type 1 (2), last committed 8, sequence 8, commit time 7 bytes in microseconds,
    whose top bit says that the time of the original commit follows."""
    if len(body) < 25:
        raise damaged("a GTID event")
    commit_us = 0
    if len(body) >= 25 + 17 + 7 and body[25] == 2:
        commit_us = int.from_bytes(body[42:49], "little") & ~(1 << 55)
    sid = "" if kind == ANONYMOUS_GTID_LOG else str(uuid.UUID(bytes=body[1:17]))
    return Gtid(sid=sid, tag="", number=int.from_bytes(body[17:25], "little"), commit_us=commit_us)


def tagged_gtid(body: bytes) -> Gtid:
    """GTID_TAGGED_LOG (MySQL 8.3+), in the field format of mysql-server libs/mysql/serialization: version, size, last field that must be known,
    then number and value of each field; integers of 1 to 9 bytes, whose trailing one bits of the first byte count the bytes that follow."""
    at = 0

    def number() -> int:
        nonlocal at
        if at >= len(body):
            raise damaged("a tagged GTID event")
        extra = 0
        while extra < 8 and body[at] >> extra & 1:
            extra += 1
        raw = body[at : at + extra + 1]
        if len(raw) != extra + 1:
            raise damaged("a tagged GTID event")
        at += extra + 1
        return int.from_bytes(raw[1:], "little") if extra == 8 else int.from_bytes(raw, "little") >> (extra + 1)

    number(), number(), number()
    sid, tag, gno, commit_us = b"", "", 0, 0
    while at < len(body):
        match number():
            case 0:
                number()
            case 1:
                sid = bytes(number() & 0xFF for _ in range(16))
            case 2:
                gno = _signed(number())
            case 3:
                size = number()
                tag, at = body[at : at + size].decode("ascii", "replace"), at + size
            case 4 | 5:
                number()
            case 6:
                commit_us = number()
            case 7 | 8 | 9 | 10 | 11:
                number()
            case _:
                break
    if len(sid) != 16 or gno <= 0:
        raise damaged("a tagged GTID event")
    return Gtid(sid=str(uuid.UUID(bytes=sid)), tag=tag, number=gno, commit_us=commit_us)


def _signed(value: int) -> int:
    """Zigzag: the lowest bit is the sign."""
    return value >> 1 if value & 1 == 0 else ~(value >> 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    kind: int
    size: int
    data: bytes


def transaction_payload(body: bytes) -> Payload:
    """TRANSACTION_PAYLOAD (MySQL 8.0.20+): fields of type, length, value; 0 ends, 1 size, 2 compression (0 zstd, 255 none), 3 size of the events."""
    at, kind, size, length = 0, 255, 0, -1
    while at < len(body):
        field, at = length_encoded(body, at)
        if field == 0:
            break
        width, at = length_encoded(body, at)
        value, _ = length_encoded(body, at)
        at += width
        if field == 1:
            length = value
        elif field == 2:
            kind = value
        elif field == 3:
            size = value
    data = body[at : at + length] if length >= 0 else body[at:]
    if length > len(data):
        raise damaged("a compressed transaction")
    return Payload(kind=kind, size=size or len(data), data=data)


def length_encoded(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the place after it."""
    first = data[at] if at < len(data) else 251
    width = {252: 2, 253: 3, 254: 8}.get(first, 0)
    if first in (251, 255) or at + 1 + width > len(data):
        raise damaged("an event")
    return (first, at + 1) if width == 0 else (int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width)
