"""A rule's SELECT becomes a checked `CompiledRule`, or the list of what is wrong with it.

The work is done next door: `statement` takes the text apart, `scope` finds the columns, `functions` looks at the calls, `binding` asks DuckDB,
`conversion` fits values into the target's types, `query` writes the SQL.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from engine.errors import SynclineError
from engine.mapping.binding import Binder
from engine.mapping.conversion import DUCKDB, Conversion, Impossible, conversion, text_length
from engine.mapping.duck_type import engine_type, fits_decimal
from engine.mapping.findings import Findings, nearest
from engine.mapping.functions import check_functions
from engine.mapping.lookups import Lookup
from engine.mapping.query import Computed, QueryWriter, ResolvedJoin, needed_joins
from engine.mapping.rule import CompiledRule, Output, Plan
from engine.mapping.scope import Resolved, Scope
from engine.mapping.statement import Statement, read_statement
from engine.mapping.text_bound import text_bound
from engine.model.schema import Column, Table, TableName
from engine.model.types import Kind
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
    statement = read_statement(sql, name, findings)
    target = _live(table, (into.system, into.schema, into.table), findings)
    if statement is None:
        return None, findings.problems
    source = _live(table, statement.source, findings)
    if source is None:
        return None, findings.problems
    compiler = _Compiler(name, statement, source, target, lookups, adapters or {}, findings)
    return compiler.compile(key), findings.problems


def _live(table: Tables, name: tuple[str, str, str], findings: Findings) -> Table | None:
    try:
        return table(*name)
    except SynclineError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        findings.error(what, error.fix or "correct the name of the table")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    """One entry of the SELECT list whose names are known. target: None when there is no such column."""

    name: str
    value: Resolved
    target: Column | None


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
        self._target = target
        self._lookups = lookups
        self._adapters = adapters
        self._findings = findings
        self._joined = [self._lookup(join.lookup) for join in statement.joins]
        self._unclear = False
        """Which target columns the SELECT names is not known."""
        self._scope = Scope(statement, source, self._joined, findings)

    def compile(self, key: Sequence[str]) -> CompiledRule | None:
        joins = self._joins()
        where = self._where()
        selected = self._selected()
        key = self._key(key, selected)
        self._supplied(selected)
        if None in self._joined or len(joins) < len(self._joined):
            return None
        used = {lookup.name: lookup for lookup in self._joined if lookup is not None}
        with Binder(self._source, used, joins, self._findings) as binder:
            return self._bound(binder, where, selected, key)

    def _bound(
        self, binder: Binder, where: Resolved | None, selected: Sequence[_Selected], key: Sequence[str]
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
        if self._target is None or self._findings.failed:
            return None
        rule = self._rule(self._target, tuple(key), outputs, bound, where)
        return rule if rule.plan.query is None or binder.runs(rule.plan.query) else None

    # -- names

    def _lookup(self, name: str) -> Lookup | None:
        folded = {other.lower(): lookup for other, lookup in self._lookups.items()}
        found = self._lookups.get(name) or folded.get(name.lower())
        if found is None:
            hint = nearest(name, self._lookups) if self._lookups else f"add [lookups.{name}] to the configuration"
            self._findings.error(f"there is no lookup {name}", hint)
        return found

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
                self._unreadable(left, "")
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
            self._unreadable(where, "")
        return where if sound else None

    def _selected(self) -> list[_Selected]:
        found: list[_Selected] = []
        for name, value in self._entries():
            target = self._target_column(name)
            if target is not None and any(target == other.target for other in found):
                self._findings.error("the target column is written twice", "leave one of the two entries", column=target.name)
                continue
            found.append(_Selected(name=name, value=value, target=target))
        return found

    def _entries(self) -> Iterable[tuple[str, Resolved]]:
        for projection in self._statement.projections:
            node = projection.piece.node
            if isinstance(node, exp.Star):
                self._unclear = True
                self._findings.error("SELECT * is not possible in a rule", "name the columns, or write a.* with the table's alias")
            elif isinstance(node, exp.Column) and node.is_star:
                columns = self._scope.star(node) if not any(node.this.args.values()) else None
                if columns is None:
                    self._unclear = True
                    self._findings.error("a * stands where it cannot be read", "write a.* with the table's alias, or name the columns")
                yield from columns or ()
            else:
                if not projection.name:
                    self._unclear = True
                    text = self._statement.sql[projection.piece.start : projection.piece.end]
                    self._findings.error(f"the expression {text} has no name", "write AS and the name of the target column after it")
                    continue
                sound = check_functions(projection.piece, self._findings, projection.name)
                value = self._scope.resolve(projection.piece, projection.name)
                if value is not None and sound:
                    yield projection.name, value

    # -- the target

    def _target_column(self, name: str) -> Column | None:
        if self._target is None:
            return None
        found = _named(self._target, name)
        if found is None:
            hint = nearest(name, [column.name for column in self._target.columns])
            self._findings.error(f"{self._target.name} has no column {name}", hint, column=name)
        elif found.generated:
            self._findings.error(f"{self._target.name} computes this column by itself", "leave it out of the SELECT", column=found.name)
        return found

    def _key(self, key: Sequence[str], selected: Sequence[_Selected]) -> list[str]:
        if not key:
            self._findings.error("the rule has no key", "name the target columns that identify a row, as in key = [\"id\"]")
        if self._target is None:
            return list(key)
        names = []
        written = {entry.target.name for entry in selected if entry.target}
        for name in key:
            column = _named(self._target, name)
            if column is None:
                hint = nearest(name, [other.name for other in self._target.columns])
                self._findings.error(f"the key names {name}, which {self._target.name} does not have", hint)
            elif column.name in names:
                self._findings.error(f"the key names {name} twice", "leave it once")
            else:
                names.append(column.name)
                if column.name not in written and not self._tried(column.name):
                    self._findings.error(
                        f"the key column {column.name} is not in the SELECT", f"add an expression AS {column.name}", column=column.name
                    )
        return names

    def _tried(self, name: str) -> bool:
        """The SELECT has, or may have, an entry for the column, though with a mistake that has been told."""
        return self._unclear or any(projection.name.lower() == name.lower() for projection in self._statement.projections)

    def _supplied(self, selected: Sequence[_Selected]) -> None:
        written = {entry.target.name for entry in selected if entry.target}
        for column in self._target.columns if self._target else ():
            if column.nullable or column.default or column.generated or column.name in written or self._tried(column.name):
                continue
            self._findings.error(
                "the target column is NOT NULL and has no default, but the rule does not write it",
                f"add an expression AS {column.name}, or give the column a default",
                column=column.name,
            )

    # -- values

    def _output(
        self, entry: _Selected, joins: Mapping[int, ResolvedJoin], binder: Binder, is_key: bool
    ) -> tuple[Output, Computed | None] | None:
        target = entry.target
        name = target.name if target else entry.name
        bare = entry.value.bare
        self._unreadable(entry.value, name)
        if bare is not None:
            have, maker, duckdb_type = bare.type, self._adapters.get(self._source.name.system, ""), ""
        else:
            duckdb_type = binder.type_of(entry.value, name) or ""
            made = engine_type(duckdb_type)
            if not duckdb_type:
                return None
            if duckdb_type == '"NULL"' and target is not None:
                made, duckdb_type = target.type, "VARCHAR"
            if made is None:
                what = f"the expression gives {duckdb_type}, which has no counterpart in a database"
                self._findings.error(what, "cast it, as in CAST(... AS VARCHAR)", column=name)
                return None
            bound = self._text_bound(entry.value) if made.kind is Kind.TEXT else None
            have, maker = replace(made, length=bound) if bound is not None else made, DUCKDB
        if target is None:
            return None
        fitted = conversion(have, target.type, source=maker, target=self._adapters.get(self._target_system(), ""))
        if isinstance(fitted, Impossible):
            self._findings.error(fitted.what, fitted.fix.format(self._text(entry.value)), column=name)
            return None
        self._warn(fitted, name)
        lineage = self._in_order(set(entry.value.columns) | _join_columns(entry.value.joins, joins))
        output = Output(
            column=target, direct=bare.name if bare else "", steps=fitted.steps, lineage=lineage, refuse_null=is_key or not target.nullable
        )
        return output, None if bare else Computed(column=target.name, value=entry.value, type=duckdb_type)

    def _target_system(self) -> str:
        return self._target.name.system if self._target else ""

    def _warn(self, fitted: Conversion, column: str) -> None:
        if fitted.warning:
            self._findings.warning(fitted.warning, "widen the target column, or make the value fit in the rule", column=column)

    def _unreadable(self, value: Resolved, column: str) -> None:
        """Numbers beyond DuckDB's widest decimal are text inside an expression, unless it casts them."""
        cast = {node.parts[0].meta.get("start") for node in value.node.find_all(exp.Column) if isinstance(node.parent, exp.Cast)}
        for reference in value.references if value.bare is None else ():
            source = reference.column
            if source is None or reference.start in cast:
                continue
            if source.type.kind is Kind.DECIMAL and not fits_decimal(source.type):
                self._findings.warning(
                    f"{source.name} ({source.type.name}) has no bound that DuckDB's numbers hold, so the expression sees its text",
                    f"write CAST({source.name} AS DECIMAL(38, 10)) with the digits you need, or DOUBLE",
                    column=column,
                )

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

    def _text(self, value: Resolved) -> str:
        """The user's own text of an expression."""
        for projection in self._statement.projections:
            if projection.piece.node is value.node:
                return self._statement.sql[projection.piece.start : projection.piece.end]
        return value.node.sql("duckdb")

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


def _named(table: Table, name: str) -> Column | None:
    """Exactly, else the only one that differs in case alone."""
    if table.has(name):
        return table.column(name)
    found = [column for column in table.columns if column.name.lower() == name.lower()]
    return found[0] if len(found) == 1 else None
