"""Links as `syncline_link` tells them, against what the ledger knows."""
from __future__ import annotations

from pathlib import Path

from engine.ledger import keys
from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger
from engine.model.write import LinkRow
from engine.runtime.identity import from_rows

AHEAD, BACK = "customer:crm:erp", "customer:erp:crm"


def row(key: str, there: str, at: int, *, back: bool = False) -> LinkRow:
    source, target = ("erp", "crm") if back else ("crm", "erp")
    return LinkRow(link="customer", source=source, source_key=key, target=target, target_key=there, batch=at, made_us=at)


def k(text: str) -> bytes:
    return keys.one(text.encode())


def test_a_record_that_was_keyed_anew_loses_the_pair_that_the_ledger_has(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.take_over(Intent(links={AHEAD: {k("1"): k("70")}, BACK: {k("70"): k("1")}}))
    found = from_rows([row("101", "70", 2)], ledger)
    assert found == {AHEAD: {k("101"): k("70"), k("1"): None}, BACK: {k("70"): k("101")}}
    ledger.take_over(Intent(links=found))
    assert ledger.link(AHEAD, [k("1"), k("101")]) == [None, k("70")]
    assert ledger.link(BACK, [k("70")]) == [k("101")]
    ledger.close()


def test_of_two_rows_about_one_record_the_later_one_holds_whichever_system_has_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    found = from_rows([row("75", "1", 9, back=True), row("1", "70", 3)], ledger)
    assert found == {AHEAD: {k("1"): k("75")}, BACK: {k("70"): None, k("75"): k("1")}}
    ledger.close()
