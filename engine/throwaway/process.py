"""A server process in a temporary folder: finds a port, starts it as an unprivileged user, sees that it goes with whoever started it.

Every server runs in a session of its own (Ctrl-C reaches only us, so that the end stays orderly), and gets a signal from the kernel when
this process dies by any cause. What a kill -9 of ours leaves in the temporary folder is removed by the next start.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import queue
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from engine.errors import Terminal

Setting = str | int | bool | None
PREFIX = "syncline-"
START_TIMEOUT = 60.0


class CannotStart(Terminal):
    """A throwaway server is not possible here; the sentence says why and what would mend it."""


def unprivileged(*accounts: str) -> pwd.struct_passwd | None:
    """The account a server runs under: None (ourselves) unless we are root, else the first of `accounts` that exists, `nobody` at last."""
    if os.geteuid() != 0:
        return None
    for account in (*accounts, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(account)
    raise CannotStart("database servers refuse to run as root and there is no unprivileged account (postgres, mysql or nobody)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cache_folder() -> Path:
    """Where initialised data folders are kept between runs; safe to delete at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "syncline" / "servers"


def shared_cache_folder() -> Path:
    """Where root keeps program files that an unprivileged account has to execute."""
    return Path("/var/cache/syncline")


def reachable(path: Path) -> bool:
    """Whether any account may read `path`: it and all folders above it are open to others."""
    path = path.resolve()
    need = stat.S_IROTH | stat.S_IXOTH
    return bool(path.stat().st_mode & need == need) and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder with its modes; `cp` shares the blocks where the file system can."""
    if shutil.which("cp") and os.uname().sysname == "Linux":
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)
    else:
        shutil.copytree(source, target, symlinks=True)


def own_tree(path: Path, account: pwd.struct_passwd | None) -> None:
    if account is None:
        return
    os.chown(path, account.pw_uid, account.pw_gid)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), account.pw_uid, account.pw_gid, follow_symlinks=False)


def environment() -> dict[str, str]:
    """What a server sees of ours: no PG*, MYSQL* or locale variables that would change its behaviour."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments of subprocess that give the child a clean environment and the account."""
    user = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return {"env": environment(), **user}


def run_as(argv: Sequence[str | Path], account: pwd.struct_passwd | None, cwd: Path) -> None:
    """Runs a set-up program to its end. CannotStart with the end of its output when it fails."""
    out = subprocess.PIPE
    done = subprocess.run(
        [str(a) for a in argv],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_as(account),
    )
    if done.returncode:
        raise CannotStart(f"{Path(argv[0]).name} failed with exit code {done.returncode}: {done.stdout[-2000:].strip()}")


def output(argv: Sequence[str | Path]) -> str:
    """What a program says on stdout."""
    return subprocess.run([str(a) for a in argv], env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class _Spawner:
    """Starts processes from one thread that lives as long as the interpreter: the kernel's parent-death signal is sent at the end of the
    *thread* that forked, so a server started by a short-lived thread would be shot when that thread returns."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __call__(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._loop, name="server-spawner", daemon=True)
                self._thread.start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, future))
        return future.result()

    def _loop(self) -> None:
        while True:
            job, future = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)


_spawn = _Spawner()
_running: dict[int, Server] = {}


@atexit.register
def close_all() -> None:
    """Stops every server that this process started and did not hand over."""
    for server in list(_running.values()):
        with contextlib.suppress(Exception):
            server.close()


def alive(pid: int) -> bool:
    """Whether the process exists and runs; one that has ended and waits to be collected counts as gone."""
    with contextlib.suppress(OSError, IndexError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def descendants(pid: int) -> list[int]:
    """Process ids below `pid` (Linux; elsewhere empty)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in parents.get(parent, [])]
        found += level
    return found


