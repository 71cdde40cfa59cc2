"""Compiles a rule that joins several tables of one system: DuckDB runs the rule's own text, with nothing exchanged in it but names.

Each column stands in the text as a strict cast of its canonical text at the place where it is used, so a value that DuckDB's types cannot hold is an
error of the rows that use it and of no others. The number of the base row is carried through.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from engine.mapping.binding import fault_kind
from engine.mapping.conversion import text_length
from engine.mapping.duck import connect, quote
from engine.mapping.duck_type import printing
from engine.mapping.findings import Findings
from engine.mapping.functions import IN_ORDER, check_calls, check_words, is_aggregate, ordering
from engine.mapping.join_path import Step, find_paths
from engine.mapping.joined_scope import JoinedScope, Place
from engine.mapping.lookups import Lookup
from engine.mapping.origin import Columns, Origins
from engine.mapping.rule import CompiledRule, JoinedQuery, JoinedRelation, JoinedTable, Output, Plan
from engine.mapping.scope import Reference, Resolved, exchange, is_variable, match
from engine.mapping.statement import Clauses, Projection, depths, read_projections, split
from engine.mapping.target import Selected, TargetSide
from engine.mapping.text_bound import text_bound
from engine.model.schema import Table
from engine.model.types import Kind

KeyPlan = Callable[[str, Sequence[str]], Plan]
"""(a rule over the base table alone, its key) -> the plan of the key."""

_INTERNAL = re.compile(r"\"?__t(\d+)\"?\.\"?([cl])(\d+)\b\"?")
_NAMELESS = re.compile(r"\"?\b[cl]\d+\b\"?")
_FIX = "correct the expression; a CAST(... AS ...) settles types"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedSource:
    """sql, tokens, select: the rule's text, its tokens, its tree. base: the table after FROM. table: finds the others, or tells and gives None."""

    sql: str
    tokens: Sequence[Token]
    select: exp.Select
    base: Table
    table: Callable[[tuple[str, str, str]], Table | None]


def compile_joined(
    name: str,
    source: JoinedSource,
    target: Table | None,
    key: Sequence[str],
    lookups: Mapping[str, Lookup],
    adapters: Mapping[str, str],
    key_plan: KeyPlan,
    findings: Findings,
) -> CompiledRule | None:
    """None, with the findings told, when something in the rule is not possible. Its shape is known to be sound."""
    before = len(findings.problems)
    projections = read_projections(source.select, Clauses(source.tokens).projections, findings)
    scope = JoinedScope(source.select, source.base, source.table, lookups, findings)
    if len(findings.problems) > before:
        return None
    compiler = _Compiler(name, source, projections, scope, target, adapters, findings)
    return compiler.compile(key, key_plan)


def base_key(base: Table) -> tuple[str, ...]:
    """The columns that name a row of the base table; empty when there are none."""
    return base.primary_key or (base.log_key if len(base.log_key) < len(base.columns) else ())


