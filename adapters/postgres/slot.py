"""Publication and replication slot: creates them, and tells before reading whether the log still holds what we need.

Everything runs as simple queries on one replication connection. https://www.postgresql.org/docs/current/protocol-replication.html,
https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from adapters.postgres.connection import Connection, wrap
from adapters.postgres.pgoutput import lsn_order, position, server_of
from adapters.postgres.pgoutput_relation import Shape
from engine.errors import BRIDGE, Gap, SynclineError, Terminal, Transient
from engine.model.batch import Position
from engine.ports import Watched

CHECKPOINT = "syncline_checkpoint"
_SLOT_SECONDS = 30
_LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Publication (belongs to a database) and slot (belongs to the whole server, so the database is part of its name)."""

    publication: str
    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the server says of itself. identity: see `_identity`. end: of its log. version: major. schema: the default one, empty if none.
    next_xid: 64 bits."""

    identity: str
    end: int
    version: int
    schema: str
    utf8: bool
    next_xid: int


def names(system: str, rule_set: str, options: Mapping[str, object], database: str) -> Names:
    """Options `publication` and `slot` win over the defaults. Raises Terminal for a slot name that PostgreSQL does not take."""
    publication = str(options.get("publication") or _clean(f"syncline_{rule_set}"))
    slot = str(options.get("slot") or _clean(f"syncline_{rule_set}_{system}_{database}"))
    if not re.fullmatch(r"[a-z0-9_]{1,63}", slot):
        raise Terminal(f'"{slot}" cannot be the name of a slot', where=f"systems.{system}.slot", fix="use lower-case letters, digits and _")
    return Names(publication=publication, slot=slot)


def _clean(name: str) -> str:
    clean = re.sub(r"[^a-z0-9_]", "_", name.lower())
    if clean == name and len(clean) <= 63:
        return clean
    return f"{clean[:54]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def query(connection: Connection, statement: str, where: str) -> list[tuple[Any, ...]]:
    """Runs one statement without parameters. Errors as `connection.wrap` says."""
    try:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        raise wrap(error, where) from error


def quote(value: str) -> str:
    """A text literal (standard_conforming_strings is on)."""
    return "'" + value.replace("'", "''") + "'"


def identifier(*parts: str) -> str:
    return sql.Identifier(*parts).as_string(None)


def identify(connection: Connection, where: str) -> Server:
    """Raises what `query` raises."""
    system_id, timeline, end, _ = query(connection, "IDENTIFY_SYSTEM", where)[0]
    facts = (
        "SELECT current_schema(), current_setting('server_encoding'), pg_snapshot_xmax(pg_current_snapshot())::text::bigint, "
        "(SELECT oid::bigint FROM pg_database WHERE datname = current_database())"
    )
    schema, encoding, xid, database = query(connection, facts, where)[0]
    return Server(
        identity=f"{system_id}/{timeline}/{database}",
        end=lsn_order(end),
        version=connection.info.server_version // 10000,
        schema=schema or "",
        utf8=encoding != "SQL_ASCII",
        next_xid=int(xid),
    )


def prepare(connection: Connection, system: str, watched: Sequence[Watched], chosen: Names) -> Position:
    """Creates what is missing and returns the place from which the log is complete: the slot's start. Idempotent.

    Terminal with what to set or to run when the server does not log enough, a table has no replica identity, or a right is missing."""
    where = f"system {system}"
    server = identify(connection, where)
    level = query(connection, "SHOW wal_level", where)[0][0]
    if level != "logical":
        raise Terminal(
            f"the server's wal_level is {level}, which does not log row changes for readers like us",
            where=where,
            fix="ALTER SYSTEM SET wal_level = logical; then restart the server",
        )
    for table in watched:
        _check_identity(table)
    # The publication comes first: the server looks it up as it was at each place of the log.
    created = _prepare_publication(connection, where, server, watched, chosen.publication)
    slot = _slot(connection, where, chosen.slot)
    if slot is None:
        return position(_create_slot(connection, where, chosen.slot), server.identity)
    _check_slot(connection, where, slot, chosen.slot)
    start = lsn_order(slot["confirmed_flush_lsn"])
    if created:
        start = max(start, identify(connection, where).end)
    return position(start, server.identity)


def renew(connection: Connection, system: str, watched: Sequence[Watched], chosen: Names) -> Position:
    """A slot of ours that begins now, in place of the one there is. Transient while a connection holds that one."""
    where = f"system {system}"
    slot = _slot(connection, where, chosen.slot)
    if slot is not None and slot["plugin"] == "pgoutput" and slot["database"] == connection.info.dbname:
        query(connection, f"SELECT pg_drop_replication_slot({quote(chosen.slot)})", where)
    return prepare(connection, system, watched, chosen)


def check_position(connection: Connection, system: str, chosen: Names, start: Position, server: Server) -> None:
    """Gap, with the reason, when the log after `start` is not all there. The server itself would silently begin later."""
    where = f"system {system}"
    _check_history(connection, where, start, server)
    slot = _slot(connection, where, chosen.slot)
    if slot is None:
        raise Gap(f'replication slot "{chosen.slot}" is gone: it was dropped, or lost by a failover', where=where)
    _check_slot(connection, where, slot, chosen.slot)
    confirmed = lsn_order(slot["confirmed_flush_lsn"])
    if confirmed > start.order:
        raise Gap(
            f'replication slot "{chosen.slot}" is ahead of our position ({slot["confirmed_flush_lsn"]}, we are at {start.text}): '
            "it was dropped and created again, or moved by someone else, and the changes between are lost to us",
            where=where,
        )


def _check_history(connection: Connection, where: str, start: Position, server: Server) -> None:
    """Gap when this is not the database, or not the history of it, that `start` was taken from. Positions of earlier versions name the server alone."""
    known, here = server_of(start).split("/"), server.identity.split("/")
    if known[0] and known[0] != here[0]:
        raise Gap(
            f"this is another server than before (system identifier {here[0]}, our position is of {known[0]})",
            where=where,
            fix=f"correct the URL; if the server was replaced on purpose, {BRIDGE}",
            set_back=True,
        )
    if len(known) > 2 and known[2] != here[2]:
        what = "this is another database than before: it was dropped and created again, perhaps restored from a dump"
        raise Gap(what, where=where, set_back=True)
    left = _left_at(connection, where, known[1], here[1]) if len(known) > 1 and known[1] != here[1] else server.end
    if start.order > left:
        raise Gap(
            f"the server's log ends before our position {start.text}: it was set back (restored from a backup, or failed over with loss)",
            where=where,
            set_back=True,
        )


def _left_at(connection: Connection, where: str, before: str, now: str) -> int:
    """Up to where timeline `now` has the log of timeline `before`; -1 where it does not come from there.
    https://www.postgresql.org/docs/current/protocol-replication.html, TIMELINE_HISTORY"""
    try:
        found = query(connection, f"TIMELINE_HISTORY {int(now)}", where)
    except Terminal:
        return -1  # the first one has no history, and came from nowhere
    content = found[0][1]
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[0] == before:
            return lsn_order(parts[1])
    return -1


