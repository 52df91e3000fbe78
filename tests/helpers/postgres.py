"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.needs import missing

PATIENCE = 60.0  # seconds to start or to stop in: machines are shared


@contextmanager
def postgres_database() -> Iterator[str]:
    """Gives the address of a database whose user may do everything.

    It is the one that METACROSS_TEST_POSTGRES names. Without one, a server is started, which only a Unix socket leads
    to, and which is gone afterwards. Without a server's programs, the test is skipped; in CI it fails.
    """
    given = os.environ.get("METACROSS_TEST_POSTGRES")
    if given:
        yield given
        return
    programs = _programs()
    if programs is None:
        missing("needs a PostgreSQL server (Debian and Ubuntu: apt-get install postgresql)")
    # Not in TMPDIR: another user has to get there, and the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="metacross-postgres-", dir="/tmp"))
    try:
        with _server(programs, folder):
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}&port=5432"
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The directory of initdb and postgres; Debian keeps them out of PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)


@contextmanager
def _server(programs: Path, folder: Path) -> Iterator[None]:
    data, log = folder / "data", folder / "log"
    # Names and ports of some other server may be in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    common: dict[str, Any] = {"cwd": folder, "env": environment, **_not_root(folder)}
    # Its files need not outlast a power cut; what the server says of its own durability is the default, and true.
    initdb = [programs / "initdb", "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run([*initdb, data], capture_output=True, text=True, check=False, **common)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [programs / "postgres", "-D", data, "-k", folder, "-p", "5432", "-c", "listen_addresses="]
    setpriv = shutil.which("setpriv")
    if setpriv:  # A server whose test run was killed ends too.
        command = [Path(setpriv), "--pdeathsig", "INT", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **common)
    try:
        _wait(process, programs, folder, log)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # ends without waiting for clients
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _not_root(folder: Path) -> dict[str, Any]:
    """Makes a process another user's and gives it the directory: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait(process: subprocess.Popen[bytes], programs: Path, folder: Path, log: Path) -> None:
    """Waits until the server answers."""
    until = time.monotonic() + PATIENCE
    while subprocess.run([programs / "pg_isready", "-q", "-h", folder, "-p", "5432"], check=False).returncode != 0:
        assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)
