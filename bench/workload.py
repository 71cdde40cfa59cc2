"""The workload that every replication is measured with: one table of twelve columns, a bulk load in transactions of 1,000 rows, then
one-row updates.

Everything is generated on the server, so that the load itself costs this process nothing.
"""
from __future__ import annotations

from dataclasses import dataclass

import psycopg

COLUMNS = ("id", "code", "name", "city", "country", "email", "phone", "credit_limit", "balance", "active", "signed_on", "updated_at")

TABLE = """
CREATE TABLE customers (
    id bigint PRIMARY KEY, code text NOT NULL, name text NOT NULL, city text, country varchar(2), email text, phone text,
    credit_limit numeric(12, 2), balance numeric(14, 2), active boolean, signed_on date, updated_at timestamptz
)"""

RULE = """SELECT c.id AS id, c.code AS code, trim(c.name) AS name, c.city AS city, c.country AS country, c.email AS email, c.phone AS phone,
c.credit_limit AS credit_limit, c.balance AS balance, c.active AS active, c.signed_on AS signed_on, c.updated_at AS updated_at
FROM crm.customers AS c"""
"""The mapping that Syncline runs. Native replication copies the rows as they are; as no name has outer blanks, both have to end with the
same rows."""

_BULK = """
DO $$
DECLARE at bigint := 0;
BEGIN
    WHILE at < {rows} LOOP
        INSERT INTO customers
        SELECT i, 'C' || lpad(i::text, 8, '0'), 'Müller & Söhne ' || (i % 9973), 'Ort ' || (i % 501),
               CASE WHEN i % 17 = 0 THEN NULL ELSE chr(65 + (i % 26)::int) || chr(65 + (i / 26 % 26)::int) END,
               'kunde' || i || '@example.org', CASE WHEN i % 5 = 0 THEN NULL ELSE '+49 30 ' || (1000000 + i % 9000000) END,
               (i % 50000)::numeric / 4, ((i * 37) % 9999999)::numeric / 100 - 1000, i % 3 <> 0,
               date '1990-01-01' + (i % 12000)::int, timestamptz '2024-01-01 00:00:00+00' + i * interval '1.000123 second'
        FROM generate_series(at + 1, least(at + 1000, {rows})) AS i;
        COMMIT;
        at := at + 1000;
    END LOOP;
END $$"""

_UPDATES = """
DO $$
BEGIN
    FOR n IN 1..{count} LOOP
        UPDATE customers SET balance = balance + 1.25, updated_at = updated_at + interval '1 second' WHERE id = (n::bigint * 7919) % {rows}
        + 1; COMMIT;
    END LOOP;
END $$"""

_SUM = """
SELECT count(*)::text || ' rows, ' || coalesce(sum(('x' || substr(md5(row({columns})::text), 1, 15))::bit(60)::bigint), 0)::text FROM
customers"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """rows: of the bulk load. updates: one-row transactions."""

    rows: int
    updates: int

    @classmethod
    def scaled(cls, scale: float) -> Size:
        """1M rows and 100k updates at scale 1."""
        return cls(rows=max(1000, int(1_000_000 * scale)), updates=max(100, int(100_000 * scale)))


def create_table(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)


def bulk_load(url: str, size: Size) -> None:
    """Inserts ids 1 to `size.rows`, 1,000 a transaction."""
    _alone(url, _BULK.format(rows=size.rows))


def one_row_updates(url: str, size: Size) -> None:
    """Updates `size.updates` rows spread over the table, one a transaction."""
    _alone(url, _UPDATES.format(count=size.updates, rows=size.rows))


def last_updated(size: Size) -> int:
    """The id that the last update touches."""
    return size.updates * 7919 % size.rows + 1


def checksum(url: str) -> str:
    """Row count and a sum over md5 of every row, computed by the server."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(_SUM.format(columns=", ".join(COLUMNS)).encode()).fetchone()
    assert row is not None
    return str(row[0])


def _alone(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