def check_resume(connection: Connection, system: str, watched: Sequence[Watched], chosen: Names, start: Position, server: Server) -> None:
    """What `check_position` says; Terminal when the publication does not bring the tables."""
    where = f"system {system}"
    check_position(connection, system, chosen, start, server)
    published = _published(connection, where, server, chosen.publication)
    for table in watched:
        name = table.table.name
        if (name.schema, name.table) not in published:
            raise Terminal(
                f'table {name} is not in publication "{chosen.publication}"',
                where=where,
                fix=f"ALTER PUBLICATION {identifier(chosen.publication)} ADD TABLE {identifier(name.schema, name.table)}; "
                "and resync the rules that read it, if it was taken out",
            )


def shapes(connection: Connection, where: str, watched: Sequence[Watched]) -> dict[tuple[str, str], Shape]:
    """The catalogue's column types of the watched tables now. Terminal when a table or a wanted column is gone."""
    wanted = ", ".join(f"({quote(w.table.name.schema)}, {quote(w.table.name.table)})" for w in watched)
    if not wanted:
        return {}
    rows = query(
        connection,
        f"SELECT n.nspname, c.relname, c.oid::bigint, a.attname, a.atttypid::bigint, a.atttypmod FROM pg_class c "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        f"WHERE (n.nspname, c.relname) IN ({wanted})",
        where,
    )
    oids: dict[tuple[str, str], int] = {}
    columns: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for schema, name, oid, column, type_oid, modifier in rows:
        oids[schema, name] = oid
        columns.setdefault((schema, name), {})[column] = (type_oid, modifier)
    for table in watched:
        key = (table.table.name.schema, table.table.name.table)
        if key not in columns:
            raise Terminal(f"there is no table {table.table.name}", where=where, fix="create it, or adapt the rules that read it")
        for column in table.columns:
            if column not in columns[key]:
                raise Terminal(f'table {table.table.name} has no column "{column}"', where=where, fix="adapt the rules that read it")
    return {key: Shape(oid=oid, columns=columns[key]) for key, oid in oids.items()}


def _check_identity(watched: Watched) -> None:
    """Published without an identity, a table would refuse the application's own updates: so this comes before anything is changed."""
    name = watched.table.name
    if watched.table.log_key:
        return
    table = identifier(name.schema, name.table)
    raise Terminal(
        "the log does not tell which row is updated or deleted: the table has no primary key as replica identity",
        where=str(name),
        fix=f"add a primary key, or ALTER TABLE {table} REPLICA IDENTITY USING INDEX <a unique index over NOT NULL columns>, "
        f"or ALTER TABLE {table} REPLICA IDENTITY FULL",
    )


