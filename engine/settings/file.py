"""The file as the user writes it: which keys there are, of what type, what each may hold, and an example for the message when it does not.

One pydantic model per table. Checks of one value stand here; what needs several keys, or other tables, stands in `load`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from engine.settings.model import SetCells

POLICIES = ("last_writer_wins", "owner:<system>", "source_wins", "target_wins", "non_empty", "manual")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
_RULE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}\Z")
_LINK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_SET_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_TIME = re.compile(r"(\d{1,9})\s*(ms|s|m|h)\Z")
_INTO_PART = re.compile(r'"((?:[^"]|"")+)"|([^."\s]+)')


def wrong(what: str, fix: str) -> PydanticCustomError:
    """A finding that carries its own mend through pydantic."""
    return PydanticCustomError("syncline", "{what}", {"what": what, "fix": fix})


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one was probably meant to be."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    return next((n for n in names if close and n.lower() == close[0]), None)


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """The mend of an unknown word."""
    names = list(known)
    near = nearest(word, names)
    return f"did you mean {near}?" if near else (f"{otherwise}: {', '.join(names)}" if names else otherwise)


def _filled(text: str) -> str:
    if not text.strip():
        raise wrong("is empty", "fill it in, or leave the key out")
    return text


def policy_fault(policy: str, systems: Iterable[str] | None) -> tuple[str, str] | None:
    """(what, fix) when this is no policy."""
    kind, colon, system = policy.partition(":")
    if kind == "owner" and colon:
        if systems is not None and system not in set(systems):
            return (f"names the system {system}, which the file does not have" if system else "names no system"), suggestion(
                system, systems, "use one of"
            )
        return None
    if policy in POLICIES:
        return None
    return f"{policy!r} is no policy", suggestion(policy, POLICIES, "use one of")


def milliseconds(text: str) -> int | None:
    """A length of time such as 500ms, 5s, 2m; None when it is none."""
    match = _TIME.match(text.strip())
    return int(match[1]) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}[match[2]] if match else None


Name = Annotated[str, AfterValidator(_filled)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileEngine(_Table):
    """[syncline]"""

    name: str = Field(default="syncline", examples=['name = "crm_erp"'])
    state: Name = Field(default="./state", examples=['state = "./state"'])
    batch_rows: int = Field(default=10_000, ge=1, le=1_000_000, examples=["batch_rows = 10000"])
    batch_ms: int = Field(default=50, ge=1, le=60_000, examples=["batch_ms = 50"])
    transaction_rows: int = Field(default=100_000, ge=100, le=1_000_000, examples=["transaction_rows = 100000"])
    chunk_rows: int = Field(default=10_000, ge=1, le=1_000_000, examples=["chunk_rows = 10000"])
    max_clock_skew: str = Field(default="5s", examples=['max_clock_skew = "5s"'])

    @field_validator("max_clock_skew")
    @classmethod
    def _skew(cls, text: str) -> str:
        if milliseconds(text) is None:
            raise wrong("is no length of time", 'write a number with ms, s, m or h, as in max_clock_skew = "5s"')
        return text

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not _SET_NAME.match(name):
            raise wrong(
                "must be lower-case letters, digits and _, at most 40, beginning with a letter", 'write name = "crm_erp" or the like'
            )
        return name


class FileSystem(_Table):
    """[systems.NAME]; the options of its adapter come on top."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    adapter: Name = Field(examples=['adapter = "postgres"'])
    url: Name = Field(examples=['url = "postgresql://user:${PASSWORD}@host:5432/database"'])
    capture: bool = Field(default=True, examples=["capture = true"])


class FileLookup(_Table):
    """[lookups.NAME]"""

    file: Name = Field(examples=['file = "us_states.csv"'])


