"""Takes a rule's SELECT apart: sqlglot says what it means, and its own text is kept piece by piece.

DuckDB later runs the user's text, with nothing but names exchanged in it: a tree that is printed again may mean something else.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from engine.mapping.findings import Findings

logging.getLogger("sqlglot").setLevel(logging.ERROR)

_PLAIN = {"expressions", "from_", "joins", "where"}
_CLAUSES = {
    "with_": "WITH",
    "distinct": "DISTINCT",
    "group": "GROUP BY",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "order": "ORDER BY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "sample": "USING SAMPLE",
    "windows": "WINDOW",
    "laterals": "LATERAL",
    "pivots": "PIVOT",
}
_ONE_ROW = "a rule is one plain SELECT: each row of the table gives one row of the target"
OPEN = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE}
CLOSE = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of the rule's text, its tokens, and its syntax tree. start, end: characters, end exclusive."""

    node: exp.Expr
    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def end(self) -> int:
        return self.tokens[-1].end + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One entry of the SELECT list. name: the alias, or the column's own name; empty when there is none (an unnamed expression, `a.*`)."""

    name: str
    piece: Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A lookup that the rule joins. equalities: the two sides of each condition."""

    lookup: str
    alias: str
    inner: bool
    equalities: tuple[tuple[Piece, Piece], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """sql: the rule's text. source: system, schema (may be empty) and table after FROM. qualifiers: the names that may stand before its
    columns."""

    sql: str
    source: tuple[str, str, str]
    qualifiers: tuple[tuple[str, ...], ...]
    joins: tuple[Joined, ...]
    projections: tuple[Projection, ...]
    where: Piece | None


def read_statement(sql: str, findings: Findings) -> Statement | None:
    """None when the text is not one plain SELECT; why is in the findings."""
    tokens, select = parse(sql, findings)
    if select is None or not _is_plain(select, findings):
        return None
    clauses = Clauses(tokens)
    source = named_table(select.args["from_"].this, findings)
    conditions = iter(clauses.on)
    joins = [_joined(join, next(conditions, []) if join.args.get("on") else [], findings) for join in select.args.get("joins") or []]
    projections = read_projections(select, clauses.projections, findings)
    if source is None or findings.failed:
        return None
    name, alias = source
    where = Piece(node=select.args["where"].this, tokens=tuple(clauses.where)) if clauses.where else None
    return Statement(
        sql=sql,
        source=name,
        qualifiers=((alias,),) if alias else qualifiers_of(name),
        joins=tuple(join for join in joins if join),
        projections=projections,
        where=where,
    )


def parse(sql: str, findings: Findings) -> tuple[Sequence[Token], exp.Select | None]:
    """The text's tokens without semicolons, and its tree; no tree, with the findings told, when it is not one SELECT."""
    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
        trees = [tree for tree in sqlglot.parse(sql, read="duckdb") if tree is not None]
    except SqlglotError as error:
        findings.error(f"the SQL cannot be read{_place(error)}", "write one plain SELECT in DuckDB's SQL")
        return [], None
    tokens = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    if len(trees) != 1:
        findings.error(f"the SQL holds {len(trees) or 'no'} statements", "write exactly one SELECT")
    elif isinstance(trees[0], exp.SetOperation):
        findings.error("set operations (UNION, INTERSECT, EXCEPT) are not possible in a rule", "write one rule for each SELECT")
    elif not isinstance(trees[0], exp.Select) or tokens[0].token_type not in (TokenType.SELECT, TokenType.WITH):
        findings.error("the SQL is not a SELECT", "begin with SELECT and name the table after FROM")
    else:
        return tokens, trees[0]
    return tokens, None


def _place(error: SqlglotError) -> str:
    details = getattr(error, "errors", None) or [{}]
    line, column = details[0].get("line"), details[0].get("col")
    return f" at line {line}, column {column}" if line else ""


