"""The people of the demo: threads that write to the CRM and the ERP as their applications would, knowing nothing of Syncline.

Ordinary writers stay clear of each other's cells by chance only; `Quarrel` changes the same records on both sides within milliseconds and keeps
what should come of it, so that the end can be checked without asking Syncline. Each thread has its own connections.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal

from engine.demo.company import COLUMNS, ERP_CUSTOMER, ERP_ITEM, ERP_PERSON, Company
from engine.demo.database import Busy, Database, Statement, delete, insert, update
from engine.demo.stage import Known, Side


class Writer(threading.Thread, ABC):
    """Changes about `rate` rows a second until `stop` is set. `changed`: rows so far. `failure`: what ended it early."""

    def __init__(self, name: str, rate: float, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.rate = rate
        self.company = Company(seed)
        self.changed = 0
        self.failure: Exception | None = None
        self._stop_asked = stop

    def run(self) -> None:
        try:
            self.open()
            start, due = time.monotonic(), 0
            while not self._stop_asked.is_set():
                ahead = start + due / self.rate - time.monotonic()
                if ahead > 0 and self._stop_asked.wait(ahead):
                    break
                if ahead < -1:  # fell behind: carry on at the agreed rate, do not catch up
                    start -= ahead
                done = self.step()
                self.changed += done
                due += max(done, 1)
        except Exception as error:
            self.failure = error
        finally:
            self.close()

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def step(self) -> int:
        """One transaction; returns how many rows it changed."""

    @abstractmethod
    def close(self) -> None: ...


class Clerk(Writer):
    """Works in one system. Changes records of `known`; deletes only those it made and nobody else knows. Before `settled` it only changes records
    that no other refers to: what refers to a record that the first read has not carried yet would be refused by the other side's foreign key."""

    def __init__(self, side: Side, rate: float, seed: int, stop: threading.Event, known: Known) -> None:
        super().__init__(f"{side.name} clerk", rate, seed, stop)
        self._side = side
        self.known = known
        self.settled = False
        self._database: Database | None = None
        self.own: list[tuple[str, str]] = []  # (table, reference) of records that may be deleted

    def open(self) -> None:
        self._database = self._side.connect()

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def step(self) -> int:
        assert self._database is not None
        statements, made = self.decide()
        try:
            touched = self._database.transaction(statements)
        except Busy:
            return 0
        self.own += made
        return touched

    @abstractmethod
    def decide(self) -> tuple[list[Statement], list[tuple[str, str]]]:
        """The next transaction, and the records it makes that may be deleted later."""

    def delete_own(self, key: dict[str, str]) -> list[Statement]:
        if not self.own:
            return []
        table, reference = self.own.pop(self.company.random.randrange(len(self.own)))
        return [delete(table, key[table], reference)]


class CrmClerk(Clerk):
    _number = 900_000

    def decide(self) -> tuple[list[Statement], list[tuple[str, str]]]:
        c = self.company
        dice = c.random.random() if self.settled else c.random.uniform(0.55, 0.86)
        if dice < 0.55:
            column, value = c.random.choice(
                [("phone", c.maybe(c.phone())), ("email", c.email()), ("city", c.town()), ("state", c.state()), ("notes", c.remark()), ("name", c.firm())]
            )
            return [update("accounts", column, value, "id", c.random.choice(self.known.accounts))], []
        if dice < 0.60:  # a column that no rule reads
            return [update("accounts", "score", c.random.randrange(100), "id", c.random.choice(self.known.accounts))], []
        if dice < 0.78:
            column, value = c.random.choice([("phone", c.phone()), ("email", c.maybe(c.email())), ("newsletter", c.random.randrange(2))])
            return [update("contacts", column, value, "id", c.random.choice(self.known.contacts))], []
        if dice < 0.86:
            return [update("products", "description", c.remark(), "id", c.random.choice(self.known.products))], []
        if dice < 0.90:
            account = c.account()
            people = [c.contact(str(account[0])) for _ in range(c.random.randrange(3))]
            statements = [insert("accounts", COLUMNS.accounts, account), *(insert("contacts", COLUMNS.contacts, row) for row in people)]
            return statements, [("contacts", str(row[0])) for row in people] or [("accounts", str(account[0]))]
        if dice < 0.95:
            contact = c.contact(c.random.choice(self.known.accounts))
            return [insert("contacts", COLUMNS.contacts, contact)], [("contacts", str(contact[0]))]
        if dice < 0.96:
            self._number += 1
            return [insert("products", COLUMNS.products, c.product(self._number))], []
        return self.delete_own({"accounts": "id", "contacts": "id"}), []


