"""Which functions a rule may call: one row in, the same value out each time."""
from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from engine.mapping.duck import connect
from engine.mapping.findings import Findings
from engine.mapping.statement import CLOSE, OPEN, Piece

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
_STEADY = "use sum, count, min, max and the like, or first(... ORDER BY ...)"
_ANY_ORDER = {
    "count", "count_star", "count_if", "countif", "sum", "avg", "mean", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor",
    "median", "quantile", "quantile_cont", "quantile_disc",
}  # fmt: skip
IN_ORDER = {"string_agg", "group_concat", "listagg", "list", "array_agg", "first", "last", "any_value", "arbitrary"}
"""Aggregates that are possible with ORDER BY inside."""
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
    check_calls(piece.tokens, findings, column, aggregates=False)
    check_words(piece.node, findings, column)
    return len(findings.problems) == before


def check_calls(tokens: Sequence[Token], findings: Findings, column: str = "", *, aggregates: bool) -> None:
    """The calls among the tokens. aggregates: those are possible that give the same value in whatever order the rows come."""
    for number, (token, after) in enumerate(itertools.pairwise(tokens)):
        name = token.text.lower()
        if after.token_type is not TokenType.L_PAREN or token.token_type in (TokenType.STRING, TokenType.NUMBER):
            continue
        function = _known().get(name)
        if name == "xref":
            fix = "write it alone, as in xref('customer', 'erp', a.id) AS customer_no"
            findings.error("xref() stands for a whole column only, with a link and a system in quotes and a key", fix, column=column)
        elif name == "columns":
            findings.error("COLUMNS() is not possible in a rule", "name each column", column=column)
        elif function and function.aggregate and not aggregates:
            findings.error(f"{name}() sums up several rows", _ONE_ROW, column=column)
        elif function and function.aggregate and name in IN_ORDER:
            if ordering(tokens, number + 1) is None:
                findings.error(f"{name}() depends on the order of the rows", f"write the order inside: {name}(... ORDER BY ...)", column=column)
        elif function and function.aggregate and name not in _ANY_ORDER:
            findings.error(f"{name}() may give another value for the same rows each time", _STEADY, column=column)
        elif function and not function.steady:
            findings.error(f"{name}() gives another value each time", _OTHERWISE, column=column)


def check_words(node: exp.Expr, findings: Findings, column: str = "") -> None:
    """What gives another value each time without looking like a call."""
    for word in node.find_all(*_CHANGING_WORDS):
        findings.error(f"{word.sql('duckdb').lower()} gives another value each time", _OTHERWISE, column=column)
    for call in node.find_all(exp.Anonymous):
        if call.name.lower() == "age" and len(call.expressions) == 1:
            findings.error("age() of one argument gives another value each day", _OTHERWISE, column=column)


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the call sums up rows."""
    if isinstance(node, exp.Anonymous):
        function = _known().get(node.name.lower())
        return function is not None and function.aggregate
    return isinstance(node, exp.AggFunc)


def ordering(tokens: Sequence[Token], opening: int) -> tuple[list[Token], Token] | None:
    """The first argument of the call whose bracket opens at token `opening`, and the bracket that closes it; None without ORDER BY inside."""
    inside: list[Token] = []
    ordered = False
    argument: list[Token] | None = None
    depth = 0
    for token in tokens[opening:]:
        depth += (token.token_type in OPEN) - (token.token_type in CLOSE)
        if depth == 0:
            return (inside if argument is None else argument, token) if ordered else None
        if depth == 1 and token.token_type in (TokenType.COMMA, TokenType.ORDER_BY):
            ordered |= token.token_type is TokenType.ORDER_BY
            argument = list(inside) if argument is None else argument
        if token is not tokens[opening]:
            inside.append(token)
    return None
