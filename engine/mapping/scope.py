"""What the names in a rule stand for: columns of the source table or of joined lookups.

Names are looked up exactly first and without regard to case second, as people write them; inside DuckDB every column has a plain name of
ours, so odd or mixed-case names never meet DuckDB's own rules.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from engine.mapping.duck_type import duckdb_type
from engine.mapping.findings import Findings, nearest
from engine.mapping.lookups import Lookup
from engine.mapping.statement import Joined, Piece, Statement
from engine.model.schema import Column, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One name in the text. sql: the name in DuckDB. column: the source column, else `join` is the number of the joined lookup and `field` its
    column. place: number of the table in a rule with joins, see `joined_scope`."""

    start: int
    end: int
    sql: str
    column: Column | None = None
    join: int = -1
    field: str = ""
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A piece with its names known. sql: its own text with DuckDB's names in it."""

    node: exp.Expr
    sql: str
    references: tuple[Reference, ...]

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(reference.column.name for reference in self.references if reference.column)

    @property
    def joins(self) -> frozenset[int]:
        return frozenset(reference.join for reference in self.references if reference.column is None)

    @property
    def bare(self) -> Column | None:
        """The source column, when the piece is nothing else."""
        node = self.node
        while isinstance(node, exp.Paren):
            node = node.this
        return self.references[0].column if isinstance(node, exp.Column) and len(self.references) == 1 else None


class Scope:
    """Finds columns by name. `lookups` belong to the statement's joins, in order; None where the lookup is not known."""

    def __init__(self, statement: Statement, source: Table, lookups: Sequence[Lookup | None], findings: Findings) -> None:
        self._statement = statement
        self._source = source
        self._lookups = lookups
        self._findings = findings
        self._aliases = [projection.name for projection in statement.projections if projection.name]

    def resolve(self, piece: Piece, column: str = "") -> Resolved | None:
        """None, with the findings told, when a name is unknown or ambiguous. column: where to say so."""
        found: dict[int, Reference] = {}
        failed = False
        for node in piece.node.find_all(exp.Column):
            if is_variable(node):
                continue
            reference = self._find(node, column)
            if reference is None:
                failed = True
            else:
                found[reference.start] = reference
        if failed:
            return None
        references = tuple(found[start] for start in sorted(found))
        text = exchange(self._statement.sql, piece.start, piece.end, ((at.start, at.end, at.sql) for at in references))
        return Resolved(node=piece.node, sql=text, references=references)

    def star(self, node: exp.Expr) -> list[tuple[str, Resolved]] | None:
        """The columns of `a.*` with their names; None when `a` is not known."""
        qualifier = tuple(part.name for part in node.parts[:-1]) if isinstance(node, exp.Column) else ()
        for number in self._candidates(qualifier):
            if number < 0:
                places = ((column.name, self._source_reference(column, 0, 0)) for column in self._source.columns)
            else:
                lookup = self._lookups[number]
                places = ((name, self._lookup_reference(number, name, 0, 0)) for name in (lookup.columns if lookup else ()))
            return [(name, Resolved(node=exp.column(name), sql=at.sql, references=(at,))) for name, at in places]
        return None

    def _find(self, node: exp.Column, column: str) -> Reference | None:
        *qualifier, name = [part.name for part in node.parts]
        if not all("start" in part.meta for part in node.parts):
            self._findings.error(f"{node.sql('duckdb')} cannot be read as a column", "write alias.column", column=column)
            return None
        start, end = min(part.meta["start"] for part in node.parts), max(part.meta["end"] for part in node.parts) + 1
        candidates = self._candidates(tuple(qualifier))
        if not candidates:
            written = ".".join(qualifier)
            known = [self._statement.qualifiers[0][-1], *(join.alias for join in self._statement.joins)]
            self._findings.error(f"{written}.{name}: no table of this rule is called {written}", nearest(written, known), column=column)
            return None
        found = [reference for number in candidates if (reference := self._reference(number, name, start, end)) is not None]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            self._findings.error(f"the column {name} is in several tables of the rule", f"write which one, as in a.{name}", column=column)
        elif not any(number >= 0 and self._lookups[number] is None for number in candidates):
            self._unknown(name, candidates, bool(qualifier), column)
        return None

    def _unknown(self, name: str, candidates: Sequence[int], qualified: bool, column: str) -> None:
        if not qualified and name.lower() != column.lower() and match(name, self._aliases) is not None:
            what = f"{name} is a name that this SELECT gives, not a column"
            self._findings.error(what, "repeat the expression in its place", column=column)
            return
        names: list[str] = []
        places: list[str] = []
        for number in candidates:
            lookup = self._lookups[number] if number >= 0 else None
            names += lookup.columns if lookup else [source.name for source in self._source.columns]
            places.append(f"lookups.{self._statement.joins[number].lookup}" if number >= 0 else str(self._source.name))
        self._findings.error(f"{' and '.join(places)} has no column {name}", nearest(name, names), column=column)

    def _candidates(self, qualifier: tuple[str, ...]) -> list[int]:
        """Number of each join that the qualifier may mean, -1 for the source table."""
        if not qualifier:
            return list(range(-1, len(self._statement.joins)))
        folded = tuple(part.lower() for part in qualifier)
        found = [-1] if any(folded == tuple(part.lower() for part in names) for names in self._statement.qualifiers) else []
        return found + [number for number, join in enumerate(self._statement.joins) if folded in _join_names(join)]

    def _reference(self, number: int, name: str, start: int, end: int) -> Reference | None:
        if number < 0:
            source = match(name, [column.name for column in self._source.columns])
            return None if source is None else self._source_reference(self._source.column(source), start, end)
        lookup = self._lookups[number]
        field = match(name, lookup.columns) if lookup else None
        return None if field is None else self._lookup_reference(number, field, start, end)

    def _source_reference(self, column: Column, start: int, end: int) -> Reference:
        number = [other.name for other in self._source.columns].index(column.name)
        return Reference(start=start, end=end, sql=f"t.{seen_name(column, number)}", column=column)

    def _lookup_reference(self, number: int, field: str, start: int, end: int) -> Reference:
        lookup = self._lookups[number]
        assert lookup is not None
        return Reference(start=start, end=end, sql=f"j{number}.l{lookup.columns.index(field)}", join=number, field=field)


