"""What a rule's text alone says of the rows it gives, so that two rules can be told to have none in common."""
from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from sqlglot import exp

Extent = Mapping[str, frozenset[str]]
"""What can only have these values, as SQL: target columns by their name; expressions in WHERE as `=` and their text, without the alias of the base table."""


def extent_of(select: exp.Select, columns: Sequence[str]) -> Extent:
    """columns: the names of the SELECT's expressions. Only literals, `=`, IN and IS NULL joined by AND are looked at."""
    found = {}
    for name, expression in zip(columns, select.expressions, strict=False):
        value = expression.unalias()
        if isinstance(value, exp.Literal | exp.Boolean):
            found[name] = frozenset([value.sql()])
    where, source = select.args.get("where"), select.args.get("from_")
    base = source.this.alias_or_name.lower() if source else ""
    for condition in _conjuncts(where.this) if where else ():
        held = _values(condition)
        if held is not None:
            subject = "=" + _plain(held[0], base)
            found[subject] = found.get(subject, held[1]) & held[1]
    return found


def apart(one: Extent, other: Extent, key: Container[str], *, one_table: bool) -> bool:
    """Whether no target row can come from both. key: the target columns that name it. one_table: both rules read the same base table."""
    return any(
        subject in other and not values & other[subject]
        for subject, values in one.items()
        if (one_table if subject.startswith("=") else subject in key)
    )


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _conjuncts(node.left)
        yield from _conjuncts(node.right)
    else:
        yield node


def _values(node: exp.Expr) -> tuple[exp.Expr, frozenset[str]] | None:
    match node:
        case exp.EQ():
            left, right = (node.left, node.right) if _is_literal(node.right) else (node.right, node.left)
            return (left, frozenset([right.sql()])) if _is_literal(right) else None
        case exp.In() if node.expressions and all(_is_literal(value) for value in node.expressions):
            return node.this, frozenset(value.sql() for value in node.expressions)
        case exp.Is() if isinstance(node.expression, exp.Null):
            return node.this, frozenset(["NULL"])
        case exp.Column():
            return node, frozenset(["TRUE"])
        case exp.Not() if isinstance(node.this.unnest(), exp.Column):
            return node.this.unnest(), frozenset(["FALSE"])
    return None


def _is_literal(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal | exp.Boolean)


def _plain(node: exp.Expr, base: str) -> str:
    node = node.copy()
    for column in node.find_all(exp.Column):
        if column.table.lower() == base:
            column.set("table", None)
    return node.sql(normalize=True, normalize_functions="lower").lower()
