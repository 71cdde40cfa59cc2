"""Who may import whom. A stage never knows another stage; adapters know the ports and their own driver; only the runtime wires."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = ("engine.errors", "engine.model", "engine.ports")

MAY: dict[str, tuple[str, ...]] = {
    "engine.errors": (),
    "engine.model": (),
    "engine.ports": ("engine.errors", "engine.model"),
    "engine.resources": (),
    "engine.settings": ("engine.errors", "adapters.registry"),
    # the stages
    "engine.capture": BASE,
    "engine.mapping": BASE,
    "engine.ledger": BASE,
    "engine.resolve": BASE,
    "engine.apply": BASE,
    # what is seen of an engine: reads what the others have left behind
    "engine.observe": (*BASE, "engine.settings", "engine.ledger"),
    # callers of the stages
    "engine.reconcile": (*BASE, "engine.mapping", "engine.settings", "engine.observe", "engine.runtime.assembly"),
    "engine.runtime": ("engine", "adapters"),
    "engine.throwaway": ("engine.errors",),
    "engine.demo": ("engine",),
    "engine.cli": (
        *("engine.errors", "engine.ports", "engine.settings", "engine.observe"),
        *("engine.runtime", "engine.reconcile", "engine.demo"),
    ),
    "adapters.registry": ("engine.ports",),
    "adapters.copytext": BASE,
    "adapters.statements": BASE,
    "adapters.spill": BASE,
    "adapters.postgres": (*BASE, "engine.resources", "adapters.copytext", "adapters.statements", "adapters.spill"),
    "adapters.mysql": (*BASE, "engine.resources", "adapters.copytext", "adapters.statements", "adapters.spill"),
}
"""Package or module -> what of ours it may import besides itself."""

DRIVERS = {"psycopg": "adapters.postgres", "pymysql": "adapters.mysql"}
"""Driver -> the adapter that may import it. The throwaway servers and the demo, which play the user, may import all."""

NOT_AT_THE_TOP_OF_A_COMMAND = {"duckdb", "numba", "numpy", "pyarrow", "pydantic", "rich", "sqlglot"}


def modules() -> list[Path]:
    return sorted(path for folder in ("engine", "adapters") for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, at any place in it; `from a import b` counts as a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), alias.name)
                yield f"{node.module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").exists() else node.module


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def home(module: str) -> str | None:
    return next((package for package in sorted(MAY, key=len, reverse=True) if within(module, package)), None)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    module = name_of(path)
    if module in {"engine", "adapters"}:
        allowed: tuple[str, ...] = ()
    else:
        package = home(module)
        assert package is not None, f"{module} belongs to no package of the table; decide what it may import"
        allowed = (package, *MAY[package])
    for other in imported(path):
        if other.split(".")[0] in {"engine", "adapters"}:
            assert any(within(other, may) for may in allowed), f"{module} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_driver_is_imported_by_its_adapter_only(path: Path) -> None:
    module = name_of(path)
    for other in imported(path):
        owner = DRIVERS.get(other.split(".")[0])
        assert owner is None or within(module, owner) or home(module) in {"engine.throwaway", "engine.demo"}, f"{module} imports {other}"


@pytest.mark.parametrize("path", sorted((ROOT / "engine" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_a_command_imports_nothing_heavy_when_it_is_listed(path: Path) -> None:
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name.split(".")[0] for name in names} & NOT_AT_THE_TOP_OF_A_COMMAND
    assert not [name for name in names if name.startswith("engine.") and home(name) not in {"engine.cli", "engine.errors"}]
