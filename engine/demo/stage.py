"""The stage of the demo: two throwaway servers, the schemas and first rows of both systems, and a configuration of its own in a temporary folder."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from engine import resources
from engine.demo.company import COLUMNS, ERP_CUSTOMER, ERP_ITEM, Company, Row
from engine.demo.database import Database
from engine.throwaway import servers
from engine.throwaway.process import scratch_folder

ACCOUNTS, CONTACTS, PRODUCTS = 2000, 4000, 500
ONLY_IN_ERP = 10
"""One account in so many is known to the ERP alone at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A system on the stage. `product`: what it runs on, for people."""

    name: str
    product: str
    server: servers.Server
    url: str

    def connect(self) -> Database:
        return Database(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """References of records."""

    accounts: Sequence[str] = ()
    contacts: Sequence[str] = ()
    products: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class Stage:
    """at_crm, at_erp: the records that stand on that side at the start. `remark`: what a person should know of this stage; may be empty."""

    crm: Side
    erp: Side
    folder: Path
    remark: str
    at_crm: Known = field(default_factory=Known)
    at_erp: Known = field(default_factory=Known)

    @property
    def config(self) -> Path:
        return self.folder / "config" / "crm_erp.toml"


def choose(*, keep: bool) -> tuple[servers.Server, servers.Server, str]:
    """Servers for CRM and ERP (not started) and a remark. CannotStart when not even the embedded PostgreSQL is there."""
    why = servers.available("mariadb")
    erp = servers.postgres("18" if servers.available("postgres15") else "15", keep=keep)
    if not why:
        return servers.mariadb(keep=keep), erp, ""
    remark = f"MariaDB is not here, so the CRM runs on PostgreSQL too: {why}"
    if servers.available("postgres18"):
        return servers.postgres("15", keep=keep), erp, remark
    return servers.postgres("18", keep=keep), erp, remark


@contextlib.contextmanager
def build(*, keep: bool, seed: int) -> Iterator[Stage]:
    """Starts both servers and fills them. At the end all is removed, unless the servers were handed over."""
    crm_server, erp_server, remark = choose(keep=keep)
    folder = scratch_folder("demo")
    handed_over = False
    try:
        with ThreadPoolExecutor(2) as pool:
            for starting in [pool.submit(crm_server.start), pool.submit(erp_server.start)]:
                starting.result()
        crm = Side(name="CRM", product=crm_server.kind, server=crm_server, url=crm_server.database("crm"))
        erp = Side(name="ERP", product=erp_server.kind, server=erp_server, url=erp_server.database("erp"))
        stage = Stage(crm=crm, erp=erp, folder=folder, remark=remark)
        _fill(stage, Company(seed))
        _configure(stage)
        yield stage
        handed_over = keep
    finally:
        if not handed_over:
            crm_server.close()
            erp_server.close()
            shutil.rmtree(folder, ignore_errors=True)


def _fill(stage: Stage, company: Company) -> None:
    accounts = [company.account() for _ in range(ACCOUNTS)]
    in_crm = [row for i, row in enumerate(accounts) if i % ONLY_IN_ERP]
    in_erp = [company.as_customer(row) for i, row in enumerate(accounts) if i % ONLY_IN_ERP == 0]
    crm_accounts = _references(in_crm)
    # the last ones stay without contacts
    contacts = [company.contact(company.random.choice(crm_accounts[:-50])) for _ in range(CONTACTS)]
    products = [company.product(number) for number in range(PRODUCTS)]
    in_crm_products = [row for i, row in enumerate(products) if i % ONLY_IN_ERP]
    items = [_as_item(row) for i, row in enumerate(products) if i % ONLY_IN_ERP == 0]
    stage.at_crm = Known(accounts=crm_accounts, contacts=_references(contacts), products=_references(in_crm_products))
    stage.at_erp = Known(accounts=_references(in_erp), products=_references(items))

    def fill_crm() -> None:
        database = stage.crm.connect()
        schema = "crm_mysql.sql" if stage.crm.url.startswith("mysql") else "crm_postgres.sql"
        database.script(resources.path(f"sql/demo/{schema}").read_text(encoding="utf-8"))
        database.load("accounts", COLUMNS.accounts, in_crm)
        database.load("contacts", COLUMNS.contacts, contacts)
        database.load("products", COLUMNS.products, in_crm_products)
        database.close()

    def fill_erp() -> None:
        database = stage.erp.connect()
        database.script(resources.path("sql/demo/erp_postgres.sql").read_text(encoding="utf-8"))
        database.load("customers", ERP_CUSTOMER, in_erp)
        database.load("items", ERP_ITEM, items)
        database.close()

    with ThreadPoolExecutor(2) as pool:
        for filling in [pool.submit(fill_crm), pool.submit(fill_erp)]:
            filling.result()


def _references(rows: Sequence[Row]) -> list[str]:
    return [str(row[0]) for row in rows]


def _as_item(product: Row) -> Row:
    reference, sku, title, text, price, weight, discontinued = product
    return (reference, sku, title, text, price, None if weight is None else int(weight * 1000), not discontinued)  # type: ignore[operator]


def _configure(stage: Stage) -> None:
    """Copies the worked example and puts in the addresses of our servers."""
    config = stage.folder / "config"
    config.mkdir()
    shutil.copytree(resources.path("sql/rules"), stage.folder / "sql" / "rules")
    shutil.copy(resources.path("config/us_states.csv"), config)
    text = resources.path("config/crm_erp.toml").read_text(encoding="utf-8")
    for side, name in ((stage.crm, "crm"), (stage.erp, "erp")):
        adapter = "mysql" if side.url.startswith("mysql") else "postgres"
        table = f'[systems.{name}]\nadapter = "{adapter}"\nurl = "{side.url}"'
        text, found = re.subn(rf'\[systems\.{name}\]\nadapter = "\w+"\nurl = "[^"]*"', lambda _, table=table: table, text)  # type: ignore[misc]
        if found != 1:
            raise servers.CannotStart(f"config/crm_erp.toml has no table systems.{name} with adapter and url")
    stage.config.write_text(text, encoding="utf-8")
