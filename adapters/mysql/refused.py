"""Which staged rows a refusal is about, where the server does not say. Spares the engine halving the batch; finding none is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pymysql

from adapters.mysql.connection import quote
from adapters.mysql.rows import select
from adapters.mysql.stage import Stage
from engine.model.batch import DELETE
from engine.model.schema import ForeignKey
from engine.model.types import Kind
from engine.model.write import Write


def name_rows(connection: pymysql.Connection, stage: Stage, write: Write, reason: str) -> tuple[int, ...]:
    """Numbers of rows at fault by `Poison.reason`; `key`: rows whose keys the database holds for equal. Driver errors give none."""
    queries = {"foreign_key": _orphans, "check": _no_json, "unique": _clashes, "key": _equal_keys}.get(reason)
    if queries is None or not connection.open:
        return ()
    found: set[int] = set()
    try:
        for sql in queries(stage, write):
            for text in select(connection, sql, ["n"]).column(0).to_pylist():
                found.update(int(number) for number in text.split(","))
    except pymysql.MySQLError:
        return ()
    return tuple(sorted(found))


def _orphans(stage: Stage, write: Write) -> Iterator[str]:
    """Rows whose parent is not there. Rows of the same batch may be parents too; those the engine finds by splitting."""
    staged = set(write.values.column_names)
    for foreign in write.table.foreign_keys:
        if not set(foreign.columns) <= staged or foreign.parent == write.table.name:
            continue
        parent = f"{quote(foreign.parent.schema)}.{quote(foreign.parent.table)}"
        join = " AND ".join(f"p.{quote(there)} = {stage.cell(here)}" for here, there in _pairs(foreign))
        given = " AND ".join(f"{stage.cell(here)} IS NOT NULL" for here in foreign.columns)
        decided = " AND ".join(f"({stage.decided(here)})" for here in foreign.columns)
        yield (
            f"SELECT s._n FROM {quote(stage.name)} AS s WHERE s._op <> {DELETE} AND {given} AND {decided} "
            f"AND NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {join})"
        )


def _pairs(foreign: ForeignKey) -> Iterator[tuple[str, str]]:
    return zip(foreign.columns, foreign.parent_columns, strict=True)


def _no_json(stage: Stage, write: Write) -> Iterator[str]:
    staged = set(write.values.column_names)
    for column in stage.columns:
        if column.type.kind is Kind.JSON and column.name in staged:
            yield f"SELECT s._n FROM {quote(stage.name)} AS s WHERE s._op <> {DELETE} AND JSON_VALID({stage.cell(column.name)}) = 0"


def _clashes(stage: Stage, write: Write) -> Iterator[str]:
    """Rows with the values of another row of the target, or of the batch, in a unique index."""
    staged = set(write.values.column_names)
    target = f"{quote(write.table.name.schema)}.{quote(write.table.name.table)}"
    for columns in write.table.unique:
        if not set(columns) <= staged:
            continue
        join = " AND ".join(f"t.{quote(name)} = {stage.cell(name)}" for name in columns)
        other = " OR ".join(f"t.{quote(name)} <> {stage.cell(name)}" for name in write.key)
        decided = " OR ".join(f"({stage.decided(name)})" for name in columns)
        yield (
            f"SELECT DISTINCT s._n FROM {quote(stage.name)} AS s STRAIGHT_JOIN {target} AS t ON {join} WHERE s._op <> {DELETE} AND ({decided}) AND ({other})"
        )
        yield _repeated(stage, columns, f"WHERE s._op <> {DELETE} AND ({decided})")


def _equal_keys(stage: Stage, write: Write) -> Iterator[str]:
    yield _repeated(stage, write.key, "")


def _repeated(stage: Stage, columns: Sequence[str], where: str) -> str:
    """All but the first of staged rows that agree in these columns."""
    cells = ", ".join(stage.cell(name) for name in columns)
    given = " AND ".join(f"{stage.cell(name)} IS NOT NULL" for name in columns)
    condition = f"{where} AND {given}" if where else f"WHERE {given}"
    rows = "SUBSTR(GROUP_CONCAT(s._n ORDER BY s._n), LENGTH(MIN(s._n)) + 2)"
    return f"SELECT {rows} FROM {quote(stage.name)} AS s {condition} GROUP BY {cells} HAVING COUNT(*) > 1"
