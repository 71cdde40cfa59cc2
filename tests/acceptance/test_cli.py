"""The installed command against real servers: what stands in the way is one sentence with its mend, and an exit code; never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import main
from engine.throwaway import servers

SYNCLINE = Path(sys.executable).with_name("syncline")
CRM = (
    "CREATE TABLE accounts (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80) NOT NULL, phone VARCHAR(40), updated_at DATETIME(6))",
    "INSERT INTO accounts (name, phone) VALUES ('Ada', '1'), ('Bob', NULL)",
)
ERP = (
    "CREATE TABLE customers (account_ref integer PRIMARY KEY, name text NOT NULL, phone text)",
    "CREATE TABLE loose (id serial PRIMARY KEY, account_ref integer, name text, phone text)",
)
RULES = """
[[rules]]
name = "customers"
select = "SELECT a.id AS account_ref, a.name, a.phone FROM crm.accounts AS a"
into = "erp.customers"
key = ["account_ref"]

[[rules]]
name = "accounts"
select = "SELECT c.account_ref AS id, c.name, c.phone FROM erp.customers AS c"
into = "crm.accounts"
key = ["id"]
"""


@dataclass
class Pair:
    """A configuration over two databases."""

    folder: Path
    crm: str
    erp: str
    rules: str = RULES
    variables: dict[str, str] | None = None

    def write(self) -> Path:
        path = self.folder / "syncline.toml"
        path.write_text(
            f'[systems.crm]\nadapter = "mysql"\nurl = "{self.crm}"\n[systems.erp]\nadapter = "postgres"\nurl = "{self.erp}"\n{self.rules}'
        )
        return path

    def call(self, *arguments: str) -> Result:
        """The command in this process: the same code from the parsing of arguments to the exit code, without the start of an interpreter."""
        environment = {"SYNCLINE_CONFIG": str(self.write()), "SYNCLINE_DEBUG": None, **(self.variables or {})}
        done = CliRunner().invoke(main, arguments, env=environment)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def installed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The installed command as a process of its own, in the folder of the configuration."""
        self.write()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        done = subprocess.run(
            [SYNCLINE, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def check(self) -> tuple[int, list[dict[str, str]]]:
        """Exit code and problems of `check --json`; the document is all there is on stdout."""
        done = self.call("check", "--json")
        document: dict[str, Any] = json.loads(done.stdout)
        problems: list[dict[str, str]] = document["problems"]
        assert document["ok"] == all(p["severity"] != "error" for p in problems)
        assert all(set(p) == {"severity", "where", "what", "fix"} and p["where"] and p["what"] and p["fix"] for p in problems), problems
        return done.exit_code, problems


def errors(problems: list[dict[str, str]]) -> list[str]:
    return [f"{p['where']}: {p['what']} ({p['fix']})" for p in problems if p["severity"] == "error"]


def fill(crm: servers.MariaDBServer, erp: servers.PostgresServer) -> tuple[str, str]:
    """Two fresh databases with tables and rows; their URLs."""
    crm_url, erp_url = crm.database(), erp.database()
    for statement in CRM:
        crm.execute(statement, database=crm_url.rpartition("/")[2])
    for statement in ERP:
        erp.execute(statement, database=erp_url.rpartition("/")[2])
    return crm_url, erp_url


@pytest.fixture
def pair(tmp_path: Path, mariadb: servers.MariaDBServer, postgres15: servers.PostgresServer) -> Iterator[Pair]:
    crm, erp = fill(mariadb, postgres15)
    yield Pair(tmp_path, crm, erp)
    database = erp.rpartition("/")[2]
    for (slot,) in postgres15.execute(f"SELECT slot_name FROM pg_replication_slots WHERE database = '{database}'"):
        with contextlib.suppress(Exception):
            postgres15.execute(f"SELECT pg_drop_replication_slot('{slot}')")


def test_a_sound_configuration_is_good(pair: Pair) -> None:
    code, problems = pair.check()
    assert errors(problems) == []
    assert code == 0
    human = pair.installed("check")
    assert human.returncode == 0
    assert "2 systems, 2 rules" in human.stdout


def test_a_stopped_database_is_one_problem_and_the_other_side_is_still_checked(pair: Pair) -> None:
    pair.crm = "mysql://root@127.0.0.1:1/crm"
    pair.rules = RULES.replace("FROM erp.customers", "FROM erp.custmers")
    code, problems = pair.check()
    assert code == 1
    away = [p for p in errors(problems) if "crm" in p.split(": ")[0]]
    assert len(away) == 1
    assert "127.0.0.1:1" in away[0]
    assert [p for p in errors(problems) if "custmers" in p]
    done = pair.call("run", "--until-idle")
    assert done.exit_code == 4
    assert "127.0.0.1:1" in done.stderr


def test_both_databases_stopped(pair: Pair) -> None:
    pair.crm, pair.erp = "mysql://root@127.0.0.1:1/crm", "postgresql://postgres@127.0.0.1:1/erp"
    code, problems = pair.check()
    assert (code, len(errors(problems))) == (1, 2)


@pytest.fixture(scope="module")
def logins(mariadb: servers.MariaDBServer, postgres15: servers.PostgresServer) -> dict[str, str]:
    """On both servers: `powerless`, who may connect only, and `able`. Their password."""
    for server in (mariadb, postgres15):
        server.login("powerless", "geheim-1", rights=False)
        server.login("able", "geheim-1")
    return {"PASSWORD": "geheim-1"}


def as_user(url: str, user: str, password: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


@pytest.mark.parametrize("side", ["crm", "erp"])
def test_a_wrong_password_is_one_sentence_without_it(pair: Pair, logins: dict[str, str], side: str) -> None:
    assert logins
    setattr(pair, side, as_user(getattr(pair, side), "able", "wr0ng-pw"))
    code, problems = pair.check()
    assert code == 1
    (problem,) = errors(problems)
    assert side in problem
    assert "password" in problem
    assert "wr0ng-pw" not in json.dumps(problems)
    done = pair.call("run", "--until-idle")
    assert done.exit_code == 4
    assert "password" in done.stderr
    assert "wr0ng-pw" not in done.stderr


def test_a_password_comes_from_the_environment(pair: Pair, logins: dict[str, str]) -> None:
    pair.variables = logins
    pair.crm, pair.erp = as_user(pair.crm, "able", "${PASSWORD}"), as_user(pair.erp, "able", "${PASSWORD}")
    assert pair.check()[0] == 0
    pair.variables = {"PASSWORD": ""}
    os.environ.pop("PASSWORD", None)
    assert pair.check()[0] == 1


@pytest.mark.parametrize("side", ["crm", "erp"])
def test_missing_rights_name_the_grant(pair: Pair, logins: dict[str, str], side: str) -> None:
    assert logins
    setattr(pair, side, as_user(getattr(pair, side), "powerless", "geheim-1"))
    code, problems = pair.check()
    assert code == 1
    found = errors(problems)
    assert any("GRANT" in problem or "ALTER ROLE" in problem for problem in found), found
    done = pair.call("run", "--until-idle")
    assert done.exit_code in {2, 4}
    assert done.stderr.strip()


def test_a_binlog_of_statements_is_refused(pair: Pair, postgres15: servers.PostgresServer) -> None:
    with servers.mariadb({"binlog_format": "STATEMENT"}) as crm:
        pair.crm, pair.erp = fill(crm, postgres15)
        code, problems = pair.check()
        assert code == 1
        found = errors(problems)
        assert len([p for p in found if "binlog_format" in p]) == 1, found
        done = pair.call("run", "--until-idle")
        assert done.exit_code in {2, 4}
        assert "binlog_format" in done.stderr


def test_a_log_without_logical_decoding_is_refused(pair: Pair, mariadb: servers.MariaDBServer) -> None:
    with servers.postgres("15", {"wal_level": "replica"}) as erp:
        pair.crm, pair.erp = fill(mariadb, erp)
        code, problems = pair.check()
        assert code == 1
        found = errors(problems)
        assert len([p for p in found if "wal_level" in p]) == 1, found
        done = pair.call("run", "--until-idle")
        assert done.exit_code in {2, 4}
        assert "wal_level" in done.stderr


def test_a_key_that_the_target_does_not_have(pair: Pair) -> None:
    pair.rules = RULES.replace('key = ["account_ref"]', 'key = ["account_id"]')
    code, problems = pair.check()
    assert code == 1
    assert any("account_id" in problem and "rule customers" in problem for problem in errors(problems))
    done = pair.call("run", "--until-idle")
    assert done.exit_code == 2
    assert "account_id" in done.stderr


def test_a_key_without_a_unique_index_is_a_warning_until_duplicates_stand_there(pair: Pair, postgres15: servers.PostgresServer) -> None:
    pair.rules = RULES.split("[[rules]]")[1].replace("erp.customers", "erp.loose").join(["[[rules]]", ""])
    code, problems = pair.check()
    assert code == 0
    assert [p["severity"] for p in problems if "unique" in p["what"]] == ["warning"]
    database = pair.erp.rpartition("/")[2]
    postgres15.execute("INSERT INTO loose (account_ref, name) SELECT g, 'x' FROM generate_series(1, 500) g", database=database)
    assert pair.check()[0] == 0
    # the doubled rows lie on both sides of the end of a chunk
    postgres15.execute("INSERT INTO loose (account_ref, name) VALUES (100, 'y'), (250, 'y'), (250, 'z'), (NULL, 'a'), (NULL, 'b')", database=database)
    pair.rules = "[syncline]\nchunk_rows = 100\n" + pair.rules
    code, problems = pair.check()
    assert code == 1
    (problem,) = errors(problems)
    assert "2 keys of more than one row" in problem


def test_a_missing_table_and_a_missing_column_name_near_ones(pair: Pair) -> None:
    pair.rules = RULES.replace("erp.customers", "erp.customer", 1).replace("c.phone", "c.phonee")
    code, problems = pair.check()
    found = errors(problems)
    assert code == 1
    assert any("rule customers" in p and "customers" in p.split(": ", 1)[1] for p in found), found
    assert any("rule accounts" in p and "phonee" in p for p in found), found


def test_check_changes_nothing(pair: Pair, mariadb: servers.MariaDBServer, postgres15: servers.PostgresServer) -> None:
    crm, erp = pair.crm.rpartition("/")[2], pair.erp.rpartition("/")[2]
    pair.check()
    assert mariadb.execute("SHOW TABLES", database=crm) == [("accounts",)]
    assert postgres15.execute("SELECT count(*) FROM pg_class WHERE relname = 'syncline_checkpoint'", database=erp) == [(0,)]
    assert postgres15.execute(f"SELECT count(*) FROM pg_replication_slots WHERE database = '{erp}'") == [(0,)]
    assert postgres15.execute("SELECT count(*) FROM pg_publication", database=erp) == [(0,)]


def test_usage_and_configuration_errors_exit_2(pair: Pair) -> None:
    assert pair.installed("nonsense").returncode == 2
    assert pair.call("check", "--nonsense").exit_code == 2
    pair.rules = RULES.replace("into", "inot")
    for arguments in (["check"], ["check", "--json"], ["run"], ["status"], ["reconcile"], ["quarantine", "list"], ["conflicts", "list"]):
        done = pair.call(*arguments)
        assert done.exit_code == 2, arguments
        assert "did you mean into?" in done.stderr, arguments


def test_both_ways_from_the_command_line(pair: Pair, mariadb: servers.MariaDBServer, postgres15: servers.PostgresServer) -> None:
    crm, erp = pair.crm.rpartition("/")[2], pair.erp.rpartition("/")[2]
    assert pair.installed("run", "--until-idle").returncode == 0
    assert postgres15.execute("SELECT account_ref, name FROM customers ORDER BY 1", database=erp) == [(1, "Ada"), (2, "Bob")]
    postgres15.execute("INSERT INTO customers VALUES (7, 'Żaneta', '☎')", database=erp)
    mariadb.execute("UPDATE accounts SET phone = '9' WHERE id = 1", database=crm)
    mariadb.execute("DELETE FROM accounts WHERE id = 2", database=crm)
    assert pair.installed("run", "--until-idle").returncode == 0
    assert postgres15.execute("SELECT * FROM customers ORDER BY 1", database=erp) == [(1, "Ada", "9"), (7, "Żaneta", "☎")]
    assert mariadb.execute("SELECT id, name, phone FROM accounts ORDER BY id", database=crm) == [(1, "Ada", "9"), (7, "Żaneta", "☎")]

    status = json.loads(pair.call("status", "--json").stdout)
    assert set(status["systems"]) == {"crm", "erp"}
    assert set(status["rules"]) == {"customers", "accounts"}
    assert {"state", "systems", "rules"} <= set(status)
    assert all({"position", "lag_seconds"} <= set(system) for system in status["systems"].values())
    assert all({"applied", "conflicts", "quarantined", "last_applied_at"} <= set(rule) for rule in status["rules"].values())
    assert json.loads(pair.call("quarantine", "list", "--json").stdout) == []
    done = pair.call("reconcile", "--json")
    assert (done.exit_code, json.loads(done.stdout)["verdict"]) == (0, "equal")
    postgres15.execute("UPDATE customers SET phone = 'drift' WHERE account_ref = 7", database=erp)
    assert pair.call("reconcile", "--json").exit_code == 1