def scratch_folder(purpose: str) -> Path:
    """A fresh temporary folder. A later run removes it if this process could not."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > 50:  # a unix socket's path has at most 107 bytes
        base = Path("/tmp")
    sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=base))
    (folder / "owner").write_text(str(os.getpid()))
    return folder


def sweep(base: Path) -> None:
    """Removes our temporary folders whose owner is gone."""
    ours = {os.geteuid()} | ({account.pw_uid for account in pwd.getpwall()} if os.geteuid() == 0 else set())
    for folder in base.glob(PREFIX + "*"):
        with contextlib.suppress(OSError, ValueError):
            if folder.is_symlink() or folder.stat().st_uid not in ours:
                continue
            if not alive(int((folder / "owner").read_text())):
                shutil.rmtree(folder, ignore_errors=True)


class Server(ABC):
    """One throwaway server on 127.0.0.1. `with server:` starts it and removes all of it at the end.

    `port` stays the same over stop, kill and start. `settings` may be changed between stop and start.
    """

    kind = ""
    accounts: tuple[str, ...] = ()
    stop_signal = signal.SIGTERM
    hard_signal = signal.SIGKILL

    def __init__(self, *, settings: Mapping[str, Setting] | None = None, durable: bool = False, keep: bool = False) -> None:
        self.settings: dict[str, Setting] = dict(settings or {})
        self.durable = durable
        self.port = 0
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._account = unprivileged(*self.accounts)
        self._databases = 0

    # what a kind of server provides

    @abstractmethod
    def initialise(self, data: Path) -> None:
        """Makes a fresh data folder at `data`, which does not exist yet; its parent belongs to the account."""

    @abstractmethod
    def template_name(self) -> str:
        """Names all that `initialise` depends on: the data folder is cached under it."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def ready(self) -> bool:
        """Whether connections are accepted now."""

    @abstractmethod
    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str: ...

    @abstractmethod
    def execute(self, statement: str, *, database: str | None = None) -> list[tuple[object, ...]]:
        """Runs one statement as the superuser in a transaction of its own; rows, if any."""

    @abstractmethod
    def login(self, user: str = "sync", password: str = "secret", *, rights: bool = True) -> None:
        """Creates an account that needs a password; with `rights` it may do everything, without only connect."""

    # what all have in common

    @property
    def folder(self) -> Path:
        if self._folder is None:
            raise CannotStart(f"the {self.kind} server has not been started")
        return self._folder

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """Process id, 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def database(self, name: str | None = None) -> str:
        """Creates an empty database and returns its URL."""
        if name is None:
            self._databases += 1
            name = f"db_{os.getpid()}_{self._databases}"
        self.create_database(name)
        return self.url(name)

    @abstractmethod
    def create_database(self, name: str) -> None: ...

    def start(self) -> Self:
        """Starts the server and waits until it accepts connections. CannotStart with the end of its log otherwise."""
        if self.pid:
            return self
        if self._folder is None:
            self._prepare()
        for attempt in range(3):
            self.port = self.port or free_port()
            self._launch()
            if self._await_ready():
                return self
            tail = self.log_tail()
            # another process may have taken the port between our look and the server's
            if "ddress already in use" not in tail or attempt == 2:
                raise CannotStart(f"the {self.kind} server did not start: {tail[-1500:]}")
            self.port = 0
        raise CannotStart(f"no free port for the {self.kind} server")

    def stop(self) -> None:
        """An orderly shutdown; the data stays for `start`."""
        self._end(self.stop_signal, 20.0)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes at once, as a power failure would look to its clients; the data stays for `start`."""
        self._end(signal.SIGKILL, 0.0)

    def close(self) -> None:
        """Stops the server without ceremony and removes its folder. Idempotent."""
        self._end(self.hard_signal, 5.0)
        _running.pop(id(self), None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def hand_over(self) -> int:
        """Leaves the running server behind when this process ends (only with `keep`); returns its process id. Once it was stopped, the next
        start of a throwaway server removes its folder."""
        if not self._keep or not self.pid:
            raise CannotStart("only a running server that was started to be kept can be handed over")
        _running.pop(id(self), None)
        return self.pid

    def log_tail(self, lines: int = 40) -> str:
        if self._folder is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        self._folder = scratch_folder("server")
        _running[id(self)] = self
        own_tree(self._folder, self._account)
        template = cache_folder() / self.template_name()
        if not template.exists():
            made = self._folder / "data"
            self.initialise(made)
            with contextlib.suppress(OSError, subprocess.CalledProcessError):  # the cache only saves time
                template.parent.mkdir(parents=True, exist_ok=True)
                part = Path(tempfile.mkdtemp(prefix=".part-", dir=template.parent))
                copy_tree(made, part / "data")
                with contextlib.suppress(OSError):  # somebody else was faster
                    (part / "data").rename(template)
                shutil.rmtree(part, ignore_errors=True)
            return
        copy_tree(template, self._folder / "data")
        own_tree(self._folder / "data", self._account)

    def _launch(self) -> None:
        argv = self.command()
        watch = shutil.which("setpriv")
        if watch and not self._keep:
            argv = [watch, "--pdeathsig", self.hard_signal.name.removeprefix("SIG"), *argv]
        rights, null = _as(self._account), subprocess.DEVNULL
        with open(self.log, "ab") as log:
            self._process = _spawn(lambda: subprocess.Popen(argv, cwd=self.folder, stdin=null, stdout=log, stderr=log, start_new_session=True, **rights))
        if self._keep:  # its folder goes with the server, not with us
            (self.folder / "owner").write_text(str(self._process.pid))

    def _await_ready(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not self.pid:
                return False
            if self.ready():
                return True
            time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals, patience: float) -> None:
        process = self._process
        if process is None:
            return
        below = descendants(process.pid) if process.poll() is None else []
        if process.poll() is None:
            process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience or 5.0)
        for pid in ([process.pid] if process.poll() is None else []) + [pid for pid in below if alive(pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline and any(alive(pid) for pid in below):
            time.sleep(0.01)
        self._process = None
