"""A rule's SELECT becomes a checked `CompiledRule`, or the list of what is wrong with it.

The work is done next door: `statement` takes the text apart, `scope` finds the columns, `functions` looks at the calls, `binding` asks DuckDB,
`conversion` fits values into the target's types, `query` writes the SQL.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlglot import exp
from sqlglot.tokenizer_core import Token

from engine.errors import SynclineError
from engine.mapping.binding import Binder
from engine.mapping.conversion import text_length
from engine.mapping.extent import extent_of
from engine.mapping.findings import Findings
from engine.mapping.functions import check_functions
from engine.mapping.joined_compiler import JoinedSource, compile_joined
from engine.mapping.joined_scope import check_shape, is_joined
from engine.mapping.lookups import Lookup, find_lookup
from engine.mapping.query import Computed, QueryWriter, ResolvedJoin, needed_joins
from engine.mapping.rule import CompiledRule, Output, Plan
from engine.mapping.scope import Resolved, Scope
from engine.mapping.statement import Statement, named_table, parse, read_statement
from engine.mapping.target import Selected, TargetSide
from engine.mapping.text_bound import text_bound
from engine.model.schema import Table, TableName
from engine.ports import Problem

Tables = Callable[[str, str, str], Table]


def compile_rule(
    *,
    name: str,
    sql: str,
    into: TableName,
    key: Sequence[str],
    table: Tables,
    lookups: Mapping[str, Lookup],
    adapters: Mapping[str, str] | None = None,
) -> tuple[CompiledRule | None, list[Problem]]:
    """Never raises for a mistake of the user: every problem found is in the list, and the rule is None when one of them is an error.

    table: (system, schema, table) -> the live table; raises SynclineError when there is none. adapters: system -> adapter name ("postgres",
    "mysql"), by which it is known which dates and numbers a system cannot hold.
    """
    findings = Findings(name)
    tokens, select = parse(sql, findings)
    rule = _compiled(name, sql, tokens, select, into, key, table, lookups, adapters or {}, findings)
    if rule is not None and select is not None:
        rule = replace(rule, extent=extent_of(select, rule.columns))
    return rule, findings.problems


def _compiled(
    name: str,
    sql: str,
    tokens: Sequence[Token],
    select: exp.Select | None,
    into: TableName,
    key: Sequence[str],
    table: Tables,
    lookups: Mapping[str, Lookup],
    adapters: Mapping[str, str],
    findings: Findings,
) -> CompiledRule | None:
    if select is not None and is_joined(select):
        sound = check_shape(select, findings)
        target = _live(table, (into.system, into.schema, into.table), findings)
        return _joined(name, sql, tokens, select, target, key, table, lookups, adapters, findings) if sound else None
    statement = read_statement(sql, findings)
    target = _live(table, (into.system, into.schema, into.table), findings)
    source = _live(table, statement.source, findings) if statement is not None else None
    if statement is None or source is None:
        return None
    return _Compiler(name, statement, source, target, lookups, adapters, findings).compile(key)


def _joined(
    name: str,
    sql: str,
    tokens: Sequence[Token],
    select: exp.Select,
    target: Table | None,
    key: Sequence[str],
    table: Tables,
    lookups: Mapping[str, Lookup],
    adapters: Mapping[str, str],
    findings: Findings,
) -> CompiledRule | None:
    source = select.args.get("from_")
    if source is None:
        findings.error("the SELECT has no FROM", "name the table that the rule reads, as system.table")
        return None
    named = named_table(source.this, findings)
    base = _live(table, named[0], findings) if named else None
    if base is None:
        return None

    def key_plan(alone: str, columns: Sequence[str]) -> Plan:
        statement = read_statement(alone, findings)
        assert statement is not None
        return _Compiler(name, statement, base, target, lookups, adapters, findings).key_plan(columns)

    joined = JoinedSource(sql=sql, tokens=tokens, select=select, base=base, table=lambda other: _live(table, other, findings))
    return compile_joined(name, joined, target, key, lookups, adapters, key_plan, findings)


def _live(table: Tables, name: tuple[str, str, str], findings: Findings) -> Table | None:
    try:
        return table(*name)
    except SynclineError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        findings.error(what, error.fix or "correct the name of the table")
        return None


class _Compiler:
    def __init__(
        self,
        name: str,
        statement: Statement,
        source: Table,
        target: Table | None,
        lookups: Mapping[str, Lookup],
        adapters: Mapping[str, str],
        findings: Findings,
    ) -> None:
        self._name = name
        self._statement = statement
        self._source = source
        self._side = TargetSide(
            target=target, source=source.name.system, adapters=adapters, sql=statement.sql, projections=statement.projections, findings=findings
        )
        self._findings = findings
        self._joined = [find_lookup(join.lookup, lookups, findings) for join in statement.joins]
        self._scope = Scope(statement, source, self._joined, findings)

    def compile(self, key: Sequence[str]) -> CompiledRule | None:
        joins = self._joins()
        where = self._where()
        selected = self._side.selected(self._entries())
        key = self._side.key(key, selected)
        self._side.supplied(selected)
        if None in self._joined or len(joins) < len(self._joined):
            return None
        used = {lookup.name: lookup for lookup in self._joined if lookup is not None}
        with Binder(self._source, used, joins, self._findings) as binder:
            return self._bound(binder, where, selected, key)

    def key_plan(self, key: Sequence[str]) -> Plan:
        """Of a rule that is nothing but a key, and known to be sound."""
        with Binder(self._source, {}, {}, self._findings) as binder:
            outputs = [self._output(entry, {}, binder, True) for entry in self._side.selected(self._entries())]
        by_name = {pair[0].column.name: pair for pair in outputs if pair is not None}
        return self._plan([by_name[name] for name in key], {}, None, filters=False)

    def _bound(
        self, binder: Binder, where: Resolved | None, selected: Sequence[Selected], key: Sequence[str]
    ) -> CompiledRule | None:
        """The rest of the work, now that every name is known: types, and whether DuckDB can run it."""
        bound = binder.joins()
        if bound is None:
            return None
        if where is not None:
            binder.check_condition(where)
        outputs: list[tuple[Output, Computed | None]] = []
        for entry in selected:
            output = self._output(entry, bound, binder, entry.target is not None and entry.target.name in key)
            if output is not None:
                outputs.append(output)
        if self._side.target is None or self._findings.failed:
            return None
        rule = self._rule(self._side.target, tuple(key), outputs, bound, where)
        return rule if rule.plan.query is None or binder.runs(rule.plan.query) else None

    # -- names

    def _joins(self) -> dict[int, ResolvedJoin]:
        found = {}
        for number, join in enumerate(self._statement.joins):
            pairs = []
            for left_piece, right_piece in join.equalities:
                for piece in (left_piece, right_piece):
                    check_functions(piece, self._findings)
                left, right = self._scope.resolve(left_piece), self._scope.resolve(right_piece)
                if left is None or right is None:
                    continue
                self._side.unreadable(left, "")
                if left.joins == {number} and not left.columns:
                    left, right = right, left
                if right.joins != {number} or right.columns or any(other >= number for other in left.joins):
                    self._findings.error(
                        f"lookup {join.lookup}: a condition does not compare a column of the lookup with the row",
                        f"write {join.alias}.column = a.column",
                    )
                    continue
                pairs.append((left, right))
            lookup = self._joined[number]
            if lookup is not None and len(pairs) == len(join.equalities):
                found[number] = ResolvedJoin(lookup=lookup.name, inner=join.inner, equalities=tuple(pairs))
        return found

    def _where(self) -> Resolved | None:
        if self._statement.where is None:
            return None
        sound = check_functions(self._statement.where, self._findings)
        where = self._scope.resolve(self._statement.where)
        if where is not None:
            self._side.unreadable(where, "")
        return where if sound else None

    def _entries(self) -> Iterable[tuple[str, Resolved]]:
        for projection in self._statement.projections:
            node = projection.piece.node
            if isinstance(node, exp.Star):
                self._side.unclear = True
                self._findings.error("SELECT * is not possible in a rule", "name the columns, or write a.* with the table's alias")
            elif isinstance(node, exp.Column) and node.is_star:
                columns = self._scope.star(node) if not any(node.this.args.values()) else None
                if columns is None:
                    self._side.unclear = True
                    self._findings.error("a * stands where it cannot be read", "write a.* with the table's alias, or name the columns")
                yield from columns or ()
            else:
                if not projection.name:
                    self._side.unclear = True
                    text = self._statement.sql[projection.piece.start : projection.piece.end]
                    self._findings.error(f"the expression {text} has no name", "write AS and the name of the target column after it")
                    continue
                sound = check_functions(projection.piece, self._findings, projection.name)
                value = self._scope.resolve(projection.piece, projection.name)
                if value is not None and sound:
                    yield projection.name, value

    # -- values

    def _output(
        self, entry: Selected, joins: Mapping[int, ResolvedJoin], binder: Binder, is_key: bool
    ) -> tuple[Output, Computed | None] | None:
        name = entry.target.name if entry.target else entry.name
        bare = entry.value.bare
        self._side.unreadable(entry.value, name)
        fitted = self._side.fit(entry, None if bare else binder.type_of(entry.value, name), self._text_bound)
        if fitted is None:
            return None
        lineage = self._in_order(set(entry.value.columns) | _join_columns(entry.value.joins, joins))
        output = Output(
            column=fitted.column,
            direct=bare.name if bare else "",
            steps=fitted.steps,
            lineage=lineage,
            refuse_null=is_key or not fitted.column.nullable,
        )
        return output, None if bare else Computed(column=fitted.column.name, value=entry.value, type=fitted.type)

    def _text_bound(self, value: Resolved) -> int | None:
        places = {reference.start: reference for reference in value.references}

        def column_bound(node: exp.Column) -> int | None:
            reference = places.get(node.parts[0].meta.get("start", -1)) or (value.references[0] if len(value.references) == 1 else None)
            if reference is None:
                return None
            if reference.column is not None:
                return text_length(reference.column.type)
            lookup = self._joined[reference.join]
            texts = lookup.rows[reference.field].to_pylist() if lookup else []
            return max((len(text) for text in texts if text is not None), default=0)

        return text_bound(value.node, column_bound)

    # -- the plan

    def _rule(
        self,
        target: Table,
        key: tuple[str, ...],
        outputs: Sequence[tuple[Output, Computed | None]],
        joins: Mapping[int, ResolvedJoin],
        where: Resolved | None,
    ) -> CompiledRule:
        lineage = {output.column.name: output.lineage for output, _ in outputs}
        inner = {number for number, join in joins.items() if join.inner}
        deciding = set(where.columns if where else ()) | _join_columns(inner | set(where.joins if where else ()), joins)
        joined = set().union(*(join.columns for join in joins.values()))
        return CompiledRule(
            name=self._name,
            source=self._source,
            target=target,
            key=key,
            columns=tuple(output.column.name for output, _ in outputs),
            reads=self._in_order(deciding.union(joined, *lineage.values())),
            filter_reads=self._in_order(deciding),
            lineage=lineage,
            plan=self._plan(outputs, joins, where, filters=True),
            key_plan=self._plan([pair for name in key for pair in outputs if pair[0].column.name == name], joins, None, filters=False),
        )

    def _plan(
        self, outputs: Sequence[tuple[Output, Computed | None]], joins: Mapping[int, ResolvedJoin], where: Resolved | None, *, filters: bool
    ) -> Plan:
        computed = [part for _, part in outputs if part is not None]
        start = set(where.joins if where else ()).union(*(part.value.joins for part in computed))
        if filters:
            start |= {number for number, join in joins.items() if join.inner or join.many}
        needed = {number: joins[number] for number in needed_joins(start, joins)}
        query = None
        if computed or where is not None or needed:
            relation = f"batch_{self._name.encode().hex()}_{'rows' if filters else 'keys'}"
            query = QueryWriter(
                source=self._source, joins=needed, outputs=computed, where=where, filters=filters, relation=relation
            ).write()
        return Plan(outputs=tuple(output for output, _ in outputs), query=query)

    def _in_order(self, columns: Iterable[str]) -> tuple[str, ...]:
        wanted = set(columns)
        return tuple(column.name for column in self._source.columns if column.name in wanted)


def _join_columns(start: Iterable[int], joins: Mapping[int, ResolvedJoin]) -> set[str]:
    return set().union(*(joins[number].columns for number in needed_joins(start, joins) if number in joins))

