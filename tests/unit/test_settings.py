"""The configuration file: what it becomes, and that everything wrong with it is said at once, for a person, without secrets."""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.settings import SetCells, load
from engine.settings.file import FileEngine, FileLookup, FileRule, FileSystem

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cret-Pa55"
ENV = {"CRM_PASSWORD": SECRET}

GOOD = """
[syncline]
state = "./state"

[systems.crm]
adapter = "mysql"
url = "mysql://sync:${CRM_PASSWORD}@127.0.0.1:3306/crm"

[systems.erp]
adapter = "postgres"
url = "postgresql://sync@127.0.0.1:5432/erp"

[lookups.us_states]
file = "us_states.csv"

[[rules]]
name = "customers"
sql = "customers.sql"
into = "erp.public.customers"
key = ["account_ref"]
conflict = "last_writer_wins"
owners = { credit_limit = "erp" }
policies = { phone = "non_empty" }
on_delete = "delete"
on_exit = { set = { active = false } }
baseline = "hold"
clock = "updated_at"
"""
SELECT = 'select = "SELECT a.id AS id FROM crm.accounts AS a"'
SECOND_RULE = f'\n[[rules]]\nname = "items"\n{SELECT}\ninto = "erp.items"\nkey = ["id"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "customers.sql").write_text("SELECT a.id AS account_ref FROM crm.accounts AS a\n")
    (tmp_path / "us_states.csv").write_text("name,code\nAlaska,AK\n")
    (tmp_path / "empty.sql").write_text(" \n")
    (tmp_path / "latin.sql").write_bytes("SELECT 'é'".encode("latin-1"))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "syncline.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, env: dict[str, str] = ENV) -> list[tuple[str, str, str]]:
    """(key, what, fix) of every problem of this file."""
    with pytest.raises(ConfigError) as raised:
        load(write(folder, text), env)
    return [(p.where.removeprefix("syncline.toml").removeprefix(", "), p.what, p.fix) for p in raised.value.problems]


def test_a_good_file_becomes_complete_settings(folder: Path) -> None:
    settings = load(write(folder, GOOD + SECOND_RULE), ENV)
    assert settings.name == "syncline"
    assert settings.state == folder / "state"
    assert list(settings.systems) == ["crm", "erp"]
    assert settings.systems["crm"].url.get_secret_value() == f"mysql://sync:{SECRET}@127.0.0.1:3306/crm"
    assert settings.lookups["us_states"].file == folder / "us_states.csv"
    customers, items = settings.rules
    assert customers.statement.startswith("SELECT a.id AS account_ref")
    assert customers.sql_file == folder / "customers.sql"
    assert customers.into == ("erp", "public", "customers")
    assert customers.key == ("account_ref",)
    assert customers.owners == {"credit_limit": "erp"}
    assert customers.policies == {"phone": "non_empty"}
    assert customers.on_exit == SetCells(set={"active": False})
    assert customers.clock == "updated_at"
    assert items.statement == "SELECT a.id AS id FROM crm.accounts AS a"
    assert items.sql_file is None
    assert items.into == ("erp", "", "items")
    assert (items.conflict, items.on_delete, items.on_exit, items.baseline, items.clock) == (
        "last_writer_wins",
        "delete",
        "ignore",
        "hold",
        None,
    )
    assert (settings.batch_rows, settings.batch_ms, settings.chunk_rows) == (10_000, 50, 10_000)


def test_settings_are_frozen(folder: Path) -> None:
    settings = load(write(folder, GOOD), ENV)
    for model, name in ((settings, "name"), (settings.rules[0], "conflict"), (settings.systems["crm"], "adapter")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(model, name, "other")


def test_a_relative_path_of_the_file_itself_is_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, GOOD)
    monkeypatch.chdir(folder)
    settings = load(Path("syncline.toml"), ENV)
    assert settings.path == folder / "syncline.toml"
    assert settings.state == folder / "state"


def test_options_of_the_adapter_are_kept(folder: Path) -> None:
    text = GOOD.replace('adapter = "mysql"', 'adapter = "mysql"\nserver_id = 77').replace(
        'adapter = "postgres"', 'adapter = "postgres"\nslot = "s"\ncapture = false'
    )
    settings = load(write(folder, text), ENV)
    assert settings.systems["crm"].options == {"server_id": 77}
    assert settings.systems["crm"].capture
    assert settings.systems["erp"].options == {"slot": "s", "capture": False}
    assert not settings.systems["erp"].capture


