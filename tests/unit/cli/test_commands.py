"""The command line without databases: options, output, exit codes, and that every error is a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from engine.cli.main import COMMANDS, main
from engine.errors import ConfigError, Poison, SynclineError, Terminal, Transient

CONFIG = """
[systems.crm]
adapter = "mysql"
url = "mysql://sync:geheim@127.0.0.1:1/crm"
[systems.erp]
adapter = "postgres"
url = "postgresql://sync:geheim@127.0.0.1:1/erp"
[[rules]]
name = "customers"
select = "SELECT a.id AS id FROM crm.accounts AS a"
into = "erp.customers"
key = ["id"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(CONFIG)
    return path


def call(*arguments: str | Path, **env: str) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], env=env, catch_exceptions=False)


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    """Puts functions in the place of a module that commands import when they are called."""
    made = ModuleType(module)
    for name, function in functions.items():
        setattr(made, name, function)
    monkeypatch.setitem(sys.modules, module, made)


def failing(error: BaseException) -> Any:
    def function(*_: object) -> None:
        raise error

    return function


def test_version() -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, "syncline 0.1.0\n")


def test_help_lists_every_command_with_a_sentence() -> None:
    result = call("--help")
    assert result.exit_code == 0
    with click.Context(main) as ctx:
        for name in main.list_commands(ctx):
            assert f"\n  {name} " in result.stdout
            command = main.get_command(ctx, name)
            assert command is not None
            assert command.get_short_help_str()


def test_commands_that_this_version_lacks_are_absent() -> None:
    for name in ("plan", "explain", "nonsense"):
        result = call(name)
        assert result.exit_code == 2
        assert f"No such command '{name}'" in result.stderr
    for group, name in (("conflicts", "resolve"), ("quarantine", "retry")):
        assert call(group, name).exit_code == 2


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"quarantine", "conflicts", "bench", "demo"}))
def test_each_command_takes_a_configuration(name: str, tmp_path: Path) -> None:
    arguments = [name, "customers"] if name == "resync" else [name]
    for option in ("-c", "--config"):
        result = call(*arguments, option, tmp_path / "absent.toml")
        assert result.exit_code == 2
        assert str(tmp_path / "absent.toml") in result.stderr
        assert "no such file" in result.stderr
    result = call(*arguments, SYNCLINE_CONFIG=str(tmp_path / "from_env.toml"))
    assert (result.exit_code, "from_env.toml" in result.stderr) == (2, True)


def test_the_default_is_syncline_toml_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNCLINE_CONFIG", raising=False)
    result = call("check")
    assert result.exit_code == 2
    assert str(tmp_path / "syncline.toml") in result.stderr


