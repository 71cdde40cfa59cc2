"""The tables of a rule with joins, subqueries included, and which of them each name in its text means.

As in rules over one table, names are looked up exactly first and without regard to case second, and have plain names of ours inside DuckDB:
`__t3.c5` is the text of the sixth column of the table at place 3, `__t4.l0` the first column of a lookup.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from engine.mapping.duck import lookup_relation, quote
from engine.mapping.duck_type import duckdb_type, strict_reading
from engine.mapping.findings import Findings, nearest
from engine.mapping.lookups import Lookup, find_lookup
from engine.mapping.scope import Reference, is_variable, match
from engine.mapping.statement import is_bare, named_table, qualifiers_of
from engine.model.schema import Table

_CLAUSES = {
    "with_": ("WITH", "write the query as a table: JOIN (SELECT ...) AS q ON q.column = a.column"),
    "distinct": ("DISTINCT", "write GROUP BY, or EXISTS in place of a join"),
    "qualify": ("QUALIFY", "compare with an aggregate in a subquery"),
    "order": ("ORDER BY", "leave it out: each row of the target is written by itself"),
    "limit": ("LIMIT", "write max(...), min(...) or first(... ORDER BY ...) over the rows"),
    "offset": ("OFFSET", "write max(...), min(...) or first(... ORDER BY ...) over the rows"),
    "sample": ("USING SAMPLE", "leave it out"),
    "windows": ("WINDOW", "compare with an aggregate in a subquery"),
    "pivots": ("PIVOT", "write max(CASE WHEN ... THEN ... END) for each column"),
}
_PLAIN = {"expressions", "from_", "joins", "where", "group", "having"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """One entry of a FROM. number: in the order of the text, 0 is the base. alias: as people know it, unique. written: what may stand before its columns
    in the rule, lower case. One of these is given: table of a system, lookup, inner (a subquery). on: its join condition. inner_join: rows without
    a partner are left out."""

    number: int
    alias: str
    written: tuple[tuple[str, ...], ...]
    select: exp.Select
    node: exp.Expr
    on: exp.Expr | None
    inner_join: bool
    table: Table | None = None
    lookup: Lookup | None = None
    inner: exp.Select | None = None

    @property
    def names(self) -> list[str]:
        """Its columns."""
        if self.table is not None:
            return [column.name for column in self.table.columns]
        if self.lookup is not None:
            return list(self.lookup.columns)
        assert self.inner is not None
        return [entry.alias_or_name for entry in self.inner.expressions if entry.alias_or_name]

    def output(self, name: str) -> exp.Expr | None:
        """What a subquery selects under this name."""
        for entry in self.inner.expressions if self.inner is not None else ():
            if entry.alias_or_name.lower() == name.lower():
                found: exp.Expr = entry.this if isinstance(entry, exp.Alias) else entry
                return found
        return None


class JoinedScope:
    """Reads the FROM of every SELECT at once; what is wrong there is told. table: (system, schema, table) -> the live table, or tells and gives None."""

    def __init__(
        self,
        select: exp.Select,
        base: Table,
        table: Callable[[tuple[str, str, str]], Table | None],
        lookups: Mapping[str, Lookup],
        findings: Findings,
    ) -> None:
        self.select = select
        self.selects: list[exp.Select] = []
        self.places: list[Place] = []
        self._base = base
        self._table = table
        self._lookups = lookups
        self._findings = findings
        self._found: dict[int, Reference | None] = {}
        for inner in [select, *select.find_all(exp.Select, bfs=False)]:
            if all(inner is not known for known in self.selects):
                self.selects.append(inner)
                self._read(inner)

    # -- tables

    def of(self, select: exp.Select) -> list[Place]:
        """The entries of its FROM."""
        return [place for place in self.places if place.select is select]

    def _read(self, select: exp.Select) -> None:
        source = select.args.get("from_")
        if source is not None:
            self._place(select, source.this, None)
        for join in select.args.get("joins") or []:
            if _sound_join(join, self._findings):
                self._place(select, join.this, join)

    def _place(self, select: exp.Select, node: exp.Expr, join: exp.Join | None) -> None:
        table: Table | None = None
        lookup: Lookup | None = None
        inner: exp.Select | None = None
        written: tuple[tuple[str, ...], ...]
        parts = [part.name for part in node.parts] if isinstance(node, exp.Table) else []
        if isinstance(node, exp.Subquery):
            name, written = node.alias, ((node.alias,),)
            if isinstance(node.this, exp.Select) and node.alias and not node.args["alias"].args.get("columns"):
                inner = node.this
            else:
                self._findings.error("a subquery in FROM has no alias, or is no plain SELECT", "write (SELECT ...) AS q")
        elif len(parts) == 2 and parts[0].lower() == "lookups" and isinstance(node, exp.Table) and is_bare(node):
            name = node.alias or parts[1]
            written = ((name,),) if node.alias else ((name,), ("lookups", name))
            lookup = find_lookup(parts[1], self._lookups, self._findings)
        else:
            named = named_table(node, self._findings)
            if named is None:
                return
            name = named[1] or named[0][2]
            written = ((name,),) if named[1] else qualifiers_of(named[0])
            table = self._live(named[0])
        if table is None and lookup is None and inner is None:
            return
        self.places.append(
            Place(
                number=len(self.places),
                alias=self._unique(name) if self.places else "",
                written=tuple(tuple(part.lower() for part in names) for names in written),
                select=select,
                node=node,
                on=join.args.get("on") if join else None,
                inner_join=join is not None and join.side.upper() != "LEFT",
                table=table,
                lookup=lookup,
                inner=inner,
            )
        )

    def _live(self, name: tuple[str, str, str]) -> Table | None:
        if not self.places:
            return self._base
        table = self._table(name)
        if table is not None and table.name.system != self._base.name.system:
            what = f"the rule reads {self._base.name} and {table.name}, tables of two systems"
            self._findings.error(what, "read the tables of one system in a rule, and write one rule for each system")
            return None
        return table

    def _unique(self, name: str) -> str:
        taken = {place.alias.lower() for place in self.places}
        number, alias = 1, name
        while alias.lower() in taken:
            number, alias = number + 1, f"{name}_{number + 1}"
        return alias

    # -- columns

    def find(self, node: exp.Column, column: str = "") -> Reference | None:
        """None, with the findings told, when the name is unknown or ambiguous. column: where to say so."""
        if not all("start" in part.meta for part in node.parts):
            self._findings.error(f"{node.sql('duckdb')} cannot be read as a column", "write alias.column", column=column)
            return None
        start = min(part.meta["start"] for part in node.parts)
        if start not in self._found:
            self._found[start] = self._find(node, start, max(part.meta["end"] for part in node.parts) + 1, column)
        return self._found[start]

    def _find(self, node: exp.Column, start: int, end: int, column: str) -> Reference | None:
        *qualifier, name = [part.name for part in node.parts]
        wanted = tuple(part.lower() for part in qualifier)
        if isinstance(node.this, exp.Star):
            self._findings.error("a * stands where it cannot be read", "name the columns", column=column)
            return None
        seen: list[Place] = []
        for select in _around(node):
            candidates = [place for place in self.of(select) if not wanted or wanted in place.written]
            seen += candidates
            found = [(place, exact) for place in candidates if (exact := match(name, place.names)) is not None]
            if len(found) == 1:
                return _reference(*found[0], start, end)
            if len(found) > 1:
                self._findings.error(f"the column {name} is in several tables of the rule", f"write which one, as in a.{name}", column=column)
                return None
            if wanted and candidates:
                break
        if seen:
            self._unknown(name, seen, bool(wanted), column)
        else:
            known = [parts[-1] for place in self.places for parts in place.written]
            written = ".".join(qualifier)
            self._findings.error(f"{written}.{name}: no table of this rule is called {written}", nearest(written, known), column=column)
        return None

    def _unknown(self, name: str, places: Sequence[Place], qualified: bool, column: str) -> None:
        aliases = [entry.alias for entry in self.select.expressions if entry.alias]
        if not qualified and name.lower() != column.lower() and match(name, aliases) is not None:
            what = f"{name} is a name that this SELECT gives, not a column"
            self._findings.error(what, "repeat the expression in its place", column=column)
            return
        titles = [str(place.table.name) if place.table else f"lookups.{place.lookup.name}" if place.lookup else place.alias for place in places]
        hint = nearest(name, [other for place in places for other in place.names])
        self._findings.error(f"{' and '.join(dict.fromkeys(titles))} has no column {name}", hint, column=column)

    def columns(self, node: exp.Expr, column: str = "") -> list[Reference] | None:
        """The references in a piece of the rule, in the order of the text; None, with the findings told, when one is not known."""
        found: dict[int, Reference] = {}
        failed = False
        for name in node.find_all(exp.Column):
            if is_variable(name):
                continue
            reference = self.find(name, column)
            if reference is None:
                failed = True
            else:
                found[reference.start] = reference
        return None if failed else [found[start] for start in sorted(found)]

    def star(self, node: exp.Column) -> list[tuple[str, Reference]] | None:
        """The columns of `a.*` with their names; None when `a` is not known."""
        wanted = tuple(part.name.lower() for part in node.parts[:-1])
        for place in self.of(self.select):
            if wanted in place.written:
                return [(name, _reference(place, name, 0, 0)) for name in place.names]
        return None

    # -- the text for DuckDB

    def tables(self, relation: Mapping[int, str]) -> Iterator[tuple[int, int, str]]:
        """What to exchange in the text for the tables. relation: DuckDB's names of the system's tables, by place."""
        for place in self.places:
            if place.inner is None and isinstance(place.node, exp.Table):
                identifiers = [*place.node.parts, *([place.node.args["alias"].this] if place.node.alias else [])]
                start, end = (edge(part.meta[at] for part in identifiers) for edge, at in ((min, "start"), (max, "end")))
                name = lookup_relation(place.lookup.name) if place.lookup else relation[place.number]
                yield start, end + 1, f"{name} AS __t{place.number}"


def _reference(place: Place, name: str, start: int, end: int) -> Reference:
    if place.table is not None:
        column = place.table.column(name)
        text = f"__t{place.number}.c{[other.name for other in place.table.columns].index(name)}"
        sql = text if duckdb_type(column.type) == "VARCHAR" else f"({strict_reading(column.type, text)})"
        return Reference(start=start, end=end, sql=sql, column=column, place=place.number)
    if place.lookup is not None:
        sql = f"__t{place.number}.l{place.lookup.columns.index(name)}"
    else:
        sql = f"{quote(place.node.alias)}.{quote(name)}"
    return Reference(start=start, end=end, sql=sql, field=name, place=place.number)


def _around(node: exp.Expr) -> Iterator[exp.Select]:
    """The SELECTs a name stands in, the innermost first."""
    select = node.find_ancestor(exp.Select)
    while select is not None:
        yield select
        select = select.find_ancestor(exp.Select)


def _sound_join(join: exp.Join, findings: Findings) -> bool:
    side, kind = join.side.upper(), join.kind.upper()
    name = join.alias_or_name
    if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER", "CROSS") or join.method:
        written = " ".join(filter(None, [join.method, side, kind, "JOIN"]))
        findings.error(f"{written} {name} is not possible in a rule: every row of the target comes from a row of the table after FROM", "use LEFT JOIN or JOIN")
    elif join.args.get("using"):
        findings.error(f"{name} is joined with USING", f"write ON, as in ON {name}.column = a.column")
    elif not join.args.get("on") and (side or kind in ("INNER", "OUTER")):
        findings.error(f"{name} is joined without a condition", f"write ON, as in ON {name}.column = a.column")
    else:
        return True
    return False


def check_shape(select: exp.Select, findings: Findings) -> bool:
    """Tells of what cannot be maintained from keys, in the SELECT and in its subqueries."""
    for inner in select.find_all(exp.Select):
        for argument, value in inner.args.items():
            if not value or argument in _PLAIN or argument == "kind":
                continue
            clause, fix = _CLAUSES.get(argument, (argument.strip("_").replace("_", " ").upper(), "leave it out"))
            findings.error(f"{clause} is not possible in a rule", fix)
        group = inner.args.get("group")
        if group is not None and (
            any(value for argument, value in group.args.items() if argument != "expressions") or group.find(exp.Rollup, exp.Cube, exp.GroupingSets)
        ):
            findings.error("GROUP BY takes single columns or expressions in a rule", "name each of them; ALL, ROLLUP, CUBE and GROUPING SETS are not possible")
    if select.find(exp.SetOperation):
        findings.error("set operations (UNION, INTERSECT, EXCEPT) are not possible in a rule", "write one rule for each SELECT")
    if select.find(exp.Window):
        findings.error("window functions are not possible in a rule: one changed row may move all others", "compare with an aggregate in a subquery")
    if select.find(exp.Lateral):
        findings.error("LATERAL is not possible in a rule", "write a subquery in the SELECT list, or JOIN (SELECT ...) AS q ON q.column = a.column")
    if select.find(exp.Unnest, exp.Explode):
        findings.error("unnest is not possible in a rule", "read a table that has one row for each element")
    if select.find(exp.Placeholder, exp.Parameter):
        findings.error("parameters (?, $1) are not possible in a rule", "write the value itself")
    if any(node.this is not None and isinstance(node.this, exp.Query | exp.Subquery) for node in select.find_all(exp.Any, exp.All)):
        findings.error("ANY and ALL over a subquery are not possible in a rule", "write EXISTS (SELECT 1 FROM ... WHERE t.column = a.column)")
    return not findings.failed


def is_joined(select: exp.Select) -> bool:
    """Whether the rule reads more than one table of a system, anywhere in its text."""
    tables = [table for table in select.find_all(exp.Table) if len(table.parts) > 1 and table.parts[0].name.lower() != "lookups"]
    return len(tables) > 1
