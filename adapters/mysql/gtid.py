"""Places in a binary log: `Position` made of file, offset and GTID state, and the two kinds of GTID state.

MariaDB: one GTID `domain-server-sequence` per domain (https://mariadb.com/kb/en/gtid/). MySQL: sets of intervals per server UUID and tag
(https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html). No I/O here; `adapters.mysql.source` asks the server.
"""

from __future__ import annotations

import json
import re
import struct
import uuid
from dataclasses import dataclass

from engine.errors import Terminal
from engine.model.batch import Position

_OFFSET_BITS = 40
_TAG = re.compile(r"^[A-Za-z_]\w*$")
_FILE = re.compile(r"^(.*)\.(\d+)$")


def order(file: str, offset: int) -> int:
    """`Position.order`: number of the log file << 40 | offset. The number is the suffix of the name, compared as a number: `bin.1000000` comes
    after `bin.999999`. Terminal when the name has no numeric suffix."""
    match = _FILE.match(file)
    if match is None:
        raise Terminal(f"the name of the log file, {file!r}, does not end in a number", fix="set log_bin to a plain base name")
    return int(match.group(2)) << _OFFSET_BITS | offset


def position(file: str, offset: int, gtid: str = "", part: tuple[int, int] | None = None) -> Position:
    """The durable form: JSON with `gtid` (empty where the server has none), `file` and `offset`. Within a transaction that is handed over in parts that
    is the place before it, and `part` says which one (`Transactions.order`) and how many of its rows events are done."""
    inside = {} if part is None else {"part": list(part)}
    text = json.dumps({"gtid": gtid, "file": file, "offset": offset, **inside}, separators=(",", ":"))
    return Position(text, order(file, offset))


def part_of(at: Position) -> tuple[int, int] | None:
    """The `part` of a position made by `position`."""
    found = json.loads(at.text).get("part")
    return None if found is None else (int(found[0]), int(found[1]))


def parts(at: Position) -> tuple[str, int, str]:
    """File, offset, GTID state of a position made by `position`. Terminal when the text is none of ours."""
    try:
        found = json.loads(at.text)
        return str(found["file"]), int(found["offset"]), str(found.get("gtid") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise Terminal(
            "the stored position is not one of a MySQL or MariaDB log", fix="resync: was another database behind this name before?"
        ) from wrong


@dataclass(frozen=True, slots=True)
class MariaGtids:
    """The last GTID of each domain: domain -> (server, sequence)."""

    domains: dict[int, tuple[int, int]]

    @classmethod
    def parse(cls, text: str) -> MariaGtids:
        """From `0-1-55,1-2-7`. Terminal when it is not of this form."""
        domains: dict[int, tuple[int, int]] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            try:
                domain, server, sequence = (int(number) for number in item.split("-"))
            except ValueError as wrong:
                raise Terminal("the stored GTID state is not one of MariaDB", fix="resync: the server's kind changed") from wrong
            domains[domain] = (server, sequence)
        return cls(domains)

    def reaches(self, other: MariaGtids) -> bool:
        """Whether this state is at `other` or later, in every domain."""
        return all(domain in self.domains and self.domains[domain][1] >= sequence for domain, (_, sequence) in other.domains.items())

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{sequence}" for domain, (server, sequence) in sorted(self.domains.items()))


class MySqlGtids:
    """A set of executed MySQL GTIDs; grows in place by `add`."""

    __slots__ = ("_sets",)

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str], list[list[int]]] = {}

    @classmethod
    def parse(cls, text: str) -> MySqlGtids:
        """From `uuid:1-5:7,uuid:tag:1-3`, blanks and line ends ignored. Terminal when it is not of this form."""
        found = cls()
        try:
            for item in filter(None, re.sub(r"\s", "", text).split(",")):
                sid, *rest = item.split(":")
                sid, tag = str(uuid.UUID(sid)), ""
                for piece in rest:
                    if piece[0].isdigit():
                        first, _, last = piece.partition("-")
                        found._merge((sid, tag), int(first), int(last or first))
                    elif _TAG.match(piece):
                        tag = piece.lower()
                    else:
                        raise ValueError("not a tag")
        except (ValueError, IndexError) as wrong:
            raise Terminal("the stored GTID state is not one of MySQL", fix="resync: the server's kind changed") from wrong
        return found

    def add(self, sid: str, tag: str, number: int) -> None:
        intervals = self._sets.setdefault((sid, tag), [])
        if intervals and intervals[-1][1] == number - 1:
            intervals[-1][1] = number
        else:
            self._merge((sid, tag), number, number)

    def _merge(self, key: tuple[str, str], first: int, last: int) -> None:
        merged: list[list[int]] = []
        for low, high in sorted([*self._sets.get(key, []), [first, last]]):
            if merged and low <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self._sets[key] = merged

    def __str__(self) -> str:
        texts = []
        for (sid, tag), intervals in sorted(self._sets.items()):
            spans = ":".join(str(low) if low == high else f"{low}-{high}" for low, high in intervals)
            texts.append(f"{sid}:{tag}:{spans}" if tag else f"{sid}:{spans}")
        return ",".join(texts)

    def encode(self) -> bytes:
        """For COM_BINLOG_DUMP_GTID: count, then per UUID its bytes, the number of intervals and their bounds, the upper one exclusive. With a tag
        anywhere the newer form is used: count and form number packed in 8 bytes, and a length-prefixed tag after each UUID
        (mysql-server sql/rpl_gtid_set.cc, Gtid_set::encode)."""
        tagged = any(tag for _, tag in self._sets)
        count = len(self._sets)
        out = [struct.pack("<Q", count << 8 | 1 | 1 << 56) if tagged else struct.pack("<Q", count)]
        for (sid, tag), intervals in sorted(self._sets.items()):
            out.append(uuid.UUID(sid).bytes)
            if tagged:
                out.append(bytes([len(tag) << 1]) + tag.encode("ascii"))
            out.append(struct.pack("<Q", len(intervals)))
            out.extend(struct.pack("<QQ", low, high + 1) for low, high in intervals)
        return b"".join(out)
