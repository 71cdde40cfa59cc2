"""How long a text can become, compared with what DuckDB makes of the longest values."""

from __future__ import annotations

import pytest
import sqlglot

from engine.mapping.duck import connect
from engine.mapping.text_bound import text_bound

LONGEST = {"name": "ß" * 5, "uuid": "131c8919-964b-4397-99ff-63855b0b4fa9", "n": "-128"}


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("name", 5),
        ("(name)", 5),
        ("upper(trim(name))", 5),
        ("lower(name)", 5),
        ("left(name, 2)", 2),
        ("right(name, 9)", 5),
        ("coalesce(name, 'longer than that')", 16),
        ("CASE WHEN n = '1' THEN name ELSE 'abcdefg' END", 7),
        ("CASE WHEN n = '1' THEN name END", 5),
        ("name || ' ' || n", 10),
        ("CAST(uuid AS VARCHAR)", 36),
        ("uuid::text", 36),
        ("'it''s'", 4),
        ("NULL", 0),
        ("replace(name, 'a', 'bb')", None),
        ("repeat(name, 2)", None),
        ("coalesce(name, repeat(name, 2))", None),
        ("name || repeat(name, 2)", None),
        ("left(name, length(n))", None),
        ("CAST(name AS INTEGER)", None),
    ],
)
def test_bound_is_that_of_the_longest_value(sql: str, bound: int | None) -> None:
    node = sqlglot.parse_one(sql, read="duckdb")
    assert text_bound(node, lambda column: len(LONGEST[column.name])) == bound
    if bound is not None:
        row = ", ".join(f"'{value}' AS {name}" for name, value in LONGEST.items())
        (value,) = connect({}).execute(f"SELECT {sql} FROM (SELECT {row})").fetchone()
        assert len(value or "") <= bound
