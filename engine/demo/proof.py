"""The end of the demo: what Syncline says of both sides (`reconcile`, `quarantine list`), and what we find when we look ourselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from engine.demo.command import Syncline
from engine.demo.people import Quarrel
from engine.demo.stage import Stage

EQUAL, DIFFERENT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """code: exit code of `reconcile`. rules: its document's. unexplained: differences whose record is not set aside, as text."""

    code: int
    rules: dict[str, dict[str, Any]]
    quarantine: list[dict[str, Any]]
    unexplained: list[str]

    @property
    def equal(self) -> bool:
        return self.code == EQUAL

    @property
    def good(self) -> bool:
        """Equal, or different only where a row is set aside."""
        return self.code in {EQUAL, DIFFERENT} and not self.unexplained


def reconcile(syncline: Syncline) -> Reconciled:
    """Failed when a command cannot do its work."""
    code, said = syncline.call("reconcile", "--json", good=(EQUAL, DIFFERENT, 3))
    return judge(code, json.loads(said), syncline.ask("quarantine", "list", good=(0, 1)))


def judge(code: int, document: dict[str, Any], quarantine: list[dict[str, Any]]) -> Reconciled:
    """A difference is explained when its record stands in quarantine, under whichever of the two directions."""
    aside = {record for row in quarantine for record in _values(row["key"])}
    rows = document.get("rows", [])
    unexplained = [
        f"{row['rule']} {json.dumps(row['key'], ensure_ascii=False)}: {row['class']} {', '.join(row.get('columns') or [])}".rstrip()
        for row in rows
        if not set(_values(row["key"])) & aside
    ]
    if code not in {EQUAL, DIFFERENT}:
        unexplained.append(f"the comparison is not complete (verdict {document.get('verdict')})")
    if code == DIFFERENT and not rows:
        unexplained.append("reconcile found differences and names none")
    return Reconciled(code=code, rules=document["rules"], quarantine=quarantine, unexplained=unexplained)


def _values(key: Any) -> list[str]:
    """The values of a key as a document gives it: a table, a list or a text."""
    if isinstance(key, dict):
        return [str(value) for value in key.values()]
    if isinstance(key, list):
        return [str(value) for value in key]
    try:
        read = json.loads(key)
    except (TypeError, ValueError):
        return [str(key)]
    return _values(read) if isinstance(read, dict | list) else [str(read)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarrels:
    """Per way: records looked at, and records that came out as promised. All read from both databases directly."""

    same_field: tuple[int, int]
    same_record: tuple[int, int]
    wrong_side: tuple[int, int]

    @property
    def good(self) -> bool:
        return all(looked == right for looked, right in (self.same_field, self.same_record, self.wrong_side))


def look(stage: Stage, quarrel: Quarrel) -> Quarrels:
    crm, erp = stage.crm.connect(), stage.erp.connect()
    left = {str(row[0]): row[1:] for row in crm.rows("SELECT id, phone, city, email, credit_limit FROM accounts")}
    right = {str(row[0]): row[1:] for row in erp.rows("SELECT account_ref, phone, town, email, credit_limit FROM customers")}
    crm.close()
    erp.close()
    none = (None,) * 4
    phones = {a: (left.get(a, none)[0], right.get(a, none)[0]) for a in quarrel.same_field}
    same_field = sum(here == there and here in quarrel.same_field[a] for a, (here, there) in phones.items())
    same_record = sum((left.get(a, none)[1:3] == right.get(a, none)[1:3] == expected) for a, expected in quarrel.same_record.items())
    limits = {a: (left.get(a, none)[3], right.get(a, none)[3]) for a in quarrel.wrong_side}
    wrong_side = sum(here == there and here != quarrel.FORGED for here, there in limits.values())
    return Quarrels(
        same_field=(len(quarrel.same_field), same_field),
        same_record=(len(quarrel.same_record), same_record),
        wrong_side=(len(quarrel.wrong_side), wrong_side),
    )