@pytest.mark.parametrize(
    ("old", "new", "key", "what", "fix"),
    [
        # unknown keys name the nearest known one
        ('state = "./state"', 'stat = "./state"', "syncline.stat", "no known key", "did you mean state?"),
        ("[lookups.us_states]", "[lookup.us_states]", "lookup", "no known key", "did you mean lookups?"),
        ("baseline =", "base_line =", "rules.customers.base_line", "no known key", "did you mean baseline?"),
        ("on_exit =", "when =", "rules.customers.when", "no known key", "known are: name, sql, select, into, key"),
        ('adapter = "postgres"', 'adapter = "postgres"\nslott = "x"', "systems.erp.slott", "no known key", "did you mean slot?"),
        ('adapter = "mysql"', 'adapter = "mysql"\nslot = "x"', "systems.crm.slot", "no known key", "server_id"),
        ('file = "us_states.csv"', 'file = "us_states.csv"\nsep = ";"', "lookups.us_states.sep", "no known key", "file"),
        # missing and malformed
        ('into = "erp.public.customers"', "", "rules.customers.into", "is missing", 'into = "erp.public.customers"'),
        ('name = "customers"', "", "rules[1].name", "is missing", 'name = "customers"'),
        ('url = "postgresql://sync@127.0.0.1:5432/erp"', "", "systems.erp.url", "is missing", "url ="),
        ('key = ["account_ref"]', "key = []", "rules.customers.key", "is empty", "name the target columns"),
        ('key = ["account_ref"]', 'key = "account_ref"', "rules.customers.key", "must be a list", 'key = ["account_ref"]'),
        ('key = ["account_ref"]', 'key = ["a", "a"]', "rules.customers.key", "twice", "once"),
        ('key = ["account_ref"]', 'key = ["a", ""]', "rules.customers.key[2]", "is empty", "fill it in"),
        ('key = ["account_ref"]', 'key = ["a", 1]', "rules.customers.key[2]", "text in quotes", 'key = ["account_ref"]'),
        ('state = "./state"', "state = 1", "syncline.state", "text in quotes", 'state = "./state"'),
        ('state = "./state"', 'batch_rows = "many"', "syncline.batch_rows", "whole number", "batch_rows = 10000"),
        ('state = "./state"', "batch_rows = 0", "syncline.batch_rows", "greater than or equal to 1", "batch_rows = 10000"),
        ('state = "./state"', 'name = "CRM ERP"', "syncline.name", "lower-case", "crm_erp"),
        ('adapter = "mysql"', 'adapter = "mysql"\nserver_id = "x"', "systems.crm.server_id", "a whole number", "it is text now"),
        ('adapter = "mysql"', 'adapter = "mysql"\nserver_id = 0', "systems.crm.server_id", "1 or more", "greater"),
        ('adapter = "mysql"', "adapter = 3", "systems.crm.adapter", "text in quotes", 'adapter = "postgres"'),
        ('adapter = "mysql"', 'adapter = "mysql"\ncapture = "no"', "systems.crm.capture", "true or false", "capture = true"),
        # names that must exist
        ('adapter = "mysql"', 'adapter = "mysqll"', "systems.crm.adapter", "'mysqll' is no adapter", "did you mean mysql?"),
        ('adapter = "mysql"', 'adapter = "oracle"', "systems.crm.adapter", "no adapter of this version", "postgres, mysql"),
        ("erp.public.customers", "er.public.customers", "rules.customers.into", "the system er,", "did you mean erp?"),
        ('credit_limit = "erp"', 'credit_limit = "epr"', "rules.customers.owners.credit_limit", "the system epr,", "did you mean erp?"),
        ("last_writer_wins", "owner:epr", "rules.customers.conflict", "the system epr,", "did you mean erp?"),
        ('sql = "customers.sql"', 'sql = "customer.sql"', "rules.customers.sql", "no file customer.sql", "relative to the configuration"),
        ('sql = "customers.sql"', 'sql = "empty.sql"', "rules.customers.sql", "empty.sql is empty", "SELECT"),
        ('sql = "customers.sql"', 'sql = "latin.sql"', "rules.customers.sql", "UTF-8", "save it as UTF-8"),
        ('sql = "customers.sql"', 'sql = "."', "rules.customers.sql", "cannot be read", "readable"),
        ('file = "us_states.csv"', 'file = "states.csv"', "lookups.us_states.file", "no file states.csv", "relative to the configuration"),
        # into
        ("erp.public.customers", "customers", "rules.customers.into", "does not name a table of a system", "system.table"),
        ("erp.public.customers", "erp.a.b.c", "rules.customers.into", "does not name a table of a system", "system.schema.table"),
        ("erp.public.customers", "erp..customers", "rules.customers.into", "does not name a table of a system", "system.table"),
        ('into = "erp.public.customers"', "into = 3", "rules.customers.into", "must be text", "system.table"),
        # policies and choices
        ("last_writer_wins", "last_writer", "rules.customers.conflict", "'last_writer' is no policy", "did you mean last_writer_wins?"),
        ("last_writer_wins", "owner:", "rules.customers.conflict", "names no system", "crm, erp"),
        ("non_empty", "delta", "rules.customers.policies.phone", "'delta' is no policy", "last_writer_wins"),
        ("non_empty", "nonempty", "rules.customers.policies.phone", "'nonempty' is no policy", "did you mean non_empty?"),
        ("phone =", "credit_limit =", "rules.customers.policies.credit_limit", "owner as well", "not in both"),
        ('on_delete = "delete"', 'on_delete = "remove"', "rules.customers.on_delete", "'remove' is no such choice", '"ignore"'),
        ('on_delete = "delete"', "on_delete = { sets = {} }", "rules.customers.on_delete", "neither a choice nor", "set = {"),
        ("set = { active = false }", "set = { active = [1] }", "rules.customers.on_exit", "no single value", "set = {"),
        ('baseline = "hold"', 'baseline = "newer"', "rules.customers.baseline", "'newer' is no such choice", "did you mean newest?"),
        ('baseline = "hold"\nclock = "updated_at"', 'baseline = "newest"', "rules.customers.baseline", "when a row was changed", "clock ="),
        # statement
        ('sql = "customers.sql"', "", "rules.customers.sql", "is missing", "select ="),
        ('sql = "customers.sql"', f'sql = "customers.sql"\n{SELECT}', "rules.customers.select", "stands beside sql", "keep one"),
        ('key = ["account_ref"]', "", "rules.customers.key", "is missing", 'link = "customer" where the target makes its own key'),
        ('key = ["account_ref"]', 'key = ["account_ref"]\nlink = "customer"', "rules.customers.link", "stands beside key", "keep key"),
        ('key = ["account_ref"]', 'link = "cus tomer"', "rules.customers.link", "must be letters", 'link = "customer"'),
        ('key = ["account_ref"]', 'key = ["account_ref"]\nmatch = ["name"]', "rules.customers.match", "is for rules with a link", "key"),
        ('key = ["account_ref"]', 'link = "c"\nmatch = ["a", ["b"]]', "rules.customers.match", "mixes columns", 'match = ["tax_id"]'),
        ('key = ["account_ref"]', 'link = "c"\nmatch = []', "rules.customers.match", "must be a list", 'match = ["tax_id"]'),
        # urls
        ("postgresql://", "mysql://", "systems.erp.url", "begins with mysql://", "postgresql://"),
        ("postgresql://sync@127.0.0.1:5432/erp", "erp", "systems.erp.url", "no database URL", "postgresql://user"),
        ("postgresql://sync@127.0.0.1:5432/erp", "postgresql://sync@127.0.0.1:5432", "systems.erp.url", "names no database", "/database"),
        ("postgresql://sync@127.0.0.1:5432/erp", "postgresql:///erp", "systems.erp.url", "names no host", "@host"),
        ("127.0.0.1:5432", "127.0.0.1:54x2", "systems.erp.url", "wrong port", "%40"),
        ('key = ["account_ref"]', 'key = ["account_ref"]\nchecks = "a > 0"', "rules.customers.checks", "must be a list of conditions", '["a > 0"]'),
        ('key = ["account_ref"]', 'key = ["account_ref"]\nchecks = [" "]', "rules.customers.checks[1]", "is empty", "leave"),
        ("[syncline]", '[syncline]\nmax_clock_skew = "5 days"', "syncline.max_clock_skew", "is no length of time", '"5s"'),
        # variables
        ("${CRM_PASSWORD}", "${CRM_PASSWD}", "systems.crm.url", "CRM_PASSWD, which is not set", "export CRM_PASSWD"),
        ("${CRM_PASSWORD}", "${CRM PASSWORD}", "systems.crm.url", "without the name of a variable", "${NAME}"),
        ("${CRM_PASSWORD}", "${CRM_PASSWORD", "systems.crm.url", "without the name of a variable", "${NAME}"),
        # names used in SQL
        ("[systems.erp]", '[systems."er p"]', "systems.er p", "cannot be used as a name in rules", "letters"),
        ("[systems.erp]", "[systems.lookups]", "systems.lookups", "cannot be used as a name in rules", "not lookups"),
        ("[lookups.us_states]", '[lookups."us-states"]', "lookups.us-states", "cannot be used as a name in rules", "letters"),
        ('name = "customers"', 'name = "cust omers"', "rules.cust omers.name", "must be letters", "customers"),
    ],
)
def test_each_kind_of_problem_names_key_reason_and_mend(folder: Path, old: str, new: str, key: str, what: str, fix: str) -> None:
    assert old in GOOD
    found = [p for p in problems(folder, GOOD.replace(old, new)) if p[0] == key]
    assert found, f"nothing is said about {key}"
    assert any(what in said and fix in mend for _, said, mend in found), found


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("", "systems", "is missing"),
        ("", "rules", "is missing"),
        ("systems = 3", "systems", "must hold tables, not a whole number"),
        ("[systems.crm]", "systems", "fewer than two"),
        ("rules = []", "rules", "holds no rule"),
        ("rules = { a = 1 }", "rules", "must be a list of tables, not a table"),
        ("rules = [1]", "rules[1]", "must be a table"),
        ("syncline = 1", "syncline", "must be a table"),
        ("[systems]\na = 1\nb = 2", "systems.a", "must be a table"),
    ],
)
def test_problems_of_the_whole_file(folder: Path, text: str, key: str, what: str) -> None:
    assert any(k == key and what in said for k, said, _ in problems(folder, text))