class FileRule(_Table):
    """[[rules]]. Validation needs `context={"systems": names or None}`."""

    name: str = Field(examples=['name = "customers"'])
    sql: Name | None = Field(default=None, examples=['sql = "customers.sql"'])
    select: Name | None = Field(default=None, examples=['select = """SELECT …"""'])
    into: tuple[str, str, str] = Field(examples=['into = "erp.public.customers"'])
    key: list[Name] = Field(default_factory=list, examples=['key = ["account_ref"]'])
    link: str = Field(default="", examples=['link = "customer"'])
    match: list[list[Name]] = Field(default_factory=list, examples=['match = ["tax_id"]'])
    conflict: str = Field(default="last_writer_wins", examples=['conflict = "last_writer_wins"'])
    owners: dict[str, str] = Field(default_factory=dict, examples=['owners = { credit_limit = "erp" }'])
    policies: dict[str, str] = Field(default_factory=dict, examples=['policies = { phone = "non_empty" }'])
    on_delete: Literal["delete", "ignore"] | SetCells = Field(default="delete", examples=['on_delete = "delete"'])
    on_exit: Literal["delete", "ignore"] | SetCells = Field(default="ignore", examples=['on_exit = "ignore"'])
    checks: list[Name] = Field(default_factory=list, examples=['checks = ["credit_limit >= 0"]'])
    update_delete: Literal["newest", "delete", "update"] = Field(default="newest", examples=['update_delete = "newest"'])
    insert_insert: Literal["newest", "source", "target"] = Field(default="newest", examples=['insert_insert = "newest"'])
    cascades: Literal["follow", "ignore"] = Field(default="follow", examples=['cascades = "follow"'])
    on_truncate: Literal["stop", "delete"] = Field(default="stop", examples=['on_truncate = "delete"'])
    baseline: Literal["source", "target", "newest", "hold"] = Field(default="hold", examples=['baseline = "hold"'])
    clock: Name | None = Field(default=None, examples=['clock = "updated_at"'])

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not _RULE_NAME.match(name):
            raise wrong("must be letters, digits, _, - and ., at most 100", 'write name = "customers" or the like')
        return name

    @field_validator("into", mode="before")
    @classmethod
    def _into(cls, into: object, info: ValidationInfo) -> tuple[str, str, str]:
        form = 'write "system.table" or "system.schema.table"'
        if not isinstance(into, str):
            raise wrong("must be text", form)
        parts = _split(into)
        if parts is None or len(parts) not in (2, 3):
            raise wrong("does not name a table of a system", form)
        systems = (info.context or {}).get("systems")
        if systems is not None and parts[0] not in systems:
            raise wrong(f"names the system {parts[0]}, which the file does not have", suggestion(parts[0], systems, "use one of"))
        return parts[0], parts[1] if len(parts) == 3 else "", parts[-1]

    @field_validator("key", mode="before")
    @classmethod
    def _key_list(cls, key: object) -> object:
        if isinstance(key, str):
            raise wrong("must be a list of column names", f'write key = ["{key}"]')
        return key

    @field_validator("key")
    @classmethod
    def _key(cls, key: list[str]) -> list[str]:
        if not key:
            raise wrong("is empty", 'name the target columns that identify a row, as in key = ["account_ref"]')
        if len(set(key)) < len(key):
            raise wrong("names a column twice", "name each column once")
        return key

    @field_validator("checks", mode="before")
    @classmethod
    def _checks(cls, checks: object) -> object:
        if isinstance(checks, str):
            raise wrong("must be a list of conditions", f'write checks = ["{checks}"]')
        return checks

    @field_validator("link", mode="before")
    @classmethod
    def _link(cls, link: object) -> object:
        if not isinstance(link, str) or not _LINK_NAME.match(link):
            raise wrong("must be letters, digits and _, at most 64, beginning with a letter", 'write link = "customer" or the like')
        return link

    @field_validator("match", mode="before")
    @classmethod
    def _match(cls, match: object) -> object:
        form = 'write match = ["tax_id"], or alternatives in order: match = [["tax_id"], ["name", "zip"]]'
        if not isinstance(match, list) or not match:
            raise wrong("must be a list of target columns", form)
        alternatives = [match] if all(isinstance(part, str) for part in match) else match
        if not all(isinstance(part, list) and part and all(isinstance(name, str) and name for name in part) for part in alternatives):
            raise wrong("mixes columns and lists of columns, or has an empty one", form)
        return alternatives

    @field_validator("conflict")
    @classmethod
    def _conflict(cls, policy: str, info: ValidationInfo) -> str:
        fault = policy_fault(policy, (info.context or {}).get("systems"))
        if fault:
            raise wrong(*fault)
        return policy

    @field_validator("on_delete", "on_exit", mode="before")
    @classmethod
    def _action(cls, action: object) -> object:
        form = 'write "delete", "ignore", or { set = { column = value } }'
        if isinstance(action, str) and action in {"delete", "ignore"}:
            return action
        if isinstance(action, str):
            raise wrong(f"{action!r} is no such choice", form)
        if not isinstance(action, dict) or set(action) != {"set"} or not isinstance(action["set"], dict) or not action["set"]:
            raise wrong("is neither a choice nor { set = … }", form)
        if any(isinstance(value, dict | list) for value in action["set"].values()):
            raise wrong("sets a column to something that is no single value", form)
        return SetCells(set=action["set"])

    @field_validator("baseline", mode="before")
    @classmethod
    def _baseline(cls, baseline: object) -> object:
        choices = ("source", "target", "newest", "hold")
        if not isinstance(baseline, str) or baseline not in choices:
            shown = repr(baseline) if isinstance(baseline, str) else "this"
            raise wrong(f"{shown} is no such choice", suggestion(str(baseline), choices, "use one of"))
        return baseline


def _split(into: str) -> list[str] | None:
    """The dotted parts of a name, quotes taken off; None when it is malformed."""
    parts: list[str] = []
    at = 0
    while True:
        match = _INTO_PART.match(into, at)
        if match is None:
            return None
        parts.append(match.group(1).replace('""', '"') if match.group(1) else match.group(2))
        at = match.end()
        if at == len(into):
            return parts
        if into[at] != ".":
            return None
        at += 1


def is_identifier(name: str) -> bool:
    """Usable as a name in SQL without quotes: systems and lookups are written in rules."""
    return bool(_IDENTIFIER.match(name))


def plain(value: Any) -> str:
    """What kind of thing a value of the file is, for messages."""
    kinds = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return next((name for kind, name in kinds.items() if type(value) is kind), "a date or time")
