"""Rules whose target makes its own key, and xref(): both compiled by way of a rule that has neither.

In the SQL `xref('customer', 'erp', a.id)` becomes `(a.id)`, fitted into the key column of the linked table in the source's system; the evaluator then looks
the link up, and further steps fit what it finds into the target column.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from engine.mapping.compiler import Tables, compile_rule
from engine.mapping.conversion import Impossible, conversion
from engine.mapping.findings import Findings, nearest
from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule, Output, Plan, Xref, crosswalk
from engine.mapping.target import MadeKey
from engine.model.schema import Column, Table, TableName
from engine.ports import Problem

Ends = Mapping[str, Mapping[str, Table]]
"""Link -> system -> the table that the link is about there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One xref() of a statement: `column` is the target column it is written to."""

    column: str
    link: str
    system: str


def compile_linked(
    *, name: str, sql: str, into: TableName, key: Sequence[str], link: str, match: Sequence[Sequence[str]], ends: Ends, table: Tables,
    lookups: Mapping[str, Lookup], adapters: Mapping[str, str],
) -> tuple[CompiledRule | None, list[Problem]]:
    """As `compile_rule`, of rules that may use links. link: in place of the key; empty where there is a key."""
    if not link and "xref" not in sql.lower():
        return compile_rule(name=name, sql=sql, into=into, key=key, table=table, lookups=lookups, adapters=adapters)
    findings = Findings(name)
    text, references = _without_xref(sql)
    found = {r.column.lower(): ends[r.link] for r in references if _sound(r, ends, into, findings)}
    source = _source_system(sql)

    def seen(system: str, schema: str, named: str) -> Table:
        live = table(system, schema, named)
        if (system, schema, named) != (into.system, into.schema, into.table):
            return live
        return replace(live, columns=tuple(_as_asked(column, found, source) for column in live.columns))

    if link:
        key = MadeKey(_made_key(table, into, findings))
    if findings.failed:
        return None, findings.problems
    rule, problems = compile_rule(name=name, sql=text, into=into, key=key, table=seen, lookups=lookups, adapters=adapters)
    if rule is None:
        return None, problems
    target = table(into.system, into.schema, into.table)
    rule = _finished(rule, target, references, ends, adapters, findings)
    if link:
        rule = _with_link(rule, link, match, findings)
    return None if findings.failed else rule, problems + findings.problems


def _with_link(rule: CompiledRule, link: str, match: Sequence[Sequence[str]], findings: Findings) -> CompiledRule:
    (key,) = rule.key
    if key in rule.columns:
        findings.error("the target makes this column by itself, since the rule has a link", "leave it out of the SELECT", column=key)
    for column in dict.fromkeys(c for alternative in match for c in alternative):
        if column not in rule.columns:
            findings.error(f"match names {column}, which the rule does not write", f"name columns among {', '.join(rule.columns)}", column=column)
    origins = {**rule.origins, key: ()} if rule.joined else rule.origins
    return replace(rule, link=link, lineage={**rule.lineage, key: ()}, origins=origins)


def _made_key(table: Tables, into: TableName, findings: Findings) -> tuple[str, ...]:
    from engine.errors import SynclineError

    try:
        target = table(into.system, into.schema, into.table)
    except SynclineError as error:
        findings.error(f"{error.where}: {error.what}" if error.where else error.what, error.fix or "correct the name of the table")
        return ()
    if len(target.primary_key) != 1:
        findings.error(
            f"a rule with a link needs a target whose primary key is one column; {target.name} has {len(target.primary_key)}",
            "name the columns that identify a row in key",
        )
    elif not target.column(target.primary_key[0]).made:
        findings.error(
            f"{target.name} does not make its key {target.primary_key[0]} by itself (serial, identity, auto-increment)",
            f"write key = [\"{target.primary_key[0]}\"] in place of link, and the column in the SELECT",
        )
    return target.primary_key


def _sound(reference: _Reference, ends: Ends, into: TableName, findings: Findings) -> bool:
    if reference.link not in ends:
        known = list(ends)
        findings.error(f"there is no link {reference.link}", nearest(reference.link, known) if known else "add a rule with that link", column=reference.column)
    elif reference.system != into.system:
        findings.error(f"xref() asks for the key in {reference.system}, but the rule writes into {into.system}", f"name {into.system}", column=reference.column)
    elif reference.system not in ends[reference.link]:
        have = " and ".join(ends[reference.link])
        findings.error(f"the link {reference.link} has no end in {reference.system}, it leads between {have}", "name another link", column=reference.column)
    else:
        return True
    return False


def _as_asked(column: Column, found: Mapping[str, Mapping[str, Table]], source: str) -> Column:
    """The target column as the rule without xref() sees it: of the type of the key in the source's system."""
    ends = found.get(column.name.lower())
    if ends is None or source not in ends or len(ends[source].primary_key) != 1:
        return column
    return replace(column, type=ends[source].column(ends[source].primary_key[0]).type, nullable=True)