def _published(connection: Connection, where: str, server: Server, publication: str) -> set[tuple[str, str]]:
    """Tables whose changes the publication brings whole. Terminal when it filters rows or leaves kinds of changes out."""
    kinds = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = "
    found = query(connection, kinds + quote(publication), where)
    if not found:
        fix = "it was dropped: resync the rules that read this system"
        raise Terminal(f'there is no publication "{publication}"', where=where, fix=fix)
    name = identifier(publication)
    if not found[0][0]:
        fix = f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"
        raise Terminal(f'publication "{publication}" leaves some kinds of changes out', where=where, fix=fix)
    filtered = "rowfilter IS NOT NULL" if server.version >= 15 else "false"
    rows = query(connection, f"SELECT schemaname, tablename, {filtered} FROM pg_publication_tables WHERE pubname = {quote(publication)}", where)
    for schema, table, with_filter in rows:
        if with_filter and table != CHECKPOINT:
            shown = identifier(schema, table)
            fix = f"ALTER PUBLICATION {name} DROP TABLE {shown}; ALTER PUBLICATION {name} ADD TABLE {shown}"
            raise Terminal(f'publication "{publication}" filters the rows of {schema}.{table}', where=where, fix=fix)
    return {(schema, table) for schema, table, _ in rows}


def _prepare_publication(connection: Connection, where: str, server: Server, watched: Sequence[Watched], publication: str) -> bool:
    """Returns whether the publication was created now."""
    wanted = {(w.table.name.schema, w.table.name.table) for w in watched}
    marker = (server.schema, CHECKPOINT)
    if server.schema and query(connection, f"SELECT to_regclass({quote(identifier(*marker))}) IS NOT NULL", where)[0][0]:
        wanted.add(marker)
    name = identifier(publication)
    exists = bool(query(connection, f"SELECT 1 FROM pg_publication WHERE pubname = {quote(publication)}", where))
    if not exists:
        tables = ", ".join(identifier(*table) for table in sorted(wanted))
        of = f" FOR TABLE {tables}" if tables else ""
        _define(connection, where, f"CREATE PUBLICATION {name}{of} WITH (publish_via_partition_root = true)")
        return True
    via_root = query(connection, f"SELECT pubviaroot FROM pg_publication WHERE pubname = {quote(publication)}", where)[0][0]
    if not via_root:
        _define(connection, where, f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true)")
    absent = wanted - _published(connection, where, server, publication)
    if absent:
        _define(connection, where, f"ALTER PUBLICATION {name} ADD TABLE {', '.join(identifier(*table) for table in sorted(absent))}")
    return False


def _define(connection: Connection, where: str, statement: str) -> None:
    query(connection, f"SET lock_timeout = '{_LOCK_SECONDS}s'", where)
    try:
        query(connection, statement, where)
    except SynclineError as error:
        if getattr(error.__cause__, "sqlstate", "") == "42501":
            fix = f"let the owner of the tables run: {statement};"
            raise Terminal(f"no right to prepare the log: {error.what}", where=where, fix=fix) from error
        raise


def _slot(connection: Connection, where: str, slot: str) -> dict[str, Any] | None:
    try:
        cursor = connection.execute(f"SELECT * FROM pg_replication_slots WHERE slot_name = {quote(slot)}".encode())
        row = cursor.fetchone()
        assert cursor.description is not None
        return None if row is None else dict(zip((column.name for column in cursor.description), row, strict=True))
    except psycopg.Error as error:
        raise wrap(error, where) from error


def _check_slot(connection: Connection, where: str, slot: Mapping[str, Any], name: str) -> None:
    own = "set the option `slot` of this system to a name of its own, or drop that slot"
    if slot["plugin"] != "pgoutput":
        raise Terminal(f'slot "{name}" exists already, for something else (plugin {slot["plugin"] or "none"})', where=where, fix=own)
    if slot["database"] != connection.info.dbname:
        raise Terminal(f'slot "{name}" belongs to another database ({slot["database"]})', where=where, fix=own)
    if slot.get("invalidation_reason") or slot.get("wal_status") == "lost" or slot["confirmed_flush_lsn"] is None:
        reason = slot.get("invalidation_reason") or "the log it needs was removed"
        fix = f"raise max_slot_wal_keep_size, then {BRIDGE}"
        raise Gap(f'replication slot "{name}" is invalid ({reason}): changes are lost to us', where=where, fix=fix)


def _create_slot(connection: Connection, where: str, slot: str) -> int:
    query(connection, f"SET statement_timeout = '{_SLOT_SECONDS}s'", where)
    try:
        rows = query(connection, f"SELECT lsn::text FROM pg_create_logical_replication_slot({quote(slot)}, 'pgoutput')", where)
    except SynclineError as error:
        state = getattr(error.__cause__, "sqlstate", "")
        if state == "57014":
            raise Transient(
                f"the replication slot could not be made within {_SLOT_SECONDS} s, because a transaction on the server stays open",
                where=where,
                fix="end it (see pg_stat_activity, backend_xid), or wait",
            ) from error
        if state == "53400":
            fix = "raise max_replication_slots, or drop unused slots"
            raise Terminal("all replication slots of the server are in use", where=where, fix=fix) from error
        if state == "42501":
            raise Terminal("no right to create a replication slot", where=where, fix="ALTER ROLE <this user> REPLICATION") from error
        raise
    finally:
        if not connection.closed:
            query(connection, "SET statement_timeout = 0", where)
    return lsn_order(rows[0][0])
