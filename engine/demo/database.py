"""A connection of the demo's own people to the CRM or the ERP: the same few calls for PostgreSQL and MariaDB. Syncline is not involved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pymysql

Statement = tuple[str, Sequence[object]]


class Busy(Exception):
    """The transaction was rolled back by the database (deadlock, lock timeout): do it again or do something else."""


class Database:
    """One connection. Statements use %s for values. Not to be shared between threads."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._postgres: psycopg.Connection[Any] | None = None
        self._mysql: Any = None
        if parts.scheme == "postgresql":
            self._postgres = psycopg.connect(url, autocommit=True, application_name="demo")
        else:
            self._mysql = pymysql.connect(
                host=parts.hostname or "",
                port=parts.port or 3306,
                user=parts.username or "root",
                password=parts.password or "",
                database=parts.path.lstrip("/"),
                charset="utf8mb4",
                autocommit=True,
            )

    def transaction(self, statements: Iterable[Statement]) -> int:
        """Runs them in one transaction; returns the number of rows they touched. Busy when the database rolled it back."""
        touched = 0
        if self._postgres is not None:
            try:
                with self._postgres.transaction():
                    for sql, values in statements:
                        touched += max(self._postgres.execute(sql.encode(), values).rowcount, 0)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.LockNotAvailable) as error:
                raise Busy from error
            return touched
        try:
            self._mysql.begin()
            with self._mysql.cursor() as cursor:
                for sql, values in statements:
                    touched += cursor.execute(sql, values)
            self._mysql.commit()
        except pymysql.err.OperationalError as error:
            self._mysql.rollback()
            if error.args[0] in {1205, 1213, 1020}:
                raise Busy from error
            raise
        return touched

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._postgres is not None:
            return cast(list[tuple[Any, ...]], self._postgres.execute(sql.encode(), values or None).fetchall())
        with self._mysql.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def value(self, sql: str, values: Sequence[object] = ()) -> Any:
        """The first value of the first row; None when there is no row."""
        found = self.rows(sql, values)
        return found[0][0] if found else None

    def script(self, text: str) -> None:
        """Runs the statements of an SQL file; each ends with a semicolon at the end of a line."""
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
        for statement in "\n".join(lines).split(";\n"):
            if statement.strip(" ;\n"):
                self.transaction([(statement, ())])

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Bulk insert."""
        names = ", ".join(columns)
        if self._postgres is not None:
            with self._postgres.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            return
        self._mysql.begin()
        with self._mysql.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(columns))})", rows)
        self._mysql.commit()

    def close(self) -> None:
        (self._postgres if self._postgres is not None else self._mysql).close()


def insert(table: str, columns: Sequence[str], row: Sequence[object]) -> Statement:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})", row


def update(table: str, column: str, value: object, key: str, reference: str) -> Statement:
    return f"UPDATE {table} SET {column} = %s WHERE {key} = %s", (value, reference)


def delete(table: str, key: str, reference: str) -> Statement:
    return f"DELETE FROM {table} WHERE {key} = %s", (reference,)
