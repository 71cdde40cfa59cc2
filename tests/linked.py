"""A CRM and an ERP that make their own keys, accounts and deals here, customers and orders there, linked by rules."""
from __future__ import annotations

from pathlib import Path

from tests.pair import Pair

ACCOUNTS = "id {serial}, name varchar(50), tax_id varchar(20)"
CUSTOMERS = "no {serial}, title varchar(60), vat varchar(20)"
DEALS = "id {serial}, account_id bigint, total decimal(10, 2)"
ORDERS = "number {serial}, customer_no bigint, amount decimal(10, 2), FOREIGN KEY (customer_no) REFERENCES customers (no)"
SERIAL = {"postgres": "bigserial PRIMARY KEY", "mysql": "bigint PRIMARY KEY AUTO_INCREMENT"}


def rules(more: str = "", back: bool = True) -> str:
    there = f'''[[rules]]
name = "customers"
select = "SELECT a.name AS title, a.tax_id AS vat FROM crm.accounts AS a"
into = "erp.customers"
link = "customer"
{more.replace("tax_id", "vat").replace("name", "title")}
[[rules]]
name = "orders"
select = "SELECT xref('customer', 'erp', d.account_id) AS customer_no, d.total AS amount FROM crm.deals AS d"
into = "erp.orders"
link = "order"
'''
    if not back:
        return there
    return there + f'''[[rules]]
name = "accounts"
select = "SELECT c.title AS name, c.vat AS tax_id FROM erp.customers AS c"
into = "crm.accounts"
link = "customer"
{more}
[[rules]]
name = "deals"
select = "SELECT xref('customer', 'crm', o.customer_no) AS account_id, o.amount AS total FROM erp.orders AS o"
into = "crm.deals"
link = "order"
'''


def create(folder: Path, crm: str, erp: str, more: str = "", back: bool = True) -> Pair:
    """more: further lines of the rules for accounts and customers. back: also the rules from ERP to CRM."""
    pair = Pair(folder, crm, erp, rules(more, back))
    for side, tables in ((pair.crm, {"accounts": ACCOUNTS, "deals": DEALS}), (pair.erp, {"customers": CUSTOMERS, "orders": ORDERS})):
        for name, columns in tables.items():
            side.run(f"CREATE TABLE {name} ({columns.format(serial=SERIAL[side.adapter])})")
    # the keys of both sides have nothing to do with each other
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('first', 'x')")
    pair.erp.run("DELETE FROM customers")
    return pair


JOINED_CRM = "SELECT a.name, a.tax_id, d.total FROM accounts a LEFT JOIN deals d ON d.account_id = a.id ORDER BY 1, 2, 3"
JOINED_ERP = "SELECT c.title, c.vat, o.amount FROM customers c LEFT JOIN orders o ON o.customer_no = c.no ORDER BY 1, 2, 3"


def same(pair: Pair) -> list[tuple[object, ...]]:
    """Both sides as a person sees them, without keys; asserts that they agree, and that reconcile says so."""
    crm, erp = pair.crm.run(JOINED_CRM), pair.erp.run(JOINED_ERP)
    assert crm == erp
    pair.agree()
    return crm
