"""`checks` of a rule: conditions in DuckDB's SQL over the row that the rule makes, in the target's columns.

None may be false; unknown passes, as in an SQL CHECK. They are compiled as the expressions of a rule are, over the mapped rows in place of a source table.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from engine.mapping.binding import Binder
from engine.mapping.findings import Findings, nearest
from engine.mapping.functions import check_functions
from engine.mapping.query import Computed, QueryWriter
from engine.mapping.rule import Checks, CompiledRule, Output, Plan
from engine.mapping.scope import Resolved, Scope, is_variable, match
from engine.mapping.statement import read_statement
from engine.mapping.target import beyond_decimals
from engine.model.schema import Column, Table
from engine.model.types import DataType, Kind
from engine.ports import Problem

_TRUTH = DataType(kind=Kind.BOOL, name="BOOLEAN")
_FORM = "write one comparison, or several with AND and OR, as in credit_limit >= 0"


def compile_checks(rule: CompiledRule, checks: Sequence[str]) -> tuple[Checks | None, list[Problem]]:
    """None when there are no checks, or when one of them cannot be; what is wrong stands under `rule NAME, checks[number]`."""
    rows = replace(rule.target, columns=tuple(rule.target.column(c) for c in rule.columns), foreign_keys=())
    problems: list[Problem] = []
    conditions: list[Resolved] = []
    for number, text in enumerate(checks, start=1):
        findings = Findings(rule.name)
        condition = _condition(rows, text, findings)
        problems += [replace(problem, where=f"rule {rule.name}, checks[{number}]") for problem in findings.problems]
        if condition is not None and not findings.failed:
            conditions.append(condition)
    if not checks or len(conditions) < len(checks):
        return None, problems
    texts = tuple(" ".join(text.split()) for text in checks)
    computed = [Computed(column=text, value=condition, type="BOOLEAN") for text, condition in zip(texts, conditions, strict=True)]
    query = QueryWriter(source=rows, joins={}, outputs=computed, where=None, relation=f"batch_{rule.name.encode().hex()}_checks").write()
    outputs = tuple(
        Output(column=Column(name=f"checks[{number}]", type=_TRUTH), direct="", steps=(), lineage=tuple(sorted(condition.columns)), refuse_null=False)
        for number, condition in enumerate(conditions, start=1)
    )
    reads = tuple(c for c in rule.columns if any(c in condition.columns for condition in conditions))
    return Checks(texts=texts, reads=reads, plan=Plan(outputs=outputs, query=query)), problems


def _condition(rows: Table, text: str, findings: Findings) -> Resolved | None:
    statement = read_statement(f"SELECT ({text}\n) AS told FROM mapped.rows AS r", findings) if _single(text) else None
    if statement is None:
        if not findings.failed:
            findings.error("is no condition in DuckDB's SQL", _FORM)
        return None
    piece = statement.projections[0].piece
    for node in piece.node.find_all(exp.Column):
        if is_variable(node):
            continue
        if len(node.parts) > 1:
            findings.error(f"{node.sql('duckdb')} names a table", f"write {node.name} alone: a check sees the columns that the rule writes")
        elif match(node.name, (column.name for column in rows.columns)) is None:
            findings.error(f"the rule does not write a column {node.name}", nearest(node.name, (column.name for column in rows.columns)))
    if findings.failed or not check_functions(piece, findings):
        return None
    condition = Scope(statement, rows, (), findings).resolve(piece)
    if condition is None:
        return None
    for column in beyond_decimals(condition):
        fix = f"write CAST({column.name} AS DECIMAL(38, 10)) with the digits you need, or DOUBLE"
        findings.error(f"{column.name} ({column.type.name}) has no bound that DuckDB's numbers hold, so the check would compare its text", fix)
    with Binder(rows, {}, {}, findings) as binder:
        found = binder.type_of(condition)
    if found not in (None, "BOOLEAN"):
        findings.error(f"gives {found}, not true or false", _FORM)
    return condition


def _single(text: str) -> bool:
    """Whether the text is one expression, brackets and all."""
    try:
        trees = sqlglot.parse(f"SELECT ({text}\n)", read="duckdb")
    except (SqlglotError, RecursionError):
        return False
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Select) or any(clause and name != "expressions" for name, clause in tree.args.items()):
        return False
    return [type(entry) for entry in tree.expressions] == [exp.Paren]
