"""What `check` has to say of a PostgreSQL system: everything that would stop `run` later, each with the SQL that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from adapters.postgres import slot
from adapters.postgres.connection import Connection, connect, wrap
from adapters.postgres.schema import quoted, quoted_table
from adapters.postgres.statements import statement
from engine.errors import SynclineError
from engine.model.schema import Table, TableName
from engine.ports import Problem, Watched

OLDEST = 130000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    version: int
    printed: str
    encoding: str
    wal_level: str
    standby: bool
    user: str
    database: str
    schema: str | None
    superuser: bool
    may_replicate: bool
    may_create: bool
    may_stage: bool


def examine(
    system: str,
    url: str,
    rule_set: str,
    options: Mapping[str, object],
    read: Sequence[Watched],
    written: Sequence[Table],
    linked: Sequence[Table] = (),
) -> list[Problem]:
    """Never raises, changes nothing in the database. See `engine.ports.Adapter.preflight`."""
    where = f"system {system}"
    found: list[Problem] = []
    try:
        with connect(url, system=system) as connection:
            found.extend(_all(connection, system, url, rule_set, options, read, written, linked))
    except SynclineError as error:
        found.append(_problem("error", error.where or where, error.what, error.fix))
    except psycopg.Error as error:
        failure = wrap(error, where)
        found.append(_problem("error", failure.where, failure.what, failure.fix))
    except Exception as error:  # a check that falls over is a finding too
        found.append(_problem("error", where, f"the check of this system failed ({type(error).__name__})", "report it: a fault of Syncline"))
    return list(dict.fromkeys(found))


def _problem(severity: str, where: str, what: str, fix: str) -> Problem:
    return Problem(severity="warning" if severity == "warning" else "error", where=where, what=what, fix=fix)


def _all(
    connection: Connection,
    system: str,
    url: str,
    rule_set: str,
    options: Mapping[str, object],
    read: Sequence[Watched],
    written: Sequence[Table],
    linked: Sequence[Table],
) -> Iterator[Problem]:
    where = f"system {system}"
    version, printed, encoding, wal_level, standby, user, database, schema = _one(connection, "server_facts")
    superuser, may_replicate, may_create, may_stage = _one(connection, "role_facts")
    server = _Server(
        version=version,
        printed=printed,
        encoding=encoding,
        wal_level=wal_level,
        standby=standby,
        user=user,
        database=database,
        schema=schema,
        superuser=superuser,
        may_replicate=may_replicate,
        may_create=may_create,
        may_stage=may_stage,
    )
    if version < OLDEST:
        yield _problem("error", where, f"PostgreSQL {printed} is too old", "use version 13 or later")
        return
    if standby:
        yield _problem("error", where, "the server is a standby: it takes no writes", "let the URL name the primary server")
        return
    if encoding != "UTF8":
        yield _problem(
            "warning",
            where,
            f"the database's encoding is {encoding}: characters that it does not have are refused row by row",
            "a database with ENCODING 'UTF8' holds all characters",
        )
    if read:
        yield from _guarded(where, _log(where, url, system, server))
        yield from _guarded(where, _slot(connection, where, server, system, rule_set, options))
        yield from _guarded(where, _publication(connection, where, server, system, rule_set, options, read))
    for watched in read:
        yield from _guarded(str(watched.table.name), _source_table(connection, server, watched))
    if written:
        yield from _guarded(where, _target(connection, where, server))
    for table in written:
        yield from _guarded(str(table.name), _target_table(connection, server, table))
    if linked:
        yield from _guarded(where, _link_table(connection, where, server))
    for table in linked:
        yield from _guarded(str(table.name), _made_key(connection, server, table))
    for table in dict.fromkeys([*(watched.table for watched in read), *written]):
        if not table.log_key:
            yield _no_identity(table)


def _guarded(where: str, findings: Iterator[Problem]) -> Iterator[Problem]:
    """One question that the server refuses must not keep us from asking the others."""
    try:
        yield from findings
    except SynclineError as error:
        yield _problem("error", error.where or where, error.what, error.fix)
    except psycopg.Error as error:
        failure = wrap(error, where)
        yield _problem("error", failure.where, failure.what, failure.fix)


def _one(connection: Connection, name: str, values: Mapping[str, object] | None = None) -> tuple[Any, ...]:
    row = connection.execute(statement(name), values).fetchone()
    if row is None:
        raise LookupError(name)
    return row


def _log(where: str, url: str, system: str, server: _Server) -> Iterator[Problem]:
    if server.wal_level != "logical":
        yield _problem(
            "error",
            where,
            f"wal_level is {server.wal_level}: the log does not hold row changes",
            "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        )
        return
    if not server.may_replicate:
        yield _problem("error", where, f"user {server.user} may not read the log", f"ALTER ROLE {quoted(server.user)} REPLICATION")
        return
    try:
        connect(url, system=system, replication=True).close()
    except SynclineError as error:
        yield _problem("error", where, f"no replication connection: {error.what}", error.fix)


def _slot(connection: Connection, where: str, server: _Server, system: str, rule_set: str, options: Mapping[str, object]) -> Iterator[Problem]:
    name = slot.names(system, rule_set, options, connection.info.dbname).slot
    free_slots, free_senders, active, status, plugin, database = _one(connection, "slot_facts", {"slot": name})
    if plugin is None and free_slots <= 0:
        yield _problem(
            "error",
            where,
            "all replication slots of the server are taken",
            "drop one that is no longer needed (SELECT pg_drop_replication_slot(...)), or ALTER SYSTEM SET max_replication_slots and restart",
        )
    if plugin is not None and (plugin != "pgoutput" or database != server.database):
        yield _problem("error", where, f"the replication slot {name} belongs to another program or database", f'set slot = "..." in systems.{system}')
    if status == "lost":
        yield _problem(
            "error",
            where,
            f"the replication slot {name} is invalid: the server no longer holds its log",
            f"SELECT pg_drop_replication_slot('{name}'); and resync the rules that read this system",
        )
    if not active and free_senders <= 0:
        yield _problem(
            "error",
            where,
            "all walsenders of the server are taken",
            "end a replication that is no longer needed, or ALTER SYSTEM SET max_wal_senders and restart",
        )


def _publication(
    connection: Connection,
    where: str,
    server: _Server,
    system: str,
    rule_set: str,
    options: Mapping[str, object],
    read: Sequence[Watched],
) -> Iterator[Problem]:
    """We create and extend the publication ourselves where we may; else a person has to run the SQL."""
    name = slot.names(system, rule_set, options, connection.info.dbname).publication
    row = connection.execute(statement("publication_facts"), {"publication": name}).fetchone()
    published = set(connection.execute(statement("publication_tables"), {"publication": name}).fetchall()) if row else set()
    wanted = [watched.table.name for watched in read]
    if server.schema is not None:
        wanted.append(TableName(system, server.schema, slot.CHECKPOINT))
    absent = [table for table in dict.fromkeys(wanted) if (table.schema, table.table) not in published]
    tables = ", ".join(quoted_table(table) for table in absent)
    foreign = [] if server.superuser else [table for table in absent if not _owns(connection, table)]
    first = f"after CREATE TABLE of {slot.CHECKPOINT} where it is absent: "
    if row is None:
        create = f"{first}CREATE PUBLICATION {quoted(name)} FOR TABLE {tables} WITH (publish_via_partition_root = true)"
        if not server.may_create:
            yield _problem(
                "error",
                where,
                f"user {server.user} may not create the publication {name}",
                f"GRANT CREATE ON DATABASE {quoted(server.database)} TO {quoted(server.user)}; or let an administrator run, {create}",
            )
        elif foreign:
            yield _not_owner(where, server, foreign, name, create)
        return
    owner, owned, whole = row
    if not whole:
        yield _problem(
            "error",
            where,
            f"the publication {name} leaves out some kinds of changes",
            f"ALTER PUBLICATION {quoted(name)} SET (publish = 'insert, update, delete, truncate')",
        )
    add = f"{first}ALTER PUBLICATION {quoted(name)} ADD TABLE {tables}"
    if absent and not owned:
        yield _problem(
            "error",
            where,
            f"the publication {name} lacks tables that we need and belongs to {owner}, not to {server.user}",
            f"let {owner} run, {add}",
        )
    elif foreign:
        yield _not_owner(where, server, foreign, name, add)


def _owns(connection: Connection, table: TableName) -> bool:
    """Also when there is no such table yet: we create it ourselves then."""
    (owns,) = _one(connection, "owns_table", {"schema": table.schema, "table": table.table})
    return bool(owns)


def _not_owner(where: str, server: _Server, tables: Sequence[TableName], publication: str, command: str) -> Problem:
    return _problem(
        "error",
        where,
        f"user {server.user} does not own {', '.join(map(str, tables))}, so cannot put it into the publication {publication}",
        f"let an administrator run, {command}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    enter: bool
    select: bool
    insert: bool
    update: bool
    delete: bool
    persistence: str
    row_security: bool
    triggers: tuple[str, ...]
    closed_sequences: tuple[str, ...]


def _facts(connection: Connection, table: Table) -> _Facts:
    row = _one(connection, "table_facts", {"table": quoted_table(table.name)})
    *plain, triggers, sequences = row
    names = ("enter", "select", "insert", "update", "delete", "persistence", "row_security")
    return _Facts(**dict(zip(names, plain, strict=True)), triggers=tuple(triggers or ()), closed_sequences=tuple(sequences or ()))


def _source_table(connection: Connection, server: _Server, watched: Watched) -> Iterator[Problem]:
    table = watched.table
    where = str(table.name)
    facts = _facts(connection, table)
    values = {"table": quoted_table(table.name), "columns": list(watched.columns)}
    closed = [name for (name,) in connection.execute(statement("unreadable_columns"), values).fetchall()]
    if closed:
        yield _problem(
            "error",
            where,
            f"user {server.user} may not read column {', '.join(closed)}",
            f"GRANT SELECT ON {quoted_table(table.name)} TO {quoted(server.user)}",
        )
    yield from _common(server, table, facts)
    if facts.persistence != "p":
        yield _problem("error", where, "the table is unlogged: its changes are in no log", f"ALTER TABLE {quoted_table(table.name)} SET LOGGED")
    computed = [name for name in watched.columns if table.has(name) and table.column(name).generated]
    if computed:
        yield _problem(
            "warning",
            where,
            f"the log does not carry generated columns ({', '.join(computed)}): each changed row is read once more",
            "let the rule compute them itself from the other columns",
        )


def _target(connection: Connection, where: str, server: _Server) -> Iterator[Problem]:
    if not server.may_stage:
        yield _problem(
            "error",
            where,
            f"user {server.user} may not create temporary tables",
            f"GRANT TEMPORARY ON DATABASE {quoted(server.database)} TO {quoted(server.user)}",
        )
    there, may_create, may_use = _one(connection, "checkpoint_facts")
    command = " ".join(statement("create_checkpoint_table").split())
    if there and not may_use:
        yield _problem(
            "error",
            where,
            f"user {server.user} may not use the table syncline_checkpoint",
            f"GRANT SELECT, INSERT, UPDATE ON syncline_checkpoint TO {quoted(server.user)}",
        )
    elif not there and server.schema is None:
        yield _problem("error", where, "the search path names no schema for the table syncline_checkpoint", "ALTER ROLE ... SET search_path = ...")
    elif not there and not may_create:
        yield _problem(
            "error",
            where,
            f"user {server.user} may not create the table syncline_checkpoint in schema {server.schema}",
            f"GRANT CREATE ON SCHEMA {quoted(server.schema or '')} TO {quoted(server.user)}; or let its owner run: {command}; "
            f"GRANT SELECT, INSERT, UPDATE ON syncline_checkpoint TO {quoted(server.user)}",
        )


def _link_table(connection: Connection, where: str, server: _Server) -> Iterator[Problem]:
    there, may_create, may_use = _one(connection, "link_facts")
    grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON syncline_link TO {quoted(server.user)}"
    if there and not may_use:
        yield _problem("error", where, f"user {server.user} may not use the table syncline_link", grant)
    elif not there and not may_create and server.schema is not None:
        yield _problem(
            "error",
            where,
            f"user {server.user} may not create the table syncline_link in schema {server.schema}",
            f"GRANT CREATE ON SCHEMA {quoted(server.schema)} TO {quoted(server.user)}; or let its owner run: "
            f"{' '.join(statement('create_link_table').split())}; {grant}",
        )


def _made_key(connection: Connection, server: _Server, table: Table) -> Iterator[Problem]:
    """The numbers of new rows are drawn before the rows are sent."""
    for key in table.primary_key:
        for (sequence,) in connection.execute(statement("closed_key_sequence"), {"table": quoted_table(table.name), "column": key}).fetchall():
            yield _problem(
                "error",
                str(table.name),
                f"user {server.user} may not draw numbers from sequence {sequence}, which makes the keys of the table",
                f"GRANT USAGE ON SEQUENCE {sequence} TO {quoted(server.user)}",
            )


def _target_table(connection: Connection, server: _Server, table: Table) -> Iterator[Problem]:
    where = str(table.name)
    facts = _facts(connection, table)
    rights = {"SELECT": facts.select, "INSERT": facts.insert, "UPDATE": facts.update, "DELETE": facts.delete}
    absent = [right for right, held in rights.items() if not held]
    if absent:
        yield _problem(
            "error",
            where,
            f"user {server.user} has no right to {', '.join(absent)} on the table",
            f"GRANT {', '.join(absent)} ON {quoted_table(table.name)} TO {quoted(server.user)}",
        )
    yield from _common(server, table, facts)
    if facts.closed_sequences:
        yield _problem(
            "warning",
            where,
            f"user {server.user} may not draw numbers from sequence {', '.join(facts.closed_sequences)}",
            f"GRANT USAGE ON SEQUENCE {', '.join(facts.closed_sequences)} TO {quoted(server.user)}, unless the rule fills its column",
        )
    if facts.triggers:
        yield _problem(
            "warning",
            where,
            f"the table has triggers ({', '.join(facts.triggers)}): they fire for our writes too",
            "make sure that they do not write what the rules lead back, and do not refuse our rows",
        )


def _common(server: _Server, table: Table, facts: _Facts) -> Iterator[Problem]:
    where = str(table.name)
    if not facts.enter:
        schema = quoted(table.name.schema)
        yield _problem(
            "error",
            where,
            f"user {server.user} may not enter schema {table.name.schema}",
            f"GRANT USAGE ON SCHEMA {schema} TO {quoted(server.user)}",
        )
    if facts.row_security:
        yield _problem(
            "error",
            where,
            f"row security would hide rows of the table from user {server.user}",
            f"ALTER ROLE {quoted(server.user)} BYPASSRLS",
        )


def _no_identity(table: Table) -> Problem:
    name = quoted_table(table.name)
    unique = next((columns for columns in table.unique if all(not table.column(column).nullable for column in columns)), None)
    if unique is not None:
        mend = f"ALTER TABLE {name} ADD PRIMARY KEY ({', '.join(quoted(column) for column in unique)}); or ALTER TABLE {name} REPLICA IDENTITY FULL"
    else:
        mend = f"add a primary key, or ALTER TABLE {name} REPLICA IDENTITY FULL"
    return _problem("error", str(table.name), "the table has no replica identity: the log does not say which row an update or delete means", mend)