class ErpClerk(Clerk):
    _number = 950_000

    def decide(self) -> tuple[list[Statement], list[tuple[str, str]]]:
        c = self.company
        dice = c.random.random() if self.settled else c.random.uniform(0.65, 0.85)
        if dice < 0.45:
            column, value = c.random.choice(
                [("town", c.town()), ("phone", c.phone()), ("credit_limit", c.maybe(c.money(50_000))), ("blocked", c.random.random() < 0.1),
                 ("region", c.region(c.state())), ("email", c.maybe(c.email())), ("remark", c.remark())]
            )  # fmt: skip
            return [update("customers", column, value, "account_ref", c.random.choice(self.known.accounts))], []
        if dice < 0.50:  # a column that no rule reads
            return [update("customers", "open_invoices", c.random.randrange(9), "account_ref", c.random.choice(self.known.accounts))], []
        if dice < 0.65 and self.known.contacts:
            column, value = c.random.choice([("phone", c.maybe(c.phone())), ("email", c.email()), ("birth_date", c.day(1950, 2005))])
            return [update("contact_persons", column, value, "contact_ref", c.random.choice(self.known.contacts))], []
        if dice < 0.85:
            column, value = c.random.choice([("price", c.money(900)), ("weight_g", c.random.randrange(1, 90_000)), ("sellable", c.random.random() < 0.95)])
            return [update("items", column, value, "item_ref", c.random.choice(self.known.products))], []
        if dice < 0.90:
            customer = c.as_customer(c.account())
            people = [self._person(str(customer[0])) for _ in range(c.random.randrange(2))]
            statements = [insert("customers", ERP_CUSTOMER, customer), *(insert("contact_persons", ERP_PERSON, row) for row in people)]
            return statements, [("contact_persons", str(row[0])) for row in people] or [("customers", str(customer[0]))]
        if dice < 0.95:
            person = self._person(c.random.choice(self.known.accounts))
            return [insert("contact_persons", ERP_PERSON, person)], [("contact_persons", str(person[0]))]
        if dice < 0.96:
            self._number += 1
            reference, sku, title, text, price, weight, discontinued = c.product(self._number)
            grams = None if weight is None else int(Decimal(str(weight)) * 1000)
            return [insert("items", ERP_ITEM, (reference, sku, title, text, price, grams, not discontinued))], []
        return self.delete_own({"customers": "account_ref", "contact_persons": "contact_ref"}), []

    def _person(self, account: str) -> tuple[object, ...]:
        reference, customer, first, last, email, phone, newsletter, birthday = self.company.contact(account)
        return (reference, customer, first, last, email, phone, bool(newsletter), birthday)