def _is_plain(select: exp.Select, findings: Findings) -> bool:
    for argument, value in select.args.items():
        if value and argument not in _PLAIN:
            clause = _CLAUSES.get(argument, argument.strip("_").replace("_", " ").upper())
            findings.error(f"{clause} is not possible in a rule", _ONE_ROW)
    if not select.args.get("from_"):
        findings.error("the SELECT has no FROM", "name the table that the rule reads, as system.table")
    for inner in select.find_all(exp.Query):
        if inner is not select:
            findings.error("subqueries are not possible in a rule", "join a lookup, or compute the value from the row's own columns")
            break
    if select.find(exp.Window):
        findings.error("window functions are not possible in a rule", "compute each value from the row's own columns")
    if select.find(exp.Unnest, exp.Explode):
        findings.error("unnest is not possible in a rule", _ONE_ROW)
    if select.find(exp.Placeholder, exp.Parameter):
        findings.error("parameters (?, $1) are not possible in a rule", "write the value itself")
    return not findings.failed


def named_table(table: exp.Expr, findings: Findings) -> tuple[tuple[str, str, str], str] | None:
    """((system, schema, table), alias) of a system's table after FROM or JOIN."""
    if not isinstance(table, exp.Table) or not all(isinstance(part, exp.Identifier) for part in table.parts):
        findings.error("FROM names no table", "write FROM system.table or FROM system.schema.table")
        return None
    if not is_bare(table):
        findings.error(f"the table {table.name} stands in FROM with more than an alias", "write FROM system.table AS a")
        return None
    parts = [part.name for part in table.parts]
    if len(parts) == 1:
        findings.error(f"the table {parts[0]} has no system in front", f"write system.{parts[0]}, as the configuration names the system")
        return None
    if len(parts) > 3:
        findings.error(f"the table {'.'.join(parts)} has too many parts", "write system.table or system.schema.table")
        return None
    if parts[0].lower() == "lookups":
        findings.error("the rule reads no table of a system, only a lookup", "name the table after FROM, and join the lookup")
        return None
    return (parts[0], parts[1] if len(parts) == 3 else "", parts[-1]), table.alias


def is_bare(table: exp.Table) -> bool:
    """Whether it stands there with nothing but an alias."""
    alias = table.args.get("alias")
    extra = [key for key, value in table.args.items() if value and key not in ("this", "db", "catalog", "alias")]
    return not extra and not (alias is not None and alias.args.get("columns"))


def qualifiers_of(name: tuple[str, str, str]) -> tuple[tuple[str, ...], ...]:
    """What may stand before the columns of a table without an alias."""
    system, schema, table = name
    return ((table,), (system, table)) if not schema else ((table,), (schema, table), (system, schema, table))


def _joined(join: exp.Join, tokens: list[Token], findings: Findings) -> Joined | None:
    parts = [part.name for part in join.this.parts] if isinstance(join.this, exp.Table) else []
    if len(parts) != 2 or parts[0].lower() != "lookups" or not is_bare(join.this):
        findings.error("a rule joins lookups only", "write LEFT JOIN lookups.NAME AS n ON n.column = a.column")
        return None
    lookup, side, kind = parts[1], join.side.upper(), join.kind.upper()
    if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER") or join.method:
        findings.error(f"lookup {lookup}: this kind of join is not possible in a rule", "use LEFT JOIN, or INNER JOIN to leave rows out")
        return None
    if join.args.get("using") or not join.args.get("on"):
        findings.error(f"lookup {lookup} is joined without a condition", f"write ON, as in ON {join.alias_or_name}.column = a.column")
        return None
    equalities = _equalities(join.args["on"], tokens)
    if equalities is None:
        findings.error(f"lookup {lookup}: the join condition is more than equalities", "write a = b, or several with AND between them")
        return None
    return Joined(lookup=lookup, alias=join.alias_or_name, inner=side != "LEFT", equalities=equalities)