def test_two_rules_of_one_name(folder: Path) -> None:
    found = problems(folder, GOOD + SECOND_RULE.replace('"items"', '"customers"'))
    assert found == [("rules[2].name", "'customers' is the name of another rule already", "give each rule its own name")]


def test_too_many_systems_for_a_stamp(folder: Path) -> None:
    more = "".join(f'\n[systems.s{i}]\nadapter = "postgres"\nurl = "postgresql://a@h/s{i}"\n' for i in range(15))
    assert [key for key, _, _ in problems(folder, more + GOOD)] == ["systems"]


def test_all_problems_come_in_one_go(folder: Path) -> None:
    text = (
        GOOD.replace("last_writer_wins", "x").replace('"customers.sql"', '"y.sql"').replace('"mysql"', '"z"').replace("state =", "stat =")
    )
    assert {key for key, _, _ in problems(folder, text, {})} == {
        "syncline.stat",
        "systems.crm.url",
        "systems.crm.adapter",
        "rules.customers.conflict",
        "rules.customers.sql",
    }


@pytest.mark.parametrize(
    ("password", "encoded"),
    [("p@ss/w#rd?", "p%40ss%2Fw%23rd%3F"), ("p%40ss", "p%40ss"), ("100%", "100%25"), ("ä:b", "%C3%A4%3Ab"), ("", "")],
)
def test_a_password_from_the_environment_may_hold_any_character(folder: Path, password: str, encoded: str) -> None:
    settings = load(write(folder, GOOD), {"CRM_PASSWORD": password})
    assert settings.systems["crm"].url.get_secret_value() == f"mysql://sync:{encoded}@127.0.0.1:3306/crm"


