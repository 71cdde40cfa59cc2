"""The SQL texts of this adapter, by name."""

from __future__ import annotations

import functools

from adapters import statements

statement = functools.partial(statements.statement, "mysql")
"""The text of one statement of `sql/mysql/*.sql`."""