@dataclass(slots=True)
class _Compiler:
    name: str
    source: JoinedSource
    projections: tuple[Projection, ...]
    scope: JoinedScope
    target: Table | None
    adapters: Mapping[str, str]
    findings: Findings
    side: TargetSide = field(init=False)
    changes: dict[tuple[int, int], str] = field(default_factory=dict)
    """What to exchange in the text."""
    read: dict[int, set[str]] = field(default_factory=dict)
    """By place, the columns that the rule reads."""
    group: list[exp.Expr] = field(default_factory=list)

    def __post_init__(self) -> None:
        system = self.source.base.name.system
        self.side = TargetSide(
            target=self.target, source=system, adapters=self.adapters, sql=self.source.sql, projections=self.projections, findings=self.findings
        )

    def compile(self, key: Sequence[str], key_plan: KeyPlan) -> CompiledRule | None:
        base = self.source.base
        if not base_key(base):
            what = f"{base.name} has no primary key, so its rows cannot be found again when a joined row changes"
            self.findings.error(what, "give it a primary key, or begin FROM with another table")
        self._check_functions()
        resolved = list(self._entries())
        steps = find_paths(self.scope, self.findings) if self._rest_resolved() else []
        self._check_aggregates()
        selected = self.side.selected((name, value) for name, value, _ in resolved)
        names = self.side.key(key, selected)
        self.side.supplied(selected)
        if self.findings.failed:
            return None
        self._read_all(steps)
        self._exchange_text()
        entries = [self._with_text(entry) for entry in selected]
        query = _Texts(self)
        with _Binder(self, query) as binder:
            if not binder.runs_from():
                return None
            outputs = [self._output(entry, binder, names) for entry in entries]
            if self.findings.failed or self.target is None:
                return None
            found = [(output, value, type_) for output, value, type_ in (one for one in outputs if one is not None)]
            rule = self._rule(self.target, tuple(names), found, steps, query, key_plan)
            assert rule.joined_query is not None
            return rule if binder.runs(rule.joined_query.sql) else None

    # -- names

    def _check_functions(self) -> None:
        for projection in self.projections:
            check_calls(projection.piece.tokens, self.findings, projection.name, aggregates=True)
            check_words(projection.piece.node, self.findings, projection.name)
        check_calls(self._rest_tokens(), self.findings, aggregates=True)
        for node in self._rest_nodes():
            check_words(node, self.findings)

    def _rest_tokens(self) -> list[Token]:
        """From FROM on."""
        last = self.projections[-1].piece.tokens[-1].start if self.projections else 0
        starts = [token.start for _, token, depth in depths(self.source.tokens) if depth == 0 and token.token_type is TokenType.FROM and token.start > last]
        return [token for token in self.source.tokens if token.start >= starts[0]]

    def _rest_nodes(self) -> list[exp.Expr]:
        args = self.source.select.args
        return [node for node in [args["from_"], *(args.get("joins") or []), args.get("where"), args.get("having")] if node is not None]

    def _entries(self) -> Iterable[tuple[str, Resolved, exp.Expr]]:
        for projection in self.projections:
            node = projection.piece.node
            if isinstance(node, exp.Star):
                self.side.unclear = True
                self.findings.error("SELECT * is not possible in a rule", "name the columns, or write a.* with the table's alias")
            elif isinstance(node, exp.Column) and node.is_star:
                columns = self.scope.star(node) if not any(node.this.args.values()) else None
                if columns is None:
                    self.side.unclear = True
                    self.findings.error("a * stands where it cannot be read", "write a.* with the table's alias, or name the columns")
                for name, at in columns or ():
                    made = exp.column(name)
                    yield name, Resolved(node=made, sql=at.sql, references=(at,)), made
            elif not projection.name:
                self.side.unclear = True
                text = self.source.sql[projection.piece.start : projection.piece.end]
                self.findings.error(f"the expression {text} has no name", "write AS and the name of the target column after it")
            else:
                references = self.scope.columns(node, projection.name)
                if references is not None:
                    yield projection.name, Resolved(node=node, sql="", references=tuple(references)), node

    def _rest_resolved(self) -> bool:
        known = [self.scope.columns(node) is not None for node in self._rest_nodes()]
        group = self.source.select.args.get("group")
        for node in group.expressions if group is not None else ():
            named = self._named_entry(node)
            self.group.append(named.piece.node if named is not None else node)
            known.append(self.scope.columns(self.group[-1]) is not None)
        return all(known)

    def _named_entry(self, node: exp.Expr) -> Projection | None:
        """The entry of the SELECT list that a part of GROUP BY names, by number or by alias."""
        if isinstance(node, exp.Literal) and not node.is_string:
            number = int(node.name) if node.name.isdigit() else 0
            if 1 <= number <= len(self.projections):
                return self.projections[number - 1]
            self.findings.error(f"GROUP BY names the entry {node.name}, the SELECT list has {len(self.projections)}", "name the column")
        elif isinstance(node, exp.Column) and len(node.parts) == 1 and not any(match(node.name, place.names) for place in self.scope.of(self.scope.select)):
            return next((projection for projection in self.projections if projection.name.lower() == node.name.lower()), None)
        return None

    # -- aggregates

    def _check_aggregates(self) -> None:
        base = self.source.base
        select = self.source.select
        if select.args.get("group") is None:
            for node in select.walk():
                if is_aggregate(node) and node.find_ancestor(exp.Select) is select:
                    self.findings.error(
                        f"{node.sql('duckdb')} sums up all rows of the tables, there is no GROUP BY",
                        f"add GROUP BY with the key of {base.name} ({', '.join(base_key(base))}), or write a subquery",
                    )
                    break
            else:
                if select.args.get("having"):
                    self.findings.error("HAVING stands without GROUP BY", "write WHERE")
            return
        grouped = {at.column.name for at in (self._bare(node) for node in self.group) if at is not None and at.place == 0 and at.column}
        lacking = [name for name in base_key(base) if name not in grouped]
        if lacking:
            alias = self.scope.places[0].written[0][-1]
            self.findings.error(
                f"GROUP BY lacks {', '.join(lacking)}, the key of {base.name}: one row of the target would come from several of its rows",
                f"add {', '.join(f'{alias}.{name}' for name in lacking)} to GROUP BY, or begin FROM with the table whose rows the target has",
            )

    def _bare(self, node: exp.Expr) -> Reference | None:
        while isinstance(node, exp.Paren):
            node = node.this
        return self.scope.find(node) if isinstance(node, exp.Column) else None

    def _sums(self, node: exp.Expr) -> bool:
        """Whether the expression sums up rows of the tables after FROM."""
        return any(is_aggregate(inner) and inner.find_ancestor(exp.Select) is self.source.select for inner in node.walk())

    def _float_sums(self, node: exp.Expr, column: str) -> None:
        for call in node.find_all(exp.Sum, exp.Avg):
            for at in self.scope.columns(call) or ():
                if at.column is not None and at.column.type.kind is Kind.FLOAT:
                    what = f"the sum of floating-point numbers ({at.column.name}) depends on the order of the rows in its last digits"
                    self.findings.warning(what, f"write CAST({at.column.name} AS DECIMAL(38, 10)) inside", column=column)

    # -- the text

    def _read_all(self, steps: Sequence[Step]) -> None:
        for place in self.scope.places:
            if place.table is not None:
                self.read[place.number] = set()
        nodes = [self.source.select, *self.group]
        for node in nodes:
            for column in node.find_all(exp.Column):
                if is_variable(column) or isinstance(column.this, exp.Star) or self._is_alias(column):
                    continue
                at = self.scope.find(column)
                if at is not None:
                    self._read(at)
        for projection in self.projections:
            if isinstance(projection.piece.node, exp.Column) and projection.piece.node.is_star:
                for _, at in self.scope.star(projection.piece.node) or ():
                    self._read(at)
        for step in steps:
            self.read[step.place].update(step.here)
            self.read[step.via].update(step.there)

    def _read(self, at: Reference) -> None:
        if at.column is not None:
            self.read[at.place].add(at.column.name)
        if at.end:
            self.changes[at.start, at.end] = at.sql

    def _is_alias(self, column: exp.Column) -> bool:
        group = column.find_ancestor(exp.Group)
        return group is not None and group.parent is self.source.select and self._named_entry(column) is not None

    def relations(self) -> dict[int, str]:
        """DuckDB's names of the system's tables, by place."""
        return {place.number: f"joined_{self.name.encode().hex()}_{place.number}" for place in self.scope.places if place.table is not None}

    def _exchange_text(self) -> None:
        for start, end, text in self.scope.tables(self.relations()):
            self.changes[start, end] = text
        for place in self.scope.places:
            for entry in place.inner.expressions if place.inner is not None else ():
                at = self.scope.find(entry) if isinstance(entry, exp.Column) and not entry.is_star else None
                if at is not None:
                    self.changes[at.start, at.end] = f"{at.sql} AS {quote(entry.name)}"
        tokens = self.source.tokens
        for number, token in enumerate(tokens[:-1]):
            if token.text.lower() in IN_ORDER and tokens[number + 1].token_type is TokenType.L_PAREN:
                found = ordering(tokens, number + 1)
                if found is not None and found[0] and found[0][0].token_type is not TokenType.DISTINCT:
                    # Rows that are equal in the order that was asked for must not come in just any order.
                    self.changes[found[1].start, found[1].start] = f", {self.text(found[0][0].start, found[0][-1].end + 1)}"

    def text(self, start: int, end: int) -> str:
        """A stretch of the rule with DuckDB's names in it."""
        inside = [(first, after, new) for (first, after), new in sorted(self.changes.items()) if start <= first and after <= end and first < end]
        return exchange(self.source.sql, start, end, inside)

    def _with_text(self, entry: Selected) -> Selected:
        node = entry.value.node
        piece = next((projection.piece for projection in self.projections if projection.piece.node is node), None)
        sql = entry.value.sql if piece is None else self.text(piece.start, piece.end)
        return Selected(name=entry.name, value=Resolved(node=node, sql=sql, references=entry.value.references), target=entry.target)

    def rest(self) -> str:
        """From FROM to the end, grouped by the base row too."""
        tokens = self._rest_tokens()
        grouping = [number for number, token, depth in depths(tokens) if depth == 0 and token.token_type is TokenType.GROUP_BY]
        end = tokens[-1].end + 1
        if not grouping:
            return self.text(tokens[0].start, end)
        after = [number for number, token, depth in depths(tokens) if depth == 0 and token.token_type is TokenType.HAVING]
        listed = tokens[grouping[0] + 1 : after[0] if after else len(tokens)]
        parts = ["__t0.__row", *(f"__t0.{name}" for _, name in self.columns(0))]
        for node, stretch in zip(self.source.select.args["group"].expressions, split(listed, TokenType.COMMA), strict=True):
            named = self._named_entry(node)
            piece = named.piece.tokens if named is not None else stretch
            parts.append(f"({self.text(piece[0].start, piece[-1].end + 1)})")
        head = self.text(tokens[0].start, tokens[grouping[0]].start)
        having = self.text(tokens[after[0]].start, end) if after else ""
        return f"{head} GROUP BY {', '.join(parts)} {having}"

    def columns(self, place: int) -> list[tuple[str, str]]:
        """(column, DuckDB's name) of what is read of a table."""
        table = self.scope.places[place].table
        assert table is not None
        return [(column.name, f"c{number}") for number, column in enumerate(table.columns) if column.name in self.read[place]]

    # -- values

    def _output(self, entry: Selected, binder: _Binder, key: Sequence[str]) -> tuple[Output, Selected, str] | None:
        name = entry.target.name if entry.target else entry.name
        self.side.unreadable(entry.value, name)
        self._float_sums(entry.value.node, name)
        made = binder.type_of(entry.value, name)
        fitted = self.side.fit(entry, made, self._text_bound) if made is not None else None
        if fitted is None:
            return None
        refuse_null = fitted.column.name in key or not fitted.column.nullable
        return Output(column=fitted.column, direct="", steps=fitted.steps, lineage=(), refuse_null=refuse_null), entry, fitted.type

    def _text_bound(self, value: Resolved) -> int | None:
        places = {reference.start: reference for reference in value.references}

        def column_bound(node: exp.Column) -> int | None:
            reference = places.get(node.parts[0].meta.get("start", -1))
            if reference is None:
                return None
            if reference.column is not None:
                return text_length(reference.column.type)
            lookup = self.scope.places[reference.place].lookup
            texts = lookup.rows[reference.field].to_pylist() if lookup else None
            return None if texts is None else max((len(text) for text in texts if text is not None), default=0)

        return text_bound(value.node, column_bound)

    # -- the plan

    def _rule(
        self,
        target: Table,
        key: tuple[str, ...],
        outputs: Sequence[tuple[Output, Selected, str]],
        steps: Sequence[Step],
        texts: _Texts,
        key_plan: KeyPlan,
    ) -> CompiledRule:
        origins = Origins(self.scope, steps, self.group)
        found: dict[str, Columns] = {}
        for output, entry, _ in outputs:
            columns = origins.of_output(entry.value.node, aggregates=self._sums(entry.value.node))
            columns |= {(at.place, at.column.name) for at in entry.value.references if at.column is not None and not at.end}
            found[output.column.name] = columns
        having = self.source.select.args.get("having")
        deciding = origins.of_filter(aggregates=having is not None and self._sums(having))
        return CompiledRule(
            name=self.name,
            source=self.source.base,
            target=target,
            key=key,
            columns=tuple(output.column.name for output, _, _ in outputs),
            reads=tuple(name for name, _ in self.columns(0)),
            filter_reads=self._of_base(deciding),
            lineage={name: self._of_base(columns) for name, columns in found.items()},
            plan=Plan(outputs=tuple(self._with_lineage(output, found) for output, _, _ in outputs), query=None),
            key_plan=self._key_plan(key, outputs, key_plan),
            joined=tuple(self._joined(step) for step in steps),
            origins={name: self._in_order(columns) for name, columns in found.items()},
            filter_origins=self._in_order(deciding),
            joined_query=texts.query([(entry, type_) for _, entry, type_ in outputs], steps),
        )

    def _with_lineage(self, output: Output, found: Mapping[str, Columns]) -> Output:
        lineage = self._of_base(found[output.column.name])
        return Output(column=output.column, direct="", steps=output.steps, lineage=lineage, refuse_null=output.refuse_null)

    def _joined(self, step: Step) -> JoinedTable:
        place = self.scope.places[step.place]
        assert place.table is not None
        columns = tuple(name for name, _ in self.columns(step.place))
        return JoinedTable(alias=place.alias, table=place.table, columns=columns, via=self.scope.places[step.via].alias, here=step.here, there=step.there)

    def _of_base(self, columns: Columns) -> tuple[str, ...]:
        return tuple(column.name for column in self.source.base.columns if (0, column.name) in columns)

    def _in_order(self, columns: Columns) -> tuple[tuple[str, str], ...]:
        found = []
        for place in self.scope.places:
            found += [(place.alias, column.name) for column in place.table.columns if (place.number, column.name) in columns] if place.table else []
        return tuple(found)

    def _key_plan(self, key: Sequence[str], outputs: Sequence[tuple[Output, Selected, str]], key_plan: KeyPlan) -> Plan:
        """Empty unless the key is made of the base row alone."""
        by_name = {output.column.name: entry.value for output, entry, _ in outputs}
        parts = []
        if not by_name.keys() >= set(key):  # the target makes it
            return Plan(outputs=(), query=None)
        for name in key:
            value = by_name[name]
            piece = next((projection.piece for projection in self.projections if projection.piece.node is value.node), None)
            alone = all(at.place == 0 and at.column is not None for at in value.references)
            if not alone or value.node.find(exp.Select) or self._sums(value.node):
                return Plan(outputs=(), query=None)
            text = self.source.sql[piece.start : piece.end] + "\n" if piece else quote(value.node.name)
            parts.append(f"{text} AS {quote(name)}")
        base = self.scope.places[0].node
        assert isinstance(base, exp.Table)
        identifiers = [*base.parts, *([base.args["alias"].this] if base.alias else [])]
        first, last = min(part.meta["start"] for part in identifiers), max(part.meta["end"] for part in identifiers)
        return key_plan(f"SELECT {', '.join(parts)} FROM {self.source.sql[first : last + 1]}", key)