def test_variables_work_in_every_text_and_a_whole_url_is_taken_as_it_is(folder: Path) -> None:
    text = GOOD.replace("mysql://sync:${CRM_PASSWORD}@127.0.0.1:3306/crm", "${URL}").replace('"./state"', '"${DIR}/x"')
    text = text.replace('key = ["account_ref"]', 'key = ["${KEY}", "$${KEY}"]')
    settings = load(write(folder, text), {"URL": "mysql://u:p%40@h/db", "DIR": "/var", "KEY": "id"})
    assert settings.systems["crm"].url.get_secret_value() == "mysql://u:p%40@h/db"
    assert settings.state == Path("/var/x")
    assert settings.rules[0].key == ("id", "${KEY}")


def test_an_into_name_may_be_quoted(folder: Path) -> None:
    settings = load(write(folder, GOOD.replace('"erp.public.customers"', '\'erp."My Schema"."a.b"\'')), ENV)
    assert settings.rules[0].into == ("erp", "My Schema", "a.b")


def test_secrets_are_never_shown(folder: Path) -> None:
    settings = load(write(folder, GOOD), ENV)
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.systems["crm"].address == "sync@127.0.0.1:3306/crm"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("127.0.0.1:3306", "127.0.0.1:bad"),
        ("mysql://", "postgresql://"),
        ("mysql://sync:${CRM_PASSWORD}@127.0.0.1:3306/crm", "${CRM_PASSWORD}"),
        ("mysql://sync:${CRM_PASSWORD}@127.0.0.1:3306/crm", "${CRM_PASSWORD}://x"),
        ('adapter = "mysql"', 'adapter = "${CRM_PASSWORD}"'),
        ("last_writer_wins", "${CRM_PASSWORD}"),
        ('"customers.sql"', '"${CRM_PASSWORD}.sql"'),
        ('name = "customers"', 'name = "${CRM_PASSWORD} x"'),
        ("mysql://sync:${CRM_PASSWORD}@", f"mysqll://sync:{SECRET}@"),
        ("mysql://sync:${CRM_PASSWORD}@127.0.0.1:3306/crm", f"mysql://sync:{SECRET}"),
    ],
)
def test_secrets_are_never_told_in_problems(folder: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write(folder, GOOD.replace(old, new)), ENV)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value.problems)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "no.toml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=word) as raised:
            load(path, {})
        assert str(path) in str(raised.value)