def _equalities(condition: exp.Expr, tokens: list[Token]) -> tuple[tuple[Piece, Piece], ...] | None:
    nodes = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    stretches = list(split(tokens, TokenType.AND))
    if len(nodes) != len(stretches) or not all(isinstance(node, exp.EQ) for node in nodes):
        return None
    pairs = []
    for node, stretch in zip(nodes, stretches, strict=True):
        sides = list(split(stretch, TokenType.EQ))
        if len(sides) != 2 or not all(sides):
            return None
        pairs.append((Piece(node=node.this, tokens=tuple(sides[0])), Piece(node=node.expression, tokens=tuple(sides[1]))))
    return tuple(pairs)


def read_projections(select: exp.Select, stretches: list[list[Token]], findings: Findings) -> tuple[Projection, ...]:
    """The SELECT list, whose entries' tokens are `stretches`."""
    if len(stretches) != len(select.expressions):
        findings.error("the SELECT list cannot be read", "write each entry as expression AS target_column")
        return ()
    found = []
    for node, tokens in zip(select.expressions, stretches, strict=True):
        if not isinstance(node, exp.Alias):
            name = node.name if isinstance(node, exp.Column) and not node.is_star else ""
            found.append(Projection(name=name, piece=Piece(node=node, tokens=tuple(tokens))))
            continue
        alias = node.args["alias"]
        body = tokens[:-1]
        if body and body[-1].token_type is TokenType.ALIAS:
            body = body[:-1]
        if not isinstance(alias, exp.Identifier) or alias.meta.get("start") != tokens[-1].start or not body:
            findings.error("an entry of the SELECT list is not named at its end", "write each entry as expression AS target_column")
            continue
        found.append(Projection(name=alias.name, piece=Piece(node=node.this, tokens=tuple(body))))
    return tuple(found)


class Clauses:
    """The tokens of the SELECT list, of each ON, and of WHERE."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        selected: list[Token] = []
        self.on: list[list[Token]] = []
        self.where: list[Token] = []
        current: list[Token] | None = selected
        for number, token, depth in depths(tokens):
            if depth == 0 and number > 0:
                kind, before = token.token_type, tokens[number - 1].token_type
                if current is selected and kind is TokenType.FROM and before is not TokenType.DISTINCT:
                    current = None
                    continue
                if current is not selected and kind is TokenType.WHERE:
                    current = self.where
                    continue
                if current is not selected and current is not self.where:
                    if kind is TokenType.ON:
                        current = []
                        self.on.append(current)
                        continue
                    if self._starts_join(tokens, number):
                        current = None
                        continue
            if current is not None and number > 0:
                current.append(token)
        self.projections = list(split(selected, TokenType.COMMA))
        if self.projections and not self.projections[-1]:
            self.projections.pop()

    @staticmethod
    def _starts_join(tokens: Sequence[Token], number: int) -> bool:
        """JOIN, INNER JOIN, LEFT [OUTER] JOIN; `left(` is a function."""
        for token in tokens[number : number + 3]:
            if token.token_type is TokenType.JOIN:
                return True
            if token.token_type not in (TokenType.LEFT, TokenType.INNER, TokenType.OUTER):
                return False
        return False


def depths(tokens: Sequence[Token]) -> Iterator[tuple[int, Token, int]]:
    """Each token with the number of brackets and CASEs it stands in; a bracket stands inside itself."""
    depth = 0
    for number, token in enumerate(tokens):
        if token.token_type in OPEN:
            depth += 1
        yield number, token, depth
        if token.token_type in CLOSE:
            depth -= 1


def split(tokens: Sequence[Token], separator: TokenType) -> Iterator[list[Token]]:
    """The stretches between separators that stand in no bracket."""
    stretch: list[Token] = []
    for _, token, depth in depths(tokens):
        if depth == 0 and token.token_type is separator:
            yield stretch
            stretch = []
        else:
            stretch.append(token)
    yield stretch
