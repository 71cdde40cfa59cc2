"""What a statement in the log (QUERY event) means for the watched tables: nothing, a table emptied, a changed definition, or rows changed in a way that
the log does not show. Text in, `Effect` out; no SQL is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_TOKEN = re.compile(
    r"""/\*(?!M?!)(?:.*?)\*/ | /\*M?!\d* | \*/ | --[\s][^\n]* | \#[^\n]* | '(?:[^'\\]|''|\\.)*' """
    r"""| (?P<back>`(?:[^`]|``)*`) | (?P<double>"(?:[^"\\]|""|\\.)*") | (?P<word>[\w$]+) | (?P<dot>\.) | (?P<sign>[^\s\w])""",
    re.VERBOSE | re.DOTALL,
)
_HARMLESS = frozenset(
    (
        "GRANT",
        "REVOKE",
        "SET",
        "FLUSH",
        "ANALYZE",
        "OPTIMIZE",
        "REPAIR",
        "USE",
        "LOCK",
        "UNLOCK",
        "INSTALL",
        "UNINSTALL",
        "RESET",
        "PURGE",
        "KILL",
        "CACHE",
        "SAVEPOINT",
        "RELEASE",
        "SHOW",
        "CHECK",
        "BACKUP",
    )
)
_DEFINING = frozenset(("ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE"))
_UNSEEN_ROWS = ("TRUNCATE PARTITION", "DROP PARTITION", "EXCHANGE PARTITION", "CONVERT PARTITION", "CONVERT TABLE", "DISCARD", "IMPORT")


class Kind(StrEnum):
    """What to do about a statement."""

    NOTHING = "nothing"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    ROLLBACK_TO = "rollback to savepoint"
    XA_END = "xa end"
    XA = "xa"
    TRUNCATE = "truncate"
    DEFINITION = "definition"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """tables: the watched ones it concerns, as (database, table). why: for STOP, a sentence."""

    kind: Kind
    tables: tuple[tuple[str, str], ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Name:
    """A word that may be a name; `quoted` ones are no keyword."""

    text: str
    quoted: bool
    dotted: bool


def effect(text: str, database: str, watched: Iterable[tuple[str, str]]) -> Effect:
    """`database`: the default one of the statement."""
    wanted = {(schema.lower(), table.lower()): (schema, table) for schema, table in watched}
    tokens = _tokens(text)
    words = [name.text.upper() for name in tokens if not name.quoted]
    first, second = (*words[:2], "", "")[:2]
    match first:
        case "BEGIN" | "START":
            return Effect(kind=Kind.BEGIN)
        case "COMMIT":
            return Effect(kind=Kind.COMMIT)
        case "ROLLBACK":
            return Effect(kind=Kind.ROLLBACK_TO if "TO" in words else Kind.ROLLBACK)
        case "XA":
            return Effect(kind={"START": Kind.BEGIN, "BEGIN": Kind.BEGIN, "END": Kind.XA_END}.get(second, Kind.XA))
        case "":
            return Effect(kind=Kind.NOTHING)
    named = tuple(wanted[name] for name in _mentioned(tokens, database) if name in wanted)
    databases = {schema for schema, _ in wanted}
    if first == "DROP" and second in ("DATABASE", "SCHEMA"):
        gone = [name.text for name in tokens if name.text.lower() in databases]
        return Effect(kind=Kind.STOP, why="the database of watched tables was dropped") if gone else Effect(kind=Kind.NOTHING)
    if first in _HARMLESS:
        return Effect(kind=Kind.NOTHING)
    if first in _DEFINING:
        return _definition(words, tokens, named, database, wanted)
    if named or (first not in ("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH") and database.lower() in databases):
        why = f"rows were changed by a statement ({first}) that is in the log as text, not as rows"
        return Effect(kind=Kind.STOP, tables=named, why=why)
    return Effect(kind=Kind.NOTHING)


def _definition(
    words: list[str],
    tokens: list[_Name],
    named: tuple[tuple[str, str], ...],
    database: str,
    wanted: dict[tuple[str, str], tuple[str, str]],
) -> Effect:
    first = words[0]
    if not named or (first == "DROP" and "TEMPORARY" in words[:2]) or (first == "CREATE" and "TEMPORARY" in words[:4]):
        return Effect(kind=Kind.NOTHING)
    if first == "TRUNCATE":
        target = [name for name in tokens[1:] if name.quoted or name.text.upper() != "TABLE" or name.dotted]
        emptied = [wanted[name] for name in _mentioned(target, database)[:1] if name in wanted]
        return Effect(kind=Kind.TRUNCATE, tables=tuple(emptied)) if emptied else Effect(kind=Kind.NOTHING)
    if first == "DROP" and words[1:2] == ["TABLE"]:
        return Effect(kind=Kind.STOP, tables=named, why="the table was dropped")
    if first == "RENAME" and words[1:2] in (["TABLE"], ["TABLES"]):
        return Effect(kind=Kind.STOP, tables=named, why="the table was renamed, or another one took its name")
    if first == "CREATE" and words[1:3] == ["OR", "REPLACE"] and words[3:4] == ["TABLE"]:
        return Effect(kind=Kind.STOP, tables=named, why="the table was replaced by another one")
    joined = " ".join(words)
    if first == "ALTER" and any(part in joined for part in _UNSEEN_ROWS):
        return Effect(kind=Kind.STOP, tables=named, why="rows went with a partition or tablespace, which the log does not show")
    return Effect(kind=Kind.DEFINITION, tables=named)


def _tokens(text: str) -> list[_Name]:
    """Words and quoted names in order. What stands in an executable comment counts."""
    found: list[_Name] = []
    dotted = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "dot":
            dotted = True
            continue
        if kind == "word":
            found.append(_Name(match["word"], False, dotted))
        elif kind == "back":
            found.append(_Name(match["back"][1:-1].replace("``", "`"), True, dotted))
        elif kind == "double":
            found.append(_Name(match["double"][1:-1].replace('""', '"'), True, dotted))
        elif kind is None and not match[0].startswith("'"):
            continue
        dotted = False
    return found


def _mentioned(tokens: list[_Name], database: str) -> list[tuple[str, str]]:
    """(database, table) in lower case of everything that may be a table's name."""
    out = []
    for k, name in enumerate(tokens):
        if name.dotted and k:
            out.append((tokens[k - 1].text.lower(), name.text.lower()))
        elif not (k + 1 < len(tokens) and tokens[k + 1].dotted):
            out.append((database.lower(), name.text.lower()))
    return out