def seen_name(column: Column, number: int) -> str:
    """DuckDB's name of the `number`-th source column as expressions see it: `t` typed, `c` as text."""
    return f"{'c' if duckdb_type(column.type) == 'VARCHAR' else 't'}{number}"


def _join_names(join: Joined) -> tuple[tuple[str, ...], ...]:
    alias, lookup = join.alias.lower(), join.lookup.lower()
    return ((alias,), ("lookups", lookup)) if alias == lookup else ((alias,),)


def match(name: str, names: Iterable[str]) -> str | None:
    """Exactly, else the only one that differs in case alone."""
    names = list(names)
    if name in names:
        return name
    folded = [other for other in names if other.lower() == name.lower()]
    return folded[0] if len(set(folded)) == 1 else None


def is_variable(node: exp.Column) -> bool:
    """The variable of a list comprehension, `[x + 1 FOR x IN list]`, is no column."""
    around = node.find_ancestor(exp.Comprehension)
    while around is not None:
        if len(node.parts) == 1 and node.name in {name.name for name in around.args["expression"].find_all(exp.Identifier)}:
            return True
        around = around.find_ancestor(exp.Comprehension)
    return False


def exchange(text: str, start: int, end: int, changes: Iterable[tuple[int, int, str]]) -> str:
    """The text from `start` to `end` with stretches (from, to, new) of it exchanged, which come in order. Ends with a line break, so that a comment
    at its end cannot reach further."""
    parts, at = [], start
    for first, after, new in changes:
        parts += [text[at:first], new]
        at = after
    return "".join([*parts, text[at:end]]) + "\n"
