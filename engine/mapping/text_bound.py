"""How long the text of an expression can become, where its parts tell. It spares a check and a warning, so "unknown" is always a right answer."""
from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

Bound = Callable[[exp.Column], int | None]


def text_bound(node: exp.Expr, column: Bound) -> int | None:
    """Most characters of the value; None when unknown. column: the same for a column."""
    match node:
        case exp.Column():
            return column(node)
        case exp.Literal(is_string=True):
            return len(node.name)
        case exp.Null():
            return 0
        case exp.Paren() | exp.Trim() | exp.Upper() | exp.Lower():
            return text_bound(node.this, column)
        case exp.Cast() if node.to.is_type("varchar", "text") and not node.to.expressions:
            return text_bound(node.this, column)
        case exp.Left() | exp.Right() if isinstance(node.expression, exp.Literal) and not node.expression.is_string:
            return _least(int(node.expression.name), text_bound(node.this, column))
        case exp.Coalesce():
            return _most([node.this, *node.expressions], column)
        case exp.Case():
            branches = [branch.args["true"] for branch in node.args["ifs"]]
            return _most([*branches, *([node.args["default"]] if node.args.get("default") else [])], column)
        case exp.DPipe():
            left, right = text_bound(node.this, column), text_bound(node.expression, column)
            return None if left is None or right is None else left + right
        case _:
            return None


def _least(limit: int, bound: int | None) -> int:
    return limit if bound is None else min(limit, bound)


def _most(nodes: list[exp.Expr], column: Bound) -> int | None:
    bounds = [text_bound(node, column) for node in nodes]
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None
