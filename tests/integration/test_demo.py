"""The demo from the outside: the worked example is valid, ships in a wheel, and a run of it ends with both sides equal and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from engine import resources
from engine.demo.company import Company
from engine.demo.stage import build
from engine.runtime.assembly import assemble
from engine.settings import load
from engine.throwaway import process
from tests.conftest import IN_CI, need

ROOT = Path(__file__).resolve().parents[2]
DEMO = [str(Path(sys.executable).with_name("syncline")), "demo"]


def test_the_worked_example_is_a_valid_configuration() -> None:
    settings = load(resources.path("config/crm_erp.toml"), {"CRM_PASSWORD": "a", "ERP_PASSWORD": "b"})
    assert len(settings.rules) == 6 and set(settings.systems) == {"crm", "erp"}


def test_the_same_seed_gives_the_same_rows() -> None:
    assert [Company(3).account() for _ in range(5)] == [Company(3).account() for _ in range(5)]


def test_each_clerk_is_told_what_stands_on_that_side_and_only_there() -> None:
    need("mariadb")
    need("postgres15")
    with build(keep=False, seed=7) as stage:
        crm, erp = stage.crm.connect(), stage.erp.connect()
        left = {row[0] for row in crm.rows("SELECT id FROM accounts UNION ALL SELECT id FROM contacts UNION ALL SELECT id FROM products")}
        right = {str(row[0]) for row in erp.rows("SELECT account_ref FROM customers UNION ALL SELECT item_ref FROM items")}
        assert left == {*stage.at_crm.accounts, *stage.at_crm.contacts, *stage.at_crm.products}
        assert right == {*stage.at_erp.accounts, *stage.at_erp.products}
        assert left and right and not left & right
        folder = stage.folder
    assert not folder.exists()


def test_a_wheel_carries_the_example(tmp_path: Path) -> None:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    uv = shutil.which("uv") or shutil.which("uv", path=f"{cache}/syncline/uv/bin")
    if uv is None:
        (pytest.fail if IN_CI else pytest.skip)("uv is not here")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True, env={**os.environ, "UV_SYSTEM_CERTS": "1"})
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = "from engine import resources; print(resources.path('config/crm_erp.toml')); print(resources.path('sql/rules/crm_erp'))"
    run = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path / "installed", capture_output=True, text=True, check=True)
    assert all(Path(line).is_relative_to(tmp_path) for line in run.stdout.splitlines())


def test_the_configuration_in_the_readme_works() -> None:
    """Checked against the demo's databases, which have the tables it names."""
    need("mariadb")
    need("postgres15")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    with build(keep=False, seed=7) as stage:
        for side, adapter in ((stage.crm, "mysql"), (stage.erp, "postgres")):
            text = re.sub(rf'(adapter = "{adapter}"\nurl = )"[^"]*"', rf'\1"{side.url}"', text)
        stage.config.write_text(text, encoding="utf-8")
        with assemble(load(stage.config)) as assembly:
            assert len(assembly.rules) == 2 and not assembly.errors


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.timeout(600)  # the first demo on a machine compiles
def test_a_demo_ends_with_both_sides_equal() -> None:
    need("mariadb")
    need("postgres15")
    done = run_demo("--seconds", "5", "--rate", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Both sides agree." in done.stdout
    assert "accounts_to_customers" in done.stdout.split("Set aside")[1].split("reconcile")[0]


@pytest.mark.timeout(600)  # the first demo on a machine compiles
def test_a_demo_that_is_told_to_stop_leaves_nothing_behind() -> None:
    need("mariadb")
    need("postgres15")
    demo = subprocess.Popen([*DEMO, "--seconds", "60"], stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "people work" in line:
                break
        below = process.descendants(demo.pid)
        assert len(below) > 2
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(30) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.communicate()
    assert not [pid for pid in below if process.alive(pid)]


@pytest.mark.timeout(600)  # the first demo on a machine compiles
def test_kept_servers_can_be_used_and_stopped_as_the_demo_says() -> None:
    need("mariadb")
    need("postgres15")
    said = run_demo("--seconds", "1", "--rate", "20", "--keep").stdout
    stop = re.search(r"To stop and remove all:  (.*)", said)
    assert stop, said
    pids = [int(pid) for pid in re.findall(r"kill -\w+ (\d+)", stop[1])]
    try:
        assert len(pids) == 2 and all(process.alive(pid) for pid in pids)
    finally:
        subprocess.run(["sh", "-c", stop[1]], check=True)
    assert not any(process.alive(pid) for pid in pids)
    assert not [folder for folder in re.findall(r"/tmp/syncline-\S+", stop[1]) if Path(folder).exists()]