class _Texts:
    """The SQL of a rule with joins."""

    def __init__(self, compiler: _Compiler) -> None:
        self._compiler = compiler
        self._grouped = compiler.source.select.args.get("group") is not None
        self.rest = compiler.rest()
        self.relations = compiler.relations()

    def part(self, sql: str | None) -> str:
        """A SELECT of the base row, and of one expression."""
        return f"SELECT __t0.__row AS __row{'' if sql is None else f', ({sql}) AS v'} {self.rest}"

    def query(self, outputs: Sequence[tuple[Selected, str]], steps: Sequence[Step]) -> JoinedQuery:
        values = "".join(f", ({self._value(entry)}) AS v{number}" for number, (entry, _) in enumerate(outputs))
        texts = "".join(f", {printing(type_ or 'VARCHAR', f'v{number}')} AS o{number}" for number, (_, type_) in enumerate(outputs))
        parts = [("", self.part(None))]
        parts += [(entry.target.name, self.part(entry.value.sql)) for entry, type_ in outputs if type_ and entry.target]
        return JoinedQuery(
            name=self._compiler.name,
            sql=f"SELECT __row{texts} FROM (SELECT __t0.__row AS __row{values} {self.rest})",
            parts=tuple(parts),
            relations=tuple(self._relation(number, steps) for number in [0, *(step.place for step in steps)]),
        )

    def _value(self, entry: Selected) -> str:
        """A column that stands alone is taken over as text."""
        if entry.value.bare is None:
            return entry.value.sql
        at = entry.value.references[0]
        text = f"__t{at.place}.{dict(self._compiler.columns(at.place))[entry.value.bare.name]}"
        return f"any_value({text})" if self._grouped and at.place else text

    def _relation(self, number: int, steps: Sequence[Step]) -> JoinedRelation:
        by_place = {step.place: step for step in steps}
        path: list[Step] = []
        at = number
        while at:
            path.insert(0, by_place[at])
            at = by_place[at].via
        joins = "".join(f" JOIN {self.relations[step.place]} AS __t{step.place} ON {self._equal(step)}" for step in path)
        return JoinedRelation(
            alias=self._compiler.scope.places[number].alias,
            relation=self.relations[number],
            reads=tuple(self._compiler.columns(number)),
            reach=f"SELECT DISTINCT __t0.__row, __t{number}.__row FROM {self.relations[0]} AS __t0{joins}",
        )

    def _equal(self, step: Step) -> str:
        here, there = (dict(self._compiler.columns(place)) for place in (step.place, step.via))
        pairs = zip(step.here, step.there, strict=True)
        return " AND ".join(f"__t{step.place}.{here[one]} = __t{step.via}.{there[other]}" for one, other in pairs)


