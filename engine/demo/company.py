"""Believable rows: firms, people and goods with names from many languages, gaps, long texts and emoji. The same seed gives the same rows."""

from __future__ import annotations

import csv
import datetime as dt
import random
import uuid
from dataclasses import dataclass
from decimal import Decimal

from engine import resources


def _words(text: str) -> list[str]:
    return text.split("|")


FIRST = _words(
    "Anna|José|Zoë|Łukasz|Søren|Nguyễn|François|Björn|İbrahim|Renée|Đorđe|Štěpán|Aoife|Müge|Iñigo|Chloë|Jürgen|Agnès|Ólafur|Mária|Wei|Yuki|Olu|"
    "Priya|Mohammed|Grace|Peter|Ines|Tomáš|Siobhán|Noémie|Kwame|Lena|Aino|Raúl|Hanna"
)
LAST = _words(
    "Müller|García|Łukaszewicz|Sørensen|Nguyễn|Lefèvre|Åkesson|Yıldız|O'Brien|Dvořák|Novák|Straße|Ångström|Peña|Gonçalves|Ørsted|Ğül|Kovács|"
    "Þórsson|Smith|Johnson|Tanaka|王|Petrović|d'Angelo|Côté|Van der Meer|Šimić|Ó Briain|Ramírez|Brown|Fischer|Horváth"
)
STEMS = _words(
    "Blue River|Nordlicht|Café Zürich|Śląsk|Ångström|Puerto Viejo|Hölderlin|Trà Vinh|Dvořák & Söhne|Maple|Golden Gate|Østersø|Crème Brûlée|"
    "Tōkyō Bay|São Paulo|Rocky Mountain|Lone Star|Bayou|Kraków|Île Verte|Ağrı|Saint-Étienne|Great Lakes|Sequoia|Ünal"
)
TRADES = _words("Instruments|Textiles|Logistics|Foods|Bikes|Optics|Timber|Software|Pumps|Bearings|Coffee|Paper|Robotics|Glass|Tools")
FORMS = _words("GmbH|Inc.|AB|S.A.|Sp. z o.o.|Ltd|A/S|s.r.o.|LLC|Oy|株式会社|Ltda.")
CITIES = _words("München|Zürich|Łódź|Malmö|São José|Saint-Étienne|Reykjavík|Nîmes|Århus|Kraków|Çanakkale|Đà Nẵng|Austin|Portland|Boise|Mobile")
ABROAD = _words("Bayern|Île-de-France|Łódzkie|Skåne|Zürich|Québec|Jalisco|Åland")
GOODS = _words("Ball bearing|Espresso cup|Gravel tyre|Hex key|Linen sheet|Microscope lens|Oak board|Peristaltic pump|Servo|Wine glass|Crêpe pan")
REMARKS = _words(
    "Prefers to be called before noon.|Zahlt pünktlich. 👍|Client depuis 1998 — très fidèle ❤️|Asked for a quote twice.|納期に注意 🚚|"
    'Said: "never on Fridays"; see contract §4|Umbau bis März 🏗️|Deliveries to gate 7\\B only.|Línea de crédito en revisión'
)

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a kind of record in the CRM, in the order of the generated rows."""

    accounts: tuple[str, ...] = ("id", "name", "email", "phone", "city", "state", "credit_limit", "active", "since", "notes")
    contacts: tuple[str, ...] = ("id", "account_id", "first_name", "last_name", "email", "phone", "newsletter", "birthday")
    products: tuple[str, ...] = ("id", "sku", "title", "description", "list_price", "weight_kg", "discontinued")


COLUMNS = Columns()


class Company:
    """Makes rows and single values. Each thread has its own, with its own seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        with resources.path("config/us_states.csv").open(encoding="utf-8", newline="") as file:
            self._codes = {row["name"]: row["code"] for row in csv.DictReader(file)}
        self._states = list(self._codes)

    def reference(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def pick(self, *words: str) -> str:
        return self.random.choice(words)

    def maybe(self, value: object, share: float = 0.85) -> object:
        """The value, or None in the rest of the cases."""
        return value if self.random.random() < share else None

    def firm(self) -> str:
        return f"{self.pick(*STEMS)} {self.pick(*TRADES)} {self.pick(*FORMS)}"

    def phone(self) -> str:
        r = self.random
        return f"+{r.choice((1, 33, 41, 45, 46, 48, 49))} {r.randrange(100, 999)} {r.randrange(100000, 9999999)}"

    def email(self) -> str:
        return f"{self.pick('info', 'sales', 'büro', 'a.b+crm', 'kontakt')}{self.random.randrange(10000)}@example.{self.pick('com', 'org', 'net')}"

    def town(self) -> str:
        return self.pick(*CITIES)

    def state(self) -> str:
        """As the CRM writes it."""
        return self.pick(*self._states) if self.random.random() < 0.7 else self.pick(*ABROAD)

    def region(self, state: str) -> str:
        """As the ERP writes a state of the CRM."""
        return self._codes.get(state, state)

    def money(self, limit: int) -> Decimal:
        return Decimal(self.random.randrange(0, limit * 100)) / 100

    def remark(self) -> str:
        text = self.pick(*REMARKS)
        if self.random.random() < 0.02:  # long enough to be stored outside the row
            text += "\n" + " ".join(self.reference() for _ in range(self.random.randrange(80, 200)))
        return text

    def day(self, first: int, last: int) -> dt.date:
        return dt.date(self.random.randrange(first, last), self.random.randrange(1, 13), self.random.randrange(1, 29))

    def account(self) -> Row:
        """In the order of `COLUMNS.accounts`."""
        active = 0 if self.random.random() < 0.05 else 1
        return (
            self.reference(), self.firm(), self.maybe(self.email()), self.maybe(self.phone()), self.maybe(self.town()), self.maybe(self.state()),
            self.maybe(self.money(50_000)), active, self.maybe(self.day(1985, 2026)), self.maybe(self.remark(), 0.6),
        )  # fmt: skip

    def contact(self, account: str) -> Row:
        """In the order of `COLUMNS.contacts`."""
        return (
            self.reference(), account, self.maybe(self.pick(*FIRST), 0.95), self.pick(*LAST), self.maybe(self.email()), self.maybe(self.phone(), 0.6),
            self.random.randrange(2), self.maybe(self.day(1950, 2005), 0.5),
        )  # fmt: skip

    def product(self, number: int) -> Row:
        """In the order of `COLUMNS.products`."""
        weight = Decimal(self.random.randrange(1, 90_000)) / 1000
        title = f"{self.pick(*GOODS)} {self.random.randrange(10, 99)} — {self.pick('Ø 12 mm', '½″', 'blau', 'N° 5', 'grün', 'XL')}"
        return (
            self.reference(), f"SKU-{number:06d}", title, self.maybe(self.remark()), self.maybe(self.money(900), 0.97), self.maybe(weight),
            int(self.random.random() < 0.04),
        )  # fmt: skip

    def as_customer(self, account: Row) -> Row:
        """The same record as the ERP holds it, in the order of `ERP_CUSTOMER`."""
        reference, name, email, phone, city, state, limit, active, since, notes = account
        return (reference, name, email, phone, city, None if state is None else self.region(str(state)), limit, not active, since, notes)


ERP_CUSTOMER = ("account_ref", "company", "email", "phone", "town", "region", "credit_limit", "blocked", "customer_since", "remark")
ERP_PERSON = ("contact_ref", "customer_ref", "given_name", "family_name", "email", "phone", "wants_news", "birth_date")
ERP_ITEM = ("item_ref", "article_no", "label", "long_text", "price", "weight_g", "sellable")