def _finished(
    rule: CompiledRule, target: Table, references: Sequence[_Reference], ends: Ends, adapters: Mapping[str, str], findings: Findings
) -> CompiledRule:
    """The rule with the lookup behind each reference, for the table as it is."""
    source, there = rule.source.name.system, target.name.system
    asked = {r.column.lower(): r for r in references}
    made: dict[str, Output] = {}
    for output in rule.plan.outputs:
        reference = asked.get(output.column.name.lower())
        if reference is None:
            continue
        column = target.column(output.column.name)
        sides = ends[reference.link]
        if source not in sides or any(len(sides[s].primary_key) != 1 for s in (source, there)):
            what = f"the link {reference.link} has no end in {source} whose primary key is one column, or none in {there}"
            findings.error(what, "xref() is for records that a rule with this link carries between the two systems", column=column.name)
            continue
        fitted = conversion(sides[there].column(sides[there].primary_key[0]).type, column.type, source=adapters.get(there, ""), target=adapters.get(there, ""))
        if isinstance(fitted, Impossible):
            findings.error(fitted.what, f"write it into a column of the type of {sides[there].name}'s key", column=column.name)
            continue
        xref = Xref(link=reference.link, crosswalk=crosswalk(reference.link, source, there), steps=fitted.steps)
        made[output.column.name] = replace(output, column=column, refuse_null=column.name in rule.key or not column.nullable, xref=xref)

    def exchanged(plan: Plan) -> Plan:
        return replace(plan, outputs=tuple(made.get(output.column.name, output) for output in plan.outputs))

    return replace(rule, target=target, plan=exchanged(rule.plan), key_plan=exchanged(rule.key_plan))


def _source_system(sql: str) -> str:
    base = base_table(sql)
    return base[0] if base else ""


def base_table(sql: str) -> tuple[str, str, str] | None:
    """(system, schema or "", table) after FROM; None when that cannot be told."""
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except (SqlglotError, RecursionError):
        return None
    source = tree.args.get("from_")
    if source is None or not isinstance(source.this, exp.Table):
        return None
    parts = [part.name for part in source.this.parts]
    return (parts[0], parts[1] if len(parts) == 3 else "", parts[-1]) if len(parts) in (2, 3) else None


def _without_xref(sql: str) -> tuple[str, list[_Reference]]:
    """The statement with each xref() that is a whole entry of the SELECT list exchanged for its last argument; everything else keeps its place. A misused one
    stays, and the compiler says so."""
    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
    except SqlglotError:
        return sql, []
    text, found = sql, []
    for at, token in enumerate(tokens):
        end = _call(tokens, at)
        if end is None or not _whole_entry(tokens, at, end):
            continue
        found.append(_Reference(column=tokens[end + 2].text, link=tokens[at + 2].text, system=tokens[at + 4].text))
        first = tokens[at + 5].end
        text = text[: token.start] + " " * (first - token.start) + "(" + text[first + 1 :]
    return text, found


def _call(tokens: Sequence[Token], at: int) -> int | None:
    """Number of the closing bracket of `xref('link', 'system', ...)` that begins here."""
    kinds = [token.token_type for token in tokens[at + 1 : at + 6]]
    shape = [TokenType.L_PAREN, TokenType.STRING, TokenType.COMMA, TokenType.STRING, TokenType.COMMA]
    if tokens[at].text.lower() != "xref" or tokens[at].token_type is TokenType.STRING or kinds != shape:
        return None
    depth = 0
    for number in range(at + 1, len(tokens)):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[number].token_type, 0)
        if depth == 0:
            return number
    return None


def _whole_entry(tokens: Sequence[Token], at: int, end: int) -> bool:
    """Whether it stands alone between SELECT or a comma and AS name."""
    before = tokens[at - 1].token_type if at else None
    return (
        before in (TokenType.SELECT, TokenType.COMMA)
        and end + 2 < len(tokens)
        and tokens[end + 1].token_type is TokenType.ALIAS
        and (end + 3 == len(tokens) or tokens[end + 3].token_type in (TokenType.COMMA, TokenType.FROM))
    )
