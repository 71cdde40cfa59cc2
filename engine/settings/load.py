"""Reads a configuration file and reports everything that is wrong with it in one go."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adapters.registry import ENTRIES, Entry
from engine.errors import ConfigError, SynclineError
from engine.settings.expand import Expansion, item_key
from engine.settings.file import FileEngine, FileLookup, FileRule, FileSystem, is_identifier, milliseconds, nearest, plain, policy_fault, suggestion
from engine.settings.model import LookupSettings, RuleSettings, Settings, SystemSettings
from engine.settings.url import faults

MAX_SYSTEMS = 16
"""A stamp has four bits for the rank of its system."""
_TOP = ("syncline", "systems", "lookups", "rules")
_EXPECTED = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list in square brackets",
    "dict_type": "must be a table in braces",
    "model_type": "must be a table",
    "missing": "is missing",
}
M = TypeVar("M", bound=BaseModel)


def load(path: Path, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a file. Raises `ConfigError` with every problem found; none tells the value of a variable or a password."""
    return _Loading(Path(path).absolute(), env).settings()


class _Loading:
    """One reading of one file; collects problems as it goes."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        self.path = path
        self.problems: list[SynclineError] = []
        self.expansion = Expansion(env, self.problem)

    def problem(self, key: str, what: str, fix: str) -> None:
        where = f"{self.path.name}, {self.expansion.hide(key)}" if key else self.path.name
        self.problems.append(SynclineError(self.expansion.hide(what), where=where, fix=self.expansion.hide(fix)))

    def settings(self) -> Settings:
        raw = self.expansion.tree(self._toml())
        for key in raw:
            if key not in _TOP:
                self.problem(key, "is no known key", suggestion(key, _TOP, "the file has these tables"))
        engine = self._validated(FileEngine, raw.get("syncline", {}), "syncline")
        raw_systems = self._tables(raw, "systems")
        systems = self._systems(raw_systems)
        lookups = self._lookups(self._tables(raw, "lookups", required=False) or {})
        rules = self._rules(raw.get("rules"), None if raw_systems is None else tuple(raw_systems))
        if self.problems or engine is None:
            raise ConfigError(self.problems)
        return Settings(
            path=self.path,
            name=engine.name,
            state=self.beside(engine.state),
            systems=systems,
            lookups=lookups,
            rules=rules,
            batch_rows=engine.batch_rows,
            batch_ms=engine.batch_ms,
            transaction_rows=engine.transaction_rows,
            chunk_rows=engine.chunk_rows,
            max_clock_skew_ms=milliseconds(engine.max_clock_skew) or 0,
        )

    def beside(self, name: str) -> Path:
        return Path(os.path.normpath(self.path.parent / Path(name).expanduser()))

    def _toml(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.path.read_bytes().decode("utf-8-sig"))
        except FileNotFoundError:
            what, fix = "there is no such file", "name the configuration with -c FILE or in SYNCLINE_CONFIG"
        except IsADirectoryError:
            what, fix = "is a directory", "name the configuration file in it with -c FILE"
        except OSError as error:
            what, fix = f"cannot be read: {error.strerror or 'input/output error'}", "make it readable for the user that runs syncline"
        except UnicodeDecodeError as error:
            what, fix = f"is no UTF-8 text (byte {error.start + 1})", "save it as UTF-8"
        except tomllib.TOMLDecodeError as error:
            what, fix = f"is no valid TOML: {error}", "mend that line; see https://toml.io/en/v1.0.0"
        except RecursionError:
            what, fix = "is no valid TOML: nested too deeply", "see config/reference.toml for what belongs there"
        raise ConfigError([SynclineError(what, where=str(self.path), fix=fix)]) from None

    def _tables(self, raw: dict[str, Any], key: str, required: bool = True) -> dict[str, Any] | None:
        value = raw.get(key)
        example = f"[{key}.crm]" if key == "systems" else f"[{key}.us_states]"
        if value is None and not required:
            return None
        if value is None:
            self.problem(key, "is missing", f"add one table for each system, as {example}")
        elif not isinstance(value, dict):
            self.problem(key, f"must hold tables, not {plain(value)}", f"write {example}")
        else:
            return value
        return None

    def _systems(self, raw: dict[str, Any] | None) -> dict[str, SystemSettings]:
        found: dict[str, SystemSettings] = {}
        if raw is not None and len(raw) < 2:
            self.problem("systems", "names fewer than two systems", "add the other side as [systems.NAME]")
        if raw is not None and len(raw) > MAX_SYSTEMS:
            self.problem("systems", f"names more than {MAX_SYSTEMS} systems", "split the rules over several files")
        for name, table in (raw or {}).items():
            key = f"systems.{name}"
            if not is_identifier(name) or name.lower() == "lookups":
                self.problem(
                    key, "cannot be used as a name in rules", "use letters, digits and _, beginning with a letter, and not lookups"
                )
            system = self._validated(FileSystem, table, key)
            entry = self._entry(table, key) if isinstance(table, dict) else None
            options = self._options(table, key, entry.options if entry else None) if isinstance(table, dict) else {}
            if system is not None:
                found[name] = SystemSettings(name=name, adapter=system.adapter, url=system.url, options=options)  # type: ignore[arg-type]
        return found

    def _entry(self, table: dict[str, Any], key: str) -> Entry | None:
        """The registry's entry of the system's adapter; looks at the URL with it."""
        adapter, url = table.get("adapter"), table.get("url")
        if not isinstance(adapter, str) or not adapter.strip():
            return None
        entry = ENTRIES.get(adapter)
        if entry is None:
            fix = suggestion(adapter, ENTRIES, "use one of")
            self.problem(f"{key}.adapter", f"{adapter!r} is no adapter of this version", fix)
        elif isinstance(url, str) and url.strip():
            for what, mend in faults(url, entry.schemes, entry.port):
                self.problem(f"{key}.url", what, mend)
        return entry

    def _options(self, table: dict[str, Any], key: str, known: Mapping[str, type] | None) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for name, value in table.items():
            if name in FileSystem.model_fields:
                if name == "capture":
                    options[name] = value
            elif known is None:
                continue
            elif name not in known:
                self.problem(f"{key}.{name}", "is no known key", suggestion(name, [*FileSystem.model_fields, *known], "known are"))
            elif type(value) is not known[name]:
                kinds = {str: "text in quotes", int: "a whole number", bool: "true or false"}
                self.problem(f"{key}.{name}", f"must be {kinds[known[name]]}", f"it is {plain(value)} now")
            elif isinstance(value, int) and known[name] is int and value < 1:
                self.problem(f"{key}.{name}", "must be 1 or more", "write a greater number, or leave the key out")
            else:
                options[name] = value
        return options

    def _lookups(self, raw: dict[str, Any]) -> dict[str, LookupSettings]:
        found: dict[str, LookupSettings] = {}
        for name, table in raw.items():
            key = f"lookups.{name}"
            if not is_identifier(name):
                self.problem(key, "cannot be used as a name in rules", "use letters, digits and _, beginning with a letter")
            lookup = self._validated(FileLookup, table, key)
            if lookup is None:
                continue
            file = self.beside(lookup.file)
            if not _is_file(file):
                self.problem(
                    f"{key}.file",
                    f"there is no file {lookup.file} beside {self.path.name}",
                    "correct the path; it is relative to the configuration",
                )
            found[name] = LookupSettings(name=name, file=file)
        return found

    def _rules(self, raw: Any, systems: tuple[str, ...] | None) -> tuple[RuleSettings, ...]:
        if not isinstance(raw, list) or not raw:
            what = (
                "is missing" if raw is None else "holds no rule" if isinstance(raw, list) else f"must be a list of tables, not {plain(raw)}"
            )
            self.problem("rules", what, "add a rule, beginning with [[rules]]")
            return ()
        found: list[RuleSettings] = []
        names: set[str] = set()
        for index, table in enumerate(raw):
            name = table.get("name") if isinstance(table, dict) else None
            key = item_key("rules", index, name)
            if isinstance(name, str) and name in names:
                self.problem(f"rules[{index + 1}].name", f"{name!r} is the name of another rule already", "give each rule its own name")
            if isinstance(name, str):
                names.add(name)
            rule = self._validated(FileRule, table, key, systems)
            if isinstance(table, dict):
                self._across(table, key, systems)
            statement, file = self._statement(table, key) if isinstance(table, dict) else ("", None)
            if rule is not None:
                kept = rule.model_dump(exclude={"sql", "select", "on_delete", "on_exit", "key", "match", "checks"})
                found.append(
                    RuleSettings(
                        **kept, key=tuple(rule.key), match=tuple(map(tuple, rule.match)), on_delete=rule.on_delete, on_exit=rule.on_exit,
                        checks=tuple(rule.checks), statement=statement, sql_file=file,
                    )
                )
        return tuple(found)

    def _across(self, table: dict[str, Any], key: str, systems: tuple[str, ...] | None) -> None:
        """What concerns several keys of one rule, or the values inside one."""
        if "key" not in table and "link" not in table:
            fix = 'name the target columns that identify a row, as in key = ["account_ref"], or link = "customer" where the target makes its own key'
            self.problem(f"{key}.key", "is missing", fix)
        elif "key" in table and "link" in table:
            self.problem(f"{key}.link", "stands beside key", "keep key where the target has a column for it, link where it makes its own key")
        if "match" in table and "link" not in table:
            self.problem(f"{key}.match", "is for rules with a link", "a rule with a key finds its rows by that")
        owners, policies = table.get("owners"), table.get("policies")
        owners, policies = owners if isinstance(owners, dict) else {}, policies if isinstance(policies, dict) else {}
        for column, system in owners.items():
            if isinstance(system, str) and systems is not None and system not in systems:
                self.problem(
                    f"{key}.owners.{column}",
                    f"names the system {system}, which the file does not have",
                    suggestion(system, systems, "use one of"),
                )
        for column, policy in policies.items():
            fault = policy_fault(policy, systems) if isinstance(policy, str) else None
            if fault:
                self.problem(f"{key}.policies.{column}", *fault)
            if column in owners:
                self.problem(f"{key}.policies.{column}", "has an owner as well", "name the column in owners or in policies, not in both")
        if table.get("baseline") == "newest" and table.get("clock") is None:
            self.problem(
                f"{key}.baseline",
                "newest needs to know when a row was changed",
                'add clock = "updated_at", or choose source, target or hold',
            )

    def _statement(self, table: dict[str, Any], key: str) -> tuple[str, Path | None]:
        sql, select = table.get("sql"), table.get("select")
        if sql is not None and select is not None:
            self.problem(f"{key}.select", "stands beside sql", "keep one of the two: the file in sql, or the statement in select")
        elif sql is None and select is None:
            self.problem(f"{key}.sql", "is missing", 'write sql = "customers.sql", or the statement itself in select = """…"""')
        if isinstance(select, str):
            return select, None
        if not isinstance(sql, str) or not sql.strip():
            return "", None
        file = self.beside(sql)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, NotADirectoryError):
            self.problem(
                f"{key}.sql", f"there is no file {sql} beside {self.path.name}", "correct the path; it is relative to the configuration"
            )
        except (OSError, ValueError):
            self.problem(f"{key}.sql", f"the file {sql} cannot be read as UTF-8 text", "make it readable, and save it as UTF-8")
        else:
            if not text.strip():
                self.problem(f"{key}.sql", f"the file {sql} is empty", "write the rule's SELECT into it")
            return text, file
        return "", file

    def _validated(self, model: type[M], raw: Any, key: str, systems: tuple[str, ...] | None = None) -> M | None:
        try:
            return model.model_validate(raw, context={"systems": systems})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self._pydantic(model, detail, key)
            return None

    def _pydantic(self, model: type[BaseModel], detail: ErrorDetails, key: str) -> None:
        place = [part for part in detail["loc"] if part != "[key]"]
        at = key
        for part in place:
            at += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
        if detail["type"] == "syncline":
            self.problem(at, detail["ctx"]["what"], detail["ctx"]["fix"])
        elif detail["type"] == "extra_forbidden":
            name, known = str(place[-1]), list(model.model_fields)
            near = nearest(name, known)
            self.problem(at, "is no known key", f"did you mean {near}?" if near else f"known are: {', '.join(known)}")
        else:
            field = model.model_fields.get(str(place[0])) if place else None
            example = field.examples[0] if field is not None and field.examples else "see config/reference.toml"
            what = _EXPECTED.get(detail["type"], detail["msg"][0].lower() + detail["msg"][1:])
            self.problem(at, what, f"write it as {example}" if field is not None else example)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