class _Binder:
    """Asks DuckDB about the rule, over a base row that is all null and empty tables beside it."""

    def __init__(self, compiler: _Compiler, texts: _Texts) -> None:
        self._compiler = compiler
        self._texts = texts
        lookups = {place.lookup.name: place.lookup for place in compiler.scope.places if place.lookup is not None}
        self._connection: Any = connect(lookups)
        for number, relation in texts.relations.items():
            columns = "".join(f", {name} VARCHAR" for _, name in compiler.columns(number))
            self._connection.execute(f"CREATE TABLE {relation} (__row BIGINT{columns})")
        self._connection.execute(f"INSERT INTO {texts.relations[0]} (__row) VALUES (0)")

    def __enter__(self) -> _Binder:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def runs_from(self) -> bool:
        return self.runs(self._texts.part(None))

    def runs(self, sql: str) -> bool:
        """If not, that is told."""
        return self._describe(sql, "") is not None

    def type_of(self, value: Resolved, column: str) -> str | None:
        """DuckDB's type of an expression; None, with the finding told, when DuckDB refuses it."""
        found = self._describe(self._texts.part(value.sql), column)
        return None if found is None else str(found[1][1])

    def _describe(self, sql: str, column: str) -> list[Any] | None:
        try:
            cursor = self._connection.execute(sql)
            description: list[Any] = cursor.description
            cursor.fetchall()
        except duckdb.Error as error:
            self._tell(error, column)
            return None
        return description

    def _tell(self, error: duckdb.Error, column: str) -> None:
        findings = self._compiler.findings
        line = str(error).partition("\n")[0].partition(": ")[2]
        if not isinstance(error, (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.SyntaxException)):
            findings.error(f"DuckDB cannot compute it: {fault_kind(error)}", _FIX, column=column)
        elif "GROUP BY" in line:
            findings.error("a column stands neither in GROUP BY nor inside an aggregate", "add it to GROUP BY, or write max(...) around it", column=column)
        else:
            near = re.search(r"Did you mean \"([^\"]+)\"", str(error))
            text = _NAMELESS.sub("a column", _INTERNAL.sub(self._named, line))
            findings.error(f"DuckDB says: {text}", f"did you mean {near[1]}?" if near and not _NAMELESS.fullmatch(near[1]) else _FIX, column=column)

    def _named(self, found: re.Match[str]) -> str:
        place: Place = self._compiler.scope.places[int(found[1])]
        return f"{place.written[0][-1]}.{place.names[int(found[3])]}"
