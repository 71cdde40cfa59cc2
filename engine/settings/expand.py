"""`${NAME}` in the strings of a configuration: replaced from the environment, and hidden again in messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ENCODED = re.compile(r"(%[0-9A-Fa-f]{2})")

Report = Callable[[str, str, str], None]
"""(key, what, fix)"""


class Expansion:
    """Replaces variables, and remembers them so that `hide` can take their values out of a message. `$${NAME}` stands for `${NAME}`."""

    def __init__(self, env: Mapping[str, str], report: Report) -> None:
        self._env = env
        self._report = report
        self._used: dict[str, str] = {}

    def tree(self, value: Any, key: str = "") -> Any:
        """The same tables, lists and strings with all variables replaced; each problem is reported under its key."""
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, dict):
            return {name: self.tree(item, f"{key}.{name}" if key else name) for name, item in value.items()}
        if isinstance(value, list):
            names = [item.get("name") if isinstance(item, dict) else None for item in value]
            return [self.tree(item, item_key(key, i, names[i])) for i, item in enumerate(value)]
        return value

    def hide(self, message: str) -> str:
        """The message with the values of variables replaced by their names."""
        for name, value in sorted(self._used.items(), key=lambda item: -len(item[1])):
            for form in (value, repr(value)[1:-1]):
                message = message.replace(form, f"${{{name}}}") if len(form) > 2 else message
        return message

    def _text(self, text: str, key: str) -> str:
        password_end = text.rfind("@") if "://" in text else -1

        def value_of(match: re.Match[str]) -> str:
            escaped, name, closed = match.groups()
            if escaped:
                return match.group(0)[1:]
            if not closed or not _NAME.match(name):
                self._report(
                    key, "holds ${ without the name of a variable and }", "write ${NAME}, or $${ for the two characters themselves"
                )
                return ""
            if name not in self._env:
                self._report(key, f"names the environment variable {name}, which is not set", f"set it: export {name}=…")
                return ""
            value = self._used[name] = self._env[name]
            return _encoded(value) if "://" in text[: match.start()] and match.start() < password_end else value

        return _VARIABLE.sub(value_of, text)


def item_key(key: str, index: int, name: object) -> str:
    """How messages call an element of a list: by its name where it has one (`rules.customers`), else by its place from 1 (`rules[2]`)."""
    return f"{key}.{name}" if isinstance(name, str) and name and key == "rules" else f"{key}[{index + 1}]"


def _encoded(value: str) -> str:
    """A user name or password that stands in a URL: characters that would end it are percent-encoded; what is encoded already stays."""
    return "".join(part if _ENCODED.fullmatch(part) else quote(part, safe="") for part in _ENCODED.split(value))
