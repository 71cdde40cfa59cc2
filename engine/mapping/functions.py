"""Which functions a rule may call: one row in, the same value out each time."""
from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from engine.mapping.duck import connect
from engine.mapping.findings import Findings
from engine.mapping.statement import Piece

_CHANGING_WORDS = (
    exp.CurrentDate,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.Localtime,
    exp.Localtimestamp,
    exp.CurrentUser,
    exp.CurrentSchema,
)
_ONE_ROW = "a rule sees one row at a time: compute the value from its own columns"
_OTHERWISE = "the same row must give the same value each time: take the value from a column, or let the target's default make it"


@dataclass(frozen=True, slots=True)
class _Function:
    aggregate: bool
    steady: bool


@functools.cache
def _known() -> Mapping[str, _Function]:
    """DuckDB's own catalogue."""
    rows = (
        connect({})
        .execute("SELECT function_name, bool_and(function_type = 'aggregate'), bool_and(coalesce(stability = 'CONSISTENT', TRUE)) "
                 "FROM duckdb_functions() GROUP BY 1")
        .fetchall()
    )
    return {name: _Function(aggregate, steady) for name, aggregate, steady in rows}


def check_functions(piece: Piece, findings: Findings, column: str = "") -> bool:
    """Tells of aggregates, of functions that give another value each time, and of what comes with a later version. True when there is none."""
    before = len(findings.problems)
    for token, after in zip(piece.tokens, piece.tokens[1:], strict=False):
        name = token.text.lower()
        if after.token_type is not TokenType.L_PAREN or token.token_type in (TokenType.STRING, TokenType.NUMBER):
            continue
        function = _known().get(name)
        if name == "xref":
            findings.error("xref() comes with a later version", "use a key that both systems have", column=column)
        elif name == "columns":
            findings.error("COLUMNS() is not possible in a rule", "name each column", column=column)
        elif function and function.aggregate:
            findings.error(f"{name}() sums up several rows", _ONE_ROW, column=column)
        elif function and not function.steady:
            findings.error(f"{name}() gives another value each time", _OTHERWISE, column=column)
    for node in piece.node.find_all(*_CHANGING_WORDS):
        findings.error(f"{node.sql('duckdb').lower()} gives another value each time", _OTHERWISE, column=column)
    for node in piece.node.find_all(exp.Anonymous):
        if node.name.lower() == "age" and len(node.expressions) == 1:
            findings.error("age() of one argument gives another value each day", _OTHERWISE, column=column)
    return len(findings.problems) == before