class Quarrel(Writer):
    """Changes the same record in both systems at nearly the same moment, in three ways, and remembers what was written last.

    same_field: (account) -> values written to `phone` by CRM and ERP. same_record: (account) -> city by the CRM, e-mail by the ERP.
    wrong_side: accounts whose credit limit was changed in the CRM though the ERP owns it. `counts`: times per way.
    """

    FORGED = Decimal("9999999.99")

    def __init__(self, crm: Side, erp: Side, rate: float, seed: int, stop: threading.Event, accounts: Sequence[str]) -> None:
        super().__init__("quarrel", rate, seed, stop)
        self._sides = (crm, erp)
        self._open: list[Database] = []
        third = len(accounts) // 3
        self._pools = (accounts[:third], accounts[third : 2 * third], accounts[2 * third :])
        self.same_field: dict[str, tuple[str, str]] = {}
        self.same_record: dict[str, tuple[str, str]] = {}
        self.wrong_side: set[str] = set()
        self.counts = {"same_field": 0, "same_record": 0, "wrong_side": 0}

    def open(self) -> None:
        self._open = [side.connect() for side in self._sides]

    def close(self) -> None:
        for database in self._open:
            database.close()

    def step(self) -> int:
        c = self.company
        way = c.random.randrange(3)
        account = c.pick(*self._pools[way])
        if way == 0:
            phones = (f"{c.phone()} crm", f"{c.phone()} erp")
            self.same_field[account] = phones
            return self._both(
                "same_field", update("accounts", "phone", phones[0], "id", account), update("customers", "phone", phones[1], "account_ref", account)
            )
        if way == 1:
            town, email = f"{c.town()} {c.random.randrange(1000)}", c.email()
            self.same_record[account] = (town, email)
            return self._both("same_record", update("accounts", "city", town, "id", account), update("customers", "email", email, "account_ref", account))
        self.wrong_side.add(account)
        self.counts["wrong_side"] += 1
        return _insist(self._open[0], update("accounts", "credit_limit", self.FORGED, "id", account))

    def _both(self, way: str, crm: Statement, erp: Statement) -> int:
        self.counts[way] += 1
        work: list[Callable[[], int]] = [lambda: _insist(self._open[0], crm), lambda: _insist(self._open[1], erp)]
        self.company.random.shuffle(work)
        first = work[0]()
        time.sleep(self.company.random.random() * 0.004)
        return first + work[1]()


def _insist(database: Database, statement: Statement) -> int:
    """Does it again when the database rolled it back: what the end is checked against must have been written."""
    while True:
        try:
            return database.transaction([statement])
        except Busy:
            time.sleep(random.random() * 0.02)


class Probe(threading.Thread):
    """Measures from commit on one side to visible on the other, by its own two records, a few times a second.

    `seconds`: ("CRM", "ERP" = side of the commit) -> measured times, growing. A change not seen after `PATIENCE` counts as `late`.
    """

    PATIENCE = 15.0

    def __init__(self, crm: Side, erp: Side, accounts: Sequence[str], stop: threading.Event) -> None:
        super().__init__(name="probe", daemon=True)
        self._sides = (crm, erp)
        self._accounts = accounts
        self._stop_asked = stop
        self.seconds: dict[str, list[float]] = {"CRM": [], "ERP": []}
        self.late = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            crm, erp = (side.connect() for side in self._sides)
            number = 0
            while not self._stop_asked.wait(0.15):
                number += 1
                token = f"probe {number}"
                self._measure("CRM", crm, update("accounts", "notes", token, "id", self._accounts[0]), erp,
                              "SELECT remark FROM customers WHERE account_ref = %s", self._accounts[0], token)  # fmt: skip
                self._measure("ERP", erp, update("customers", "remark", token, "account_ref", self._accounts[1]), crm,
                              "SELECT notes FROM accounts WHERE id = %s", self._accounts[1], token)  # fmt: skip
            crm.close()
            erp.close()
        except Exception as error:
            self.failure = error

    def _measure(self, side: str, here: Database, change: Statement, there: Database, look: str, account: str, token: str) -> None:
        _insist(here, change)
        start = time.monotonic()
        while (passed := time.monotonic() - start) < self.PATIENCE:
            if there.value(look, (account,)) == token:
                self.seconds[side].append(time.monotonic() - start)
                return
            if self._stop_asked.is_set() and passed > 1:
                return
            time.sleep(0.003)
        self.late += 1
