"""Tables as the catalogues describe them."""
from __future__ import annotations

from dataclasses import dataclass, field

from engine.model.types import DataType


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """`system.schema.table`. For MySQL and MariaDB `schema` is the database; adapters fill it in from the URL where a rule leaves it out."""

    system: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.system}.{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`default`: the database fills the column by itself when an insert leaves it out (default, auto-increment, identity).
    `generated`: computed by the database, never written. `always`: identity that takes values only with OVERRIDING SYSTEM VALUE.
    `made`: the default is a new value for each row (identity, sequence, auto-increment, random UUID).
    `alike`: what the database takes for equal here although the texts differ, for a person; empty where equal values have equal text."""

    name: str
    type: DataType
    nullable: bool = True
    default: bool = False
    generated: bool = False
    always: bool = False
    made: bool = False
    alike: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """hidden: the log does not show what the database itself does to the rows when their parent is deleted or gets another key."""

    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`log_key`: the columns that the log gives of the old row on update and delete (PostgreSQL: the replica identity; MySQL: the primary key).
    Empty where the log gives none (then updates and deletes of the table cannot be followed). `unique`: column sets of unique indexes without
    predicate or expression, the primary key included."""

    name: TableName
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    log_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = field(default=())

    def column(self, name: str) -> Column:
        """Raises KeyError when there is no such column."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)