def test_a_configuration_error_tells_every_problem_and_is_a_document_with_json(config: Path) -> None:
    config.write_text(CONFIG.replace('key = ["id"]', "").replace('"mysql"', '"mysqll"'))
    result = call("check", "-c", config, "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert [p["where"] for p in document["problems"]] == ["my.toml, systems.crm.adapter", "my.toml, rules.customers.key"]
    assert all(p["severity"] == "error" and p["what"] and p["fix"] for p in document["problems"])
    assert result.stderr.count("error: my.toml, ") == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Terminal("no right", where="crm", fix="GRANT"), 4),
        (Transient("away", where="crm", fix="start it"), 4),
        (Poison("row refused", reason="other", where="crm", fix="mend it"), 4),
        (SynclineError("odd", where="crm", fix="look"), 4),
        (ConfigError([SynclineError("wrong", where="crm", fix="right"), SynclineError("bad", where="erp", fix="good")]), 2),
        (ValueError("row (4711, 'secret')"), 4),
        (AssertionError(), 4),
        (KeyboardInterrupt(), 4),
    ],
)
def test_an_error_becomes_a_sentence_and_an_exit_code(
    config: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    stand_in(monkeypatch, "engine.runtime.daemon", run=failing(error))
    result = call("run", "-c", config)
    assert result.exit_code == code
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    assert "4711" not in result.stderr
    assert result.stdout == ""
    if isinstance(error, SynclineError):
        assert all(line.startswith("error: ") for line in result.stderr.splitlines())
        assert error.fix in result.stderr


def test_an_unexpected_error_shows_its_traceback_on_demand(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "engine.runtime.daemon", run=failing(ValueError("inner")))
    quiet, loud = call("run", "-c", config), call("run", "-c", config, SYNCLINE_DEBUG="1")
    assert "SYNCLINE_DEBUG=1" in quiet.stderr and "unexpected ValueError at test_commands.py" in quiet.stderr
    assert "Traceback" in loud.stderr and "inner" in loud.stderr
    assert (quiet.exit_code, loud.exit_code) == (4, 4)


def test_run_passes_settings_and_until_idle(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    stand_in(monkeypatch, "engine.runtime.daemon", run=lambda settings, until_idle: seen.append((settings.path.name, until_idle)))
    assert call("run", "-c", config).exit_code == 0
    assert call("run", "-c", config, "--until-idle").exit_code == 0
    assert seen == [("my.toml", False), ("my.toml", True)]


def test_check_output_and_exit_codes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.ports import Problem

    warning = Problem(severity="warning", where="rule customers", what="no unique index", fix="add one")
    error = Problem(severity="error", where="system crm", what="cannot be reached", fix="start it")
    for found, code, summary in (
        ([], 0, "2 systems, 1 rule: all good"),
        ([warning], 0, "1 warning"),
        ([error, warning], 1, "1 error, 1 warning"),
    ):
        stand_in(monkeypatch, "engine.runtime.check", check=lambda _, found=found: found)
        human, machine = call("check", "-c", config), call("check", "-c", config, "--json")
        assert (human.exit_code, machine.exit_code) == (code, code)
        assert summary in human.stdout
        document = json.loads(machine.stdout)
        assert document == {
            "ok": code == 0,
            "problems": [{"severity": p.severity, "where": p.where, "what": p.what, "fix": p.fix} for p in found],
        }
        for problem in found:
            assert all(part in human.stdout for part in (problem.where, problem.what, problem.fix))


def test_status_prints_the_document_or_a_table(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "state": "running",
        "systems": {"crm": {"position": "0-1-77", "lag_seconds": 0.25}, "erp": {"position": None, "lag_seconds": None}},
        "rules": {"customers": {"applied": 4711, "conflicts": 2, "quarantined": 1, "last_applied_at": "2026-01-02T03:04:05Z"}},
    }
    stand_in(monkeypatch, "engine.observe.status", read_status=lambda _: document)
    assert json.loads(call("status", "-c", config, "--json").stdout) == document
    human = call("status", "-c", config)
    assert human.exit_code == 0
    for word in ("running", "crm", "0-1-77", "customers", "4711", "2026-01-02T03:04:05Z"):
        assert word in human.stdout


def test_lists_exit_1_when_there_is_something(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "q1", "rule": "customers", "key": {"id": "7"}, "reason": "too_long: name", "since": "2026-01-02", "attempts": 2}
    conflict = {"rule": "customers", "key": ["7"], "column": "name", "decision": "source"}
    for rows, conflicts, code in (([], [], 0), ([row], [conflict], 1)):
        stand_in(monkeypatch, "engine.observe.status", list_quarantine=lambda _, r=rows: r, list_conflicts=lambda _, c=conflicts: c)
        for group, expected in (("quarantine", rows), ("conflicts", conflicts)):
            human, machine = call(group, "list", "-c", config), call(group, "list", "-c", config, "--json")
            assert (human.exit_code, machine.exit_code) == (code, code)
            assert json.loads(machine.stdout) == expected
            assert ("customers" in human.stdout) == bool(expected)


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5])
def test_reconcile_takes_rules_and_exits_as_the_report_says(config: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    seen: list[tuple[str, ...]] = []

    def reconcile(_: object, rules: tuple[str, ...]) -> SimpleNamespace:
        seen.append(rules)
        return SimpleNamespace(exit_code=code, to_json=lambda: {"verdict": "x", "rules": {}, "rows": []}, lines=lambda: ["verdict: x"])

    stand_in(monkeypatch, "engine.reconcile.compare", reconcile=reconcile)
    machine = call("reconcile", "-c", config, "--json", "--rule", "customers", "--rule", "b")
    assert (machine.exit_code, json.loads(machine.stdout)) == (code, {"verdict": "x", "rules": {}, "rows": []})
    assert call("reconcile", "-c", config).stdout == "verdict: x\n"
    assert seen == [("customers", "b"), ()]


def test_resync_names_the_known_rules(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    stand_in(monkeypatch, "engine.runtime.daemon", resync=lambda _, rule: seen.append(rule))
    result = call("resync", "customer", "-c", config)
    assert result.exit_code == 2
    assert "there is no rule customer" in result.stderr and "customers" in result.stderr
    assert call("resync", "customers", "-c", config).exit_code == 0
    assert seen == ["customers"]


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom engine.cli.main import main\nmain(['--help'], standalone_mode=False)\n"
        "heavy = {'duckdb', 'numba', 'pyarrow', 'numpy', 'pydantic', 'rich', 'psycopg', 'pymysql', 'sqlglot'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")


def test_bench_passes_its_options_and_says_when_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def measure(**given: object) -> int:
        seen.append(given)
        return 4

    stand_in(monkeypatch, "bench.run", main=measure)
    monkeypatch.setitem(sys.modules, "bench", ModuleType("bench"))
    assert call("bench", "--scale", "0.5", "--only", "native", "--json").exit_code == 4
    assert seen == [{"scale": 0.5, "samples": 1, "only": ("native",), "as_json": True}]
    assert call("bench", "--scale", "0").exit_code == 2
    monkeypatch.setitem(sys.modules, "bench.run", None)
    result = call("bench")
    assert result.exit_code == 2
    assert "checkout" in result.stderr