def test_broken_toml_names_the_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match="line 4"):
        load(write(folder, "[syncline]\n\n\nstate = ./state\n"), {})


def test_a_file_that_is_no_text(folder: Path) -> None:
    (folder / "syncline.toml").write_bytes(b"[syncline]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(folder / "syncline.toml", {})


def test_the_reference_loads_and_names_every_key() -> None:
    path = ROOT / "config" / "reference.toml"
    load(path, ENV)
    raw = tomllib.loads(path.read_text())
    from adapters.registry import ENTRIES

    systems = raw["systems"].values()
    assert set(raw["syncline"]) == set(FileEngine.model_fields)
    assert {key for table in systems for key in table} == set(FileSystem.model_fields) | {
        key for e in ENTRIES.values() for key in e.options
    }
    assert {key for table in raw["lookups"].values() for key in table} == set(FileLookup.model_fields)
    assert {key for rule in raw["rules"] for key in rule} == set(FileRule.model_fields)


def test_the_reference_says_something_of_every_key() -> None:
    lines = (ROOT / "config" / "reference.toml").read_text().splitlines()
    seen: set[str] = set()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = re.match(r"(\w+) = ", line)
        if match and match[1] not in seen:
            seen.add(match[1])
            assert "# " in line or following.strip().startswith("# ") or match[1] in {"select"}, f"no comment for {match[1]}"


VALUES = st.sampled_from(
    [
        "",
        "x",
        '""',
        '"x"',
        "[]",
        "{}",
        "1",
        "-1",
        "1.5",
        "true",
        "1979-05-27",
        "[[1]]",
        "{ set = 1 }",
        '"${X}"',
        '"${"',
        '"\\u0000"',
        "'a.b'",
        "nan",
    ]
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_a_good_file_loads_or_is_a_configuration_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutations"
    folder.mkdir(exist_ok=True)
    (folder / "customers.sql").write_text("SELECT 1")
    (folder / "us_states.csv").write_text("a\n")
    lines = (GOOD + SECOND_RULE).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["value", "drop", "double", "shuffle", "cut"]))
        if kind == "value" and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + data.draw(VALUES)
        elif kind == "drop":
            lines[at] = ""
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "shuffle":
            random.Random(at).shuffle(lines)
        elif lines[at]:
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
    path = folder / "syncline.toml"
    path.write_text("\n".join(lines))
    refused: ConfigError | None = None
    try:
        load(path, ENV)
    except ConfigError as error:
        refused = error
    assert refused is None or refused.problems
    assert all(p.where and p.what and p.fix for p in (refused.problems if refused else ()))
    assert SECRET not in str(refused)
