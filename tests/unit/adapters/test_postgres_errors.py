"""What becomes of PostgreSQL's errors: the class decides what happens next, the sentence holds no value of a row."""

from __future__ import annotations

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import errors

from adapters.postgres.connection import wrap
from adapters.postgres.refusal import named_line
from engine.errors import Poison, SynclineError, Terminal, Transient
from engine.model.schema import Table, TableName
from engine.model.write import Write


def failure(state: str, message: str = "the secret value") -> SynclineError:
    return wrap(errors.lookup(state)(message), "erp.public.t")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("22001", "too_long"),
        ("23502", "not_null"),
        ("23503", "foreign_key"),
        ("23505", "unique"),
        ("23P01", "unique"),
        ("23514", "check"),
        ("44000", "check"),
        ("22003", "range"),
        ("22008", "range"),
        ("22P02", "type"),
        ("22007", "type"),
        ("22012", "type"),
        ("22021", "encoding"),
        ("22P05", "encoding"),
        ("P0001", "other"),
        ("54000", "too_long"),
    ],
)
def test_a_refused_row_is_poison_with_a_reason_and_its_value_is_not_repeated(state: str, reason: str) -> None:
    found = failure(state)
    assert isinstance(found, Poison)
    assert found.reason == reason and found.rows == ()
    assert "secret" not in str(found) and state in str(found) and "erp.public.t" in str(found) and found.fix


PASSING = ["40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "08006", "53300", "53100", "XX000", "58030", "55006", "25P03"]


@pytest.mark.parametrize("state", PASSING)
def test_what_may_pass_by_itself_is_transient(state: str) -> None:
    assert isinstance(failure(state), Transient)


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000", "42501", "42P01", "42703", "25006", "0A000", "42804", "55000", "57P04"])
def test_what_a_person_has_to_mend_is_terminal_and_says_how(state: str) -> None:
    found = failure(state)
    assert isinstance(found, Terminal) and found.fix


def test_an_error_without_a_state_is_a_lost_connection_and_a_fault_of_the_driver_is_terminal() -> None:
    assert isinstance(wrap(psycopg.OperationalError("the connection is closed"), "x"), Transient)
    assert isinstance(wrap(psycopg.ProgrammingError("a bug"), "x"), Terminal)
    ours = Terminal("known already")
    assert wrap(ours, "x") is ours


@pytest.mark.parametrize(
    ("table", "context", "rows"),
    [
        ("t", 'COPY t, line 3, column v: "12"', (2,)),
        ("t", "COPY t, Zeile 1", (0,)),
        ("a, 2 b", "COPY a, 2 b, line 4", (3,)),
        ("t", "PL/pgSQL function f() line 9 at RAISE\nCOPY _syncline_stage_12, line 2", (1,)),
        ("t", "COPY t, line 99", ()),
        ("t", 'SQL statement "SELECT 1"', ()),
        ("t", "", ()),
    ],
)
def test_the_line_that_copy_was_reading_names_the_row(table: str, context: str, rows: tuple[int, ...]) -> None:
    target = Table(name=TableName("erp", "public", table), columns=())
    values = pa.table({"id": pa.array(["1"] * 4)})
    assert named_line(Write(table=target, key=("id",), op=np.ones(4, np.uint8), values=values, decided=np.ones((4, 1), np.bool_)), context) == rows
