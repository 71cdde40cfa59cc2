"""Where the SQL and configuration files are: beside the packages in a checkout, inside the package in a built wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """The file or folder `sql/...` or `config/...`. FileNotFoundError when it is in neither place (a broken installation)."""
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        found = base / name
        if found.exists():
            return found
    raise FileNotFoundError(f"{name} is missing from this installation of Syncline")
